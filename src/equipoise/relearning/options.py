"""Options of a re-learning: how strong, toward what, and what happens to everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from torch import Tensor, nn

from equipoise.diagnosis.options import PRESETS, DiagnosisOptions
from equipoise.diagnosis.state import relearning_strength
from equipoise.typed_options import check_types
from equipoise.types import UsageError, check_known

CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "norm_stats": ("keep", "blend", "reset", "recalibrate"),
    "optimizer_state": ("keep", "zero", "scale"),
    "head_policy": ("keep", "blend", "refit"),
    "ema_policy": ("keep", "blend", "copy"),
}
ALLOCATIONS: Final = ("own", "sharpened", "worst", "even", "swapped")
TARGETS: Final = ("init", "pretrained", "redraw", "ema")
States = Mapping[str, Mapping[str, Tensor]]
Factory = Callable[[], nn.Module]
"""Builds a module like the encoder, with fresh weights drawn from torch's global random stream."""


@dataclass(frozen=True, kw_only=True)
class RelearnOptions:
    """Options of a re-learning; the defaults are those of the official D&R code.

    Attributes:
        strength: from gap to strength: `tanh`, `linear` or `fixed` (see `relearning_strength`).
        max_alpha: upper bound of the strength.
        allocation: whose gap decides. `own`: each encoder's strength follows from its own gap. `sharpened`:
            that of the largest gap, times `(gap / largest gap) ** sharpness`, so that the more over-trained
            encoder is re-learnt and the others hardly. `worst`: only the encoder with the largest gap.
            `even`: the mean for all. `swapped`: the largest strength for the smallest gap, a control.
        sharpness: exponent of `sharpened`; 0 gives all the strength of the largest gap.
        only: the modalities that may be re-learnt; the strength of the others is 0. None allows all.
        target: what encoders are pulled toward. `init`: their weights at construction. `pretrained`: the
            same, but an encoder that did not start from given weights is refused (see `weights_origin`).
            `redraw`: a fresh draw at each re-learning. `ema`: a moving average of their weights. A mapping
            from modality to state dict: those weights.
        ema_decay: decay of the moving average per epoch.
        redraw_seed: seed of the fresh draws.
        redraw_with: modality to a factory of fresh encoders, for layers that `redraw` cannot draw itself.
        parameters: `all`, `no-norm`, `adapters` or `last:N` (see `select_parameters`), for all modalities or
            by name; frozen parameters are never re-learnt.
        layer_strength: factor of the strength for parameters whose name begins with a key. The longest key
            counts, parameters without one have the factor 1, and the product is at most 1.
        layer_decay: factor of the strength from each block to the one below it; a value below 1 re-learns
            blocks near the output more than those near the input. Not in the paper.
        leave_alone: leave an encoder unchanged unless the 95 % interval of its gap lies above zero, as
            `min_gap="bootstrap"` with `sign="positive"` does. By default all presets but `paper` do so.
            The allocations `even` and `swapped` give their strengths all the same.
        norm_stats: running statistics of the encoders' batch normalisation: `keep`, `blend`, `reset`, or
            `recalibrate` by a pass over the training data; those of layers kept in evaluation mode stay.
        optimizer_state: `keep`, `zero`, or `scale` by `1 - strength`, for re-learnt parameters only; see
            `equipoise.relearning.settle_optimizer_state`.
        head_policy: `keep`, `blend` with the mean strength, or `refit` for a few steps.
        head_refit_steps: number of those steps.
        rewarm_steps: steps over which the learning rate rises again after a re-learning; 0 keeps it.
        ema_policy: what happens to the encoders in averaged copies of the model (`ema=`): `keep` them,
            `blend` them like the encoders themselves, or `copy` the re-learnt encoders.
    """

    strength: str = "tanh"
    max_alpha: float = 1.0
    allocation: str = "own"
    sharpness: float = 4.0
    only: Sequence[str] | None = None
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
            check_known(f"value of {option}", [str(getattr(self, option))], known)
        check_known("value of allocation", [self.allocation], ALLOCATIONS)
        if isinstance(self.target, str):
            check_known("target of re-learning", [self.target], TARGETS)
        if isinstance(self.only, str):
            raise UsageError(f"only is {self.only!r}; expected a list of modalities: [{self.only!r}].")
        if not 0 <= self.ema_decay < 1:
            raise UsageError(f"ema_decay is {self.ema_decay}; expected a number from 0 to below 1.")
        if not 0 <= self.sharpness < math.inf:
            raise UsageError(f"sharpness is {self.sharpness}; expected a finite number of at least 0.")
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

    @property
    def by_layer(self) -> bool:
        """Whether the layers of an encoder differ in strength."""
        return bool(self.layer_strength) or self.layer_decay != 1


PAPER: Final = "paper"
INTERVAL: Final = "bootstrap"
RELEARN_OPTIONS: Final = frozenset(option.name for option in fields(RelearnOptions))
DIAGNOSIS_OPTIONS: Final = frozenset(option.name for option in fields(DiagnosisOptions))


def split_options(
    preset: str, options: Mapping[str, Any], named: Collection[str] = ()
) -> tuple[RelearnOptions, DiagnosisOptions]:
    """Sort options into those of the re-learning and those of the diagnosis, on top of a preset.

    `named` are further parameters of the caller, which the message about an unknown one may suggest.

    Raises:
        UnknownNameError: the preset or an option does not exist.
    """
    check_known("option of DiagnoseRelearn", options, {*RELEARN_OPTIONS, *DIAGNOSIS_OPTIONS, *named})
    check_types(RelearnOptions, options)
    check_known("preset", [preset], PRESETS)
    choices = RelearnOptions(**{key: value for key, value in options.items() if key in RELEARN_OPTIONS})
    measuring = {key: value for key, value in options.items() if key in DIAGNOSIS_OPTIONS}
    return choices, DiagnosisOptions.preset(preset, **_with_interval(preset, choices, measuring))


def _with_interval(preset: str, choices: RelearnOptions, measuring: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add `min_gap` to the options of a diagnosis where `leave_alone` needs it."""
    if choices.leave_alone and measuring.get("min_gap", INTERVAL) != INTERVAL:
        raise UsageError(
            f"leave_alone uses the interval of the gap, min_gap={measuring['min_gap']} a limit; expected one "
            "of the two."
        )
    # Whoever sets the limit, or turns the interval off, has already decided.
    chosen = "min_gap" in measuring or measuring.get("bootstrap") == 0
    if choices.leave_alone:
        measuring = {"sign": "positive", **measuring}
    if choices.leave_alone or (choices.leave_alone is None and preset != PAPER and not chosen):
        return {**measuring, "min_gap": INTERVAL}
    return measuring
