"""Choices of a re-learning: how strong, toward what, and what happens to everything around the weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from torch import Tensor, nn

from equipoise.diagnosis import DiagnosisOptions, relearning_strength
from equipoise.diagnosis.options import PRESETS
from equipoise.relearning.blocks import depths_from_top
from equipoise.relearning.optimizer_state import Optimizers, as_optimizers
from equipoise.relearning.redraw import Factory
from equipoise.typed_options import check_types
from equipoise.types import UnknownNameError, UsageError

CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "norm_stats": ("keep", "blend", "reset", "recalibrate"),
    "optimizer_state": ("keep", "zero", "scale"),
    "head_policy": ("keep", "blend", "refit"),
    "ema_policy": ("keep", "blend", "copy"),
}
TARGETS: Final = ("init", "pretrained", "redraw", "ema")
States = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class RelearnOptions:
    """Choices of a re-learning; the defaults are those of the official D&R code.

    Attributes:
        strength: from gap to strength: `tanh`, `linear` or `fixed` (see `relearning_strength`).
        max_alpha: upper bound of the strength.
        target: `init` pulls toward the weights at construction, `pretrained` does the same and refuses an
            encoder that did not start from given weights (see `weights_origin`), `redraw` pulls toward a
            fresh draw each time, `ema` toward a moving average; a mapping from modality to state dict toward
            those weights.
        ema_decay: decay of the moving average per epoch.
        redraw_seed: seed of the fresh draws.
        redraw_with: a factory that builds a fresh encoder, by modality, for what `redraw` cannot draw itself.
        parameters: `all`, `no-norm`, `adapters` or `last:N` (see `select_parameters`), for all modalities or
            by name; frozen parameters are never re-learnt.
        layer_strength: factor of the strength for parameters whose name begins with a key; the longest key
            counts, parameters without one have the factor 1, and the product is at most 1.
        layer_decay: factor of the strength from each block to the one below it, so that with a value below 1
            blocks near the output are re-learnt more than those near the input. Not of the paper.
        leave_alone: leave an encoder as it is where the 95 % interval of its gap includes zero, as
            `min_gap="bootstrap"` does. By default only presets other than `paper` do so.
        norm_stats: running statistics of the encoders' batch normalisation: `keep`, `blend`, `reset`, or
            `recalibrate` by a pass over the training data.
        optimizer_state: `keep`, `zero`, or `scale` by `1 - strength`, for re-learnt parameters only; see
            `equipoise.relearning.settle_optimizer_state`.
        head_policy: `keep`, `blend` with the mean strength, or `refit` for a few steps.
        head_refit_steps: number of those steps.
        rewarm_steps: steps over which the learning rate rises again after a re-learning; 0 leaves it.
        ema_policy: the encoders in averaged copies of the model that are given as `ema=`: `keep`, `blend` as
            the encoders themselves (what the average of a re-learnt past would be), or `copy` theirs.
    """

    strength: str = "tanh"
    max_alpha: float = 1.0
    target: str | States = "init"
    ema_decay: float = 0.9
    redraw_seed: int = 0
    redraw_with: Mapping[str, Factory] | None = None
    parameters: str | Mapping[str, str] = "all"
    layer_strength: Mapping[str, float] | None = None
    layer_decay: float = 1.0
    leave_alone: bool | None = None
    norm_stats: str = "keep"
    optimizer_state: str = "keep"
    head_policy: str = "keep"
    head_refit_steps: int = 20
    rewarm_steps: int = 0
    ema_policy: str = "blend"

    def __post_init__(self) -> None:
        for option, known in CHOICES.items():
            if getattr(self, option) not in known:
                raise UnknownNameError(f"value of {option}", str(getattr(self, option)), known)
        if isinstance(self.target, str) and self.target not in TARGETS:
            raise UnknownNameError("target of re-learning", self.target, TARGETS)
        if not 0 <= self.ema_decay < 1:
            raise UsageError(f"ema_decay is {self.ema_decay}; expected a number from 0 to below 1.")
        if self.rewarm_steps < 0 or self.head_refit_steps < 1:
            raise UsageError("expected rewarm_steps of at least 0 and head_refit_steps of at least 1.")
        if not 0 < self.layer_decay <= 1:
            raise UsageError(f"layer_decay is {self.layer_decay}; expected a number above 0, and at most 1.")
        if self.redraw_with and self.target != "redraw":
            raise UsageError("redraw_with builds what target='redraw' draws; expected that target.")
        for prefix, factor in (self.layer_strength or {}).items():
            if factor < 0:
                raise UsageError(f"layer_strength[{prefix!r}] is {factor}; expected at least 0.")
        relearning_strength(0.0, kind=self.strength, max_strength=self.max_alpha)

    def require(self, *, optimizer: Optimizers | None, head: nn.Module | None) -> None:
        """Check that what the choices act on was given.

        Raises:
            UsageError: the optimiser or the head is missing.
        """
        needs_optimizer = [
            option
            for option, needed in (
                ("optimizer_state", self.optimizer_state != "keep"),
                ("rewarm_steps", self.rewarm_steps > 0),
                ("head_policy", self.head_policy == "refit"),
            )
            if needed
        ]
        if needs_optimizer and not as_optimizers(optimizer):
            raise UsageError(f"{needs_optimizer[0]} needs the optimiser: give optimizer=.")
        if self.head_policy != "keep" and head is None:
            raise UsageError(f"head_policy={self.head_policy!r} needs the head: give head=, a module.")

    def lam_by_modality(
        self, lam: float | Mapping[str, float], modalities: Iterable[str]
    ) -> dict[str, float]:
        """Return the paper's `lambda` of each modality.

        Raises:
            UnknownNameError: `lam` names a modality that does not exist.
            UsageError: one is left out, negative or not finite.
        """
        names = list(modalities)
        if not isinstance(lam, Mapping):
            lam = dict.fromkeys(names, float(lam))
        for name in lam:
            if name not in names:
                raise UnknownNameError("modality of lam", name, names)
        missing = [name for name in names if name not in lam]
        if missing:
            raise UsageError(f"lam lacks the modality {missing[0]!r}; expected one value for each.")
        for value in lam.values():
            relearning_strength(0.0, value)
        return {name: float(lam[name]) for name in names}

    def selections(self, modalities: Iterable[str]) -> dict[str, str]:
        """Return which parameters take part, by modality; `all` where `parameters` leaves one out.

        Raises:
            UnknownNameError: `parameters` or `redraw_with` names a modality that does not exist.
        """
        names = list(modalities)
        by_name = {} if isinstance(self.parameters, str) else self.parameters
        for option, keys in (("parameters", by_name), ("redraw_with", self.redraw_with or {})):
            for name in keys:
                if name not in names:
                    raise UnknownNameError(f"modality of {option}", name, names)
        everywhere = self.parameters if isinstance(self.parameters, str) else "all"
        return {name: by_name.get(name, everywhere) for name in names}

    def check_layers(self, names: Iterable[str]) -> None:
        """Check that every key of `layer_strength` means a parameter.

        Raises:
            UnknownNameError: one begins no name of `names`.
        """
        known = set(names)
        for key in self.layer_strength or {}:
            if not any(_begins(key, name) for name in known):
                raise UnknownNameError("layer of layer_strength", key, known)

    @property
    def by_layer(self) -> bool:
        """Whether the layers of an encoder differ in strength."""
        return bool(self.layer_strength) or self.layer_decay != 1

    def layer_strengths(
        self, alpha: float, names: Sequence[str], encoder: nn.Module, selected: Sequence[str]
    ) -> dict[str, float]:
        """Return the strength of each named parameter or buffer of an encoder.

        Args:
            alpha: the strength of the encoder.
            names: the parameters and buffers.
            encoder: whose blocks `layer_decay` counts, from the output down.
            selected: the parameters that take part.
        """
        factors = self.layer_strength or {}
        depths = depths_from_top(encoder, selected, names) if self.layer_decay != 1 else {}
        strengths = {}
        for name in names:
            matches = [key for key in factors if _begins(key, name)]
            factor = factors[max(matches, key=len)] if matches else 1.0
            strengths[name] = min(1.0, alpha * factor * self.layer_decay ** depths.get(name, 0))
        return strengths


def _begins(key: str, name: str) -> bool:
    return key in ("", name) or name.startswith(f"{key}.")


PAPER: Final = "paper"
INTERVAL: Final = "bootstrap"
RELEARN_OPTIONS: Final = frozenset(option.name for option in fields(RelearnOptions))
DIAGNOSIS_OPTIONS: Final = frozenset(option.name for option in fields(DiagnosisOptions))


def split_options(preset: str, options: Mapping[str, Any]) -> tuple[RelearnOptions, DiagnosisOptions]:
    """Sort options into those of re-learning and those of diagnosis, on top of a preset.

    Raises:
        UnknownNameError: the preset or an option does not exist.
    """
    known = RELEARN_OPTIONS | DIAGNOSIS_OPTIONS
    for option in options:
        if option not in known:
            raise UnknownNameError("option of DiagnoseRelearn", option, known)
    check_types(RelearnOptions, options)
    if preset not in PRESETS:
        raise UnknownNameError("preset", preset, PRESETS)
    choices = RelearnOptions(**{key: value for key, value in options.items() if key in RELEARN_OPTIONS})
    measuring = {key: value for key, value in options.items() if key in DIAGNOSIS_OPTIONS}
    return choices, DiagnosisOptions.preset(preset, **_with_interval(preset, choices, measuring))


def _with_interval(preset: str, choices: RelearnOptions, measuring: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add to the options of a diagnosis what `leave_alone` asks for."""
    if choices.leave_alone and measuring.get("min_gap", INTERVAL) != INTERVAL:
        raise UsageError(
            f"leave_alone goes by the interval of the gap, min_gap={measuring['min_gap']} by a limit; "
            "expected one of them."
        )
    # A caller who sets the limit, or wants no interval, has chosen already.
    chosen = "min_gap" in measuring or measuring.get("bootstrap") == 0
    if choices.leave_alone or (choices.leave_alone is None and preset != PAPER and not chosen):
        return {**measuring, "min_gap": INTERVAL}
    return measuring
