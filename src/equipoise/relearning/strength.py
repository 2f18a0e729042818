"""From the gaps of a diagnosis to the strength of each modality, encoder and layer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from torch import nn

from equipoise.decimals import bracketed
from equipoise.diagnosis.measures.catalogue import AUXILIARY_HEAD, MEASURES
from equipoise.diagnosis.state import Diagnosis, LearningState, relearning_strength
from equipoise.relearning.options import RelearnOptions
from equipoise.relearning.selection import depths_from_top
from equipoise.types import UnknownNameError, UsageError, check_known, warn

FEW: Final = 10
"""Validation samples per class below which clusters of the validation split are too pure by chance."""


@dataclass(frozen=True)
class PlannedRelearning:
    """A diagnosis, and the re-learning that follows from it.

    Attributes:
        diagnosis: the learning states, with the strength that is `applied` to each modality.
        selected: modality name to the parameters of its encoder that are re-learnt.
        layers: modality name to parameter to strength; empty where all layers have the encoder's.
    """

    diagnosis: Diagnosis
    selected: Mapping[str, Sequence[str]]
    layers: Mapping[str, Mapping[str, float]]

    @property
    def strengths(self) -> dict[str, float]:
        """Modality name to strength."""
        return {name: state.applied or 0.0 for name, state in self.diagnosis.items()}

    @property
    def left_alone(self) -> dict[str, str]:
        """Modality name to the reason why its encoder is left unchanged; the others are re-learnt."""
        unchanged = [state for state in self.diagnosis.values() if not state.applied]
        reasons = {state.modality: self._reason(state) for state in unchanged}
        return {name: reason for name, reason in reasons.items() if reason}

    def _reason(self, state: LearningState) -> str:
        limit = self.diagnosis.options.min_gap
        if not self.selected[state.modality]:
            return "all its selected parameters are frozen"
        if not state.negligible:
            return ""  # a strength of 0 was asked for
        if isinstance(limit, str) and state.interval is not None:
            side = "includes" if state.interval[1] >= 0 else "lies below"
            return f"the interval of its gap,{bracketed(state.interval)}, {side} 0"
        if state.train_score < state.val_score and self.diagnosis.options.sign == "positive":
            low, high = state.train_score, state.val_score
            return f"its training score {low:.3f} is below that of validation {high:.3f}"
        return f"its gap {state.gap:.3f} is below min_gap {limit}"


def lam_by_modality(lam: float | Mapping[str, float], modalities: Iterable[str]) -> dict[str, float]:
    """Return the paper's `lambda` of each modality.

    Raises:
        UnknownNameError: `lam` names a modality that does not exist.
        UsageError: a modality is missing, or a value is negative or not finite.
    """
    names = list(modalities)
    if not isinstance(lam, Mapping):
        lam = dict.fromkeys(names, lam)
    check_known("modality of lam", lam, names)
    for name in names:
        if name not in lam:
            raise UsageError(f"lam lacks the modality {name!r}; expected one value for each.")
    for value in lam.values():
        if not hasattr(value, "__float__"):
            raise UsageError(f"lam is {value!r}; expected a number, or one for each modality.")
        relearning_strength(0.0, float(value))
    return {name: float(lam[name]) for name in names}


def strengths_of(
    diagnosis: Diagnosis,
    lam: Mapping[str, float],
    choices: RelearnOptions,
    sharing: Iterable[Sequence[str]],
    selected: Mapping[str, Collection[str]],
) -> dict[str, float]:
    """Return `alpha = tanh(lam * gap)` of each modality, or what the options put in its place.

    `sharing` has the modalities of each encoder: those that share one get the mean of their strengths. If no
    parameter is selected for re-learning, the strength is 0.
    """
    own = {
        name: state.strength(lam[name], kind=choices.strength, max_strength=choices.max_alpha)
        for name, state in diagnosis.items()
    }
    gaps = {name: 0.0 if state.negligible else state.gap for name, state in diagnosis.items()}
    allocated = allocate(own, gaps, choices.allocation, choices.sharpness)
    if choices.only is not None:
        allocated = {name: value if name in choices.only else 0.0 for name, value in allocated.items()}
    strengths: dict[str, float] = {}
    for names in sharing:
        mean = sum(allocated[name] for name in names) / len(names)
        strengths |= dict.fromkeys(names, mean if selected[names[0]] else 0.0)
    return {name: strengths[name] for name in diagnosis}


def allocate(
    own: Mapping[str, float], gaps: Mapping[str, float], allocation: str = "own", sharpness: float = 4.0
) -> dict[str, float]:
    """Return the strength of each modality, given that by its own gap; see `RelearnOptions.allocation`."""
    by_gap = sorted(own, key=lambda name: gaps[name])
    worst = by_gap[-1]
    if allocation == "even":
        return dict.fromkeys(own, sum(own.values()) / len(own))
    if allocation == "swapped":
        return dict(zip(own, (own[by_gap[-1 - by_gap.index(name)]] for name in own), strict=True))
    if allocation == "worst":
        return {name: own[name] if name == worst else 0.0 for name in own}
    if allocation == "sharpened" and gaps[worst] > 0:
        return {name: own[worst] * (gaps[name] / gaps[worst]) ** sharpness for name in own}
    return dict(own)


def warn_of_few(diagnosis: Diagnosis, classes: int) -> bool:
    """Warn, and return True, if few validation samples per class make much of an absolute gap chance."""
    options, count = diagnosis.options, min(state.n_val for state in diagnosis.values())
    if MEASURES[options.metric].target != "classes" or options.sign != "abs" or count >= FEW * classes:
        return False
    warn(
        f"validation has {count} samples of {classes} classes; with fewer than about {FEW} per class much of "
        f"the gap of {options.metric} is chance, and even one of the wrong sign re-initialises encoders: "
        "use preset='robust', or a larger validation split."
    )
    return True


def layer_strengths(
    alpha: float, names: Sequence[str], encoder: nn.Module, selected: Sequence[str], choices: RelearnOptions
) -> dict[str, float]:
    """Return the strength of each named parameter or buffer of an encoder with the strength `alpha`.

    `layer_decay` counts the blocks with selected parameters, from the output down.
    """
    factors = choices.layer_strength or {}
    depths = depths_from_top(encoder, selected, names) if choices.layer_decay != 1 else {}
    strengths = {}
    for name in names:
        matches = [key for key in factors if _begins(key, name)]
        factor = factors[max(matches, key=len)] if matches else 1.0
        strengths[name] = min(1.0, alpha * factor * choices.layer_decay ** depths.get(name, 0))
    return strengths


def check_heads(
    heads: Mapping[str, nn.Module] | None, names: Iterable[str], metric: str
) -> dict[str, nn.Module]:
    """Return the heads of the modalities for a measure that reads them, else none.

    Raises:
        UsageError: it reads them, and a modality has none.
    """
    if metric != AUXILIARY_HEAD:
        return {}
    if lacking := [name for name in names if name not in (heads or {})]:
        raise UsageError(
            f"metric={metric!r} is the accuracy of each modality's own head, and {lacking[0]!r} has none; "
            "give heads=, modality to classifier, or train by diagnose-relearn-plus, which has them."
        )
    return dict(heads or {})


def check_layers(choices: RelearnOptions, names: Iterable[str]) -> None:
    """Check that every key of `layer_strength` matches one of the named parameters.

    Raises:
        UnknownNameError: one matches none.
    """
    known = set(names)
    for key in choices.layer_strength or {}:
        if not any(_begins(key, name) for name in known):
            raise UnknownNameError("layer of layer_strength", key, known)


def _begins(key: str, name: str) -> bool:
    return key in ("", name) or name.startswith(f"{key}.")
