"""The numbers of one modality, the thresholds, and the rules between them: by how much each holds."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Final

from equipoise.types import UsageError

OVER_TRAINED: Final = "over-trained"
UNDER_TRAINED: Final = "under-trained"
BALANCED: Final = "balanced"
SCARCE: Final = "scarcely informative"
STATES: Final = (OVER_TRAINED, UNDER_TRAINED, BALANCED, SCARCE)

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What separates the states; all but `errors` in units of the scores, 0.1 being ten points of accuracy.

    The page `docs/results/verdicts.md` measures them on synthetic data.

    Attributes:
        information: a modality that takes less than this part of the way from chance to a perfect score, at
            its best, is scarcely informative.
        gap: training features ahead of validation features by this much are over-trained. It lies above the
            gap of encoders that were never trained, or on noise that they could not learn by heart (to 0.1).
        shortfall: an encoder this far below what its modality reaches alone is under-trained; two trainings
            with other seeds differ by half of it.
        use: a joint model that loses less than this without a modality does not need it.
        errors: differences of validation accuracies count where they exceed this many standard errors.
        border: a verdict whose margin is below this is called close to the border.
    """

    information: float = 0.1
    gap: float = 0.15
    shortfall: float = 0.1
    use: float = 0.05
    errors: float = 2.0
    border: float = 0.03

    def __post_init__(self) -> None:
        for threshold in fields(self):
            value = getattr(self, threshold.name)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(
                    f"the threshold {threshold.name} is {value}; expected a finite number of at least 0."
                )


@dataclass(frozen=True, kw_only=True)
class ModalityNumbers:
    """What is known of one modality; a number that is not known is None, and what hangs on it is not said.

    All but the first five are accuracies (or R^2) on validation, or differences of them.

    Attributes:
        modality: its name.
        train_score, val_score: separability of training and validation features.
        gap_interval: 95 % interval of `train_score - val_score`.
        measure: what the separability is measured by.
        n_val: validation samples; gives the standard errors of accuracies.
        chance: what knows nothing reaches: the share of the largest class among the samples that are scored
            (0 for R^2).
        refit: a linear head fitted on this modality's features alone.
        without_refit: a linear head fitted on the features of all the others.
        all_refit: a linear head fitted on the features of all modalities.
        inputs: a linear head fitted on this modality's inputs, which no encoder has touched.
        alone: the modality trained alone, from its initial weights.
        probe: a classifier trained on the frozen encoder.
        fine_tuned: encoder and classifier trained on from the joint model's weights.
        joint: the joint model with everything present.
        removed_drop: what the joint model loses without the modality.
        removed_interval: 95 % interval of `removed_drop`.
        shapley: the modality's Shapley value.
        shapley_interval: 95 % interval of `shapley`.
        score_name: `accuracy` or `r2`, what the scores are.
    """

    modality: str
    train_score: float | None = None
    val_score: float | None = None
    gap_interval: Interval | None = None
    measure: str = "purity"
    n_val: int | None = None
    chance: float | None = None
    refit: float | None = None
    without_refit: float | None = None
    all_refit: float | None = None
    inputs: float | None = None
    alone: float | None = None
    probe: float | None = None
    fine_tuned: float | None = None
    joint: float | None = None
    removed_drop: float | None = None
    removed_interval: Interval | None = None
    shapley: float | None = None
    shapley_interval: Interval | None = None
    score_name: str = "accuracy"

    def __post_init__(self) -> None:
        for name, value in self.known().items():
            bounds = value if isinstance(value, tuple) else (value,)
            if not all(math.isfinite(bound) for bound in bounds):
                raise UsageError(
                    f"{name} of {self.modality!r} is {value}; expected a finite number, or None."
                )
            if list(bounds) != sorted(bounds):
                raise UsageError(f"{name} of {self.modality!r} is {value}; expected (low, high).")
        if self.chance is not None and self.chance >= 1:
            raise UsageError(
                f"chance of {self.modality!r} is {self.chance}; expected less than 1: with a single class "
                "there is nothing to tell apart."
            )

    def known(self) -> dict[str, Any]:
        """Return the numbers that are there, by name."""
        texts = ("modality", "measure", "score_name")
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in texts}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def gap(self) -> float | None:
        """`train_score - val_score`, below zero where validation features are more separable."""
        if self.train_score is None or self.val_score is None:
            return None
        return self.train_score - self.val_score

    @property
    def learnt(self) -> float | None:
        """The best that is read from the encoder as it is."""
        return _best(self.refit, self.probe)

    @property
    def reference(self) -> float | None:
        """The best that the modality gives without this encoder as it is."""
        return _best(self.trained, self.inputs)

    @property
    def trained(self) -> float | None:
        """The best that further or separate training of the encoder gives."""
        return _best(self.alone, self.fine_tuned)

    @property
    def potential(self) -> float | None:
        """The best that anything fitted on this modality alone reaches."""
        return _best(self.learnt, self.reference)

    def standard_error(self, *scores: float) -> float:
        """Return that of a difference of accuracies as if of independent samples: paired ones vary less."""
        if self.n_val is None or self.score_name != "accuracy":
            return 0.0
        return math.sqrt(sum(score * (1 - score) for score in scores) / self.n_val)


def rule_amounts(numbers: ModalityNumbers, limits: Thresholds) -> dict[str, float]:
    """Return by how much each rule holds, in the order in which they are tried; None ones are left out."""
    amounts = {
        SCARCE: scarce(numbers, limits),
        OVER_TRAINED: over_trained(numbers, limits),
        UNDER_TRAINED: under_trained(numbers, limits),
    }
    return {state: amount for state, amount in amounts.items() if amount is not None}


def information_floor(numbers: ModalityNumbers, limits: Thresholds) -> float | None:
    """Return the score that a modality must pass to count as informative."""
    if numbers.chance is None:
        return None
    way = limits.information * (1 - numbers.chance)
    return numbers.chance + max(way, limits.errors * numbers.standard_error(numbers.chance))


def needed(numbers: ModalityNumbers, limits: Thresholds) -> float | None:
    """Return by how much the joint model needs the modality, above zero where it does.

    It does where it loses clearly without it, and a head fitted anew on the others does not make up for that.
    """
    loss, interval = numbers.removed_drop, numbers.removed_interval
    if loss is None:
        loss, interval = numbers.shapley, numbers.shapley_interval
    amounts = [] if loss is None else [loss - limits.use]
    if interval is not None:
        amounts.append(interval[0])
    if numbers.joint is not None and numbers.without_refit is not None:
        amounts.append(numbers.joint - numbers.without_refit - limits.use)
    return min(amounts, default=None)


def shortfall_limit(numbers: ModalityNumbers, limits: Thresholds, *scores: float) -> float:
    """Return the difference of two scores from which on it counts."""
    return max(limits.shortfall, limits.errors * numbers.standard_error(*scores))


def scarce(numbers: ModalityNumbers, limits: Thresholds) -> float | None:
    """Return by how much the modality is scarcely informative; None where that cannot be told."""
    floor, potential = information_floor(numbers, limits), numbers.potential
    if floor is None or potential is None:
        return None
    need = needed(numbers, limits)
    return floor - potential if need is None else min(floor - potential, -need)


def over_trained(numbers: ModalityNumbers, limits: Thresholds) -> float | None:
    """Return by how much the encoder is over-trained; None where that cannot be told."""
    if numbers.gap is None:
        return None
    ahead = numbers.gap - limits.gap
    return ahead if numbers.gap_interval is None else min(ahead, numbers.gap_interval[0])


def under_trained(numbers: ModalityNumbers, limits: Thresholds) -> float | None:
    """Return by how much the encoder is under-trained; None where that cannot be told."""
    amounts = [behind(numbers, limits), neglected(numbers, limits)]
    return max((amount for amount in amounts if amount is not None), default=None)


def behind(numbers: ModalityNumbers, limits: Thresholds) -> float | None:
    """Return by how much the encoder has learnt too little of its modality; None if not known."""
    learnt, reference = numbers.learnt, numbers.reference
    if learnt is None or reference is None:
        return None
    return reference - learnt - shortfall_limit(numbers, limits, learnt, reference)


def neglected(numbers: ModalityNumbers, limits: Thresholds) -> float | None:
    """Return by how much the joint model neglects what the encoder has learnt, above zero where it does.

    It does where it loses next to nothing without a modality that adds to the others, and a head fitted anew
    does better than it. A redundant modality adds nothing; and a joint linear head on saved features is that
    head itself, of which nothing more can be asked.
    """
    with_it = numbers.refit if numbers.all_refit is None else numbers.all_refit
    others, joint, drop = numbers.without_refit, numbers.joint, numbers.removed_drop
    if with_it is None or others is None or joint is None or drop is None:
        return None
    added = with_it - others - shortfall_limit(numbers, limits, with_it, others)
    return min(added, with_it - joint - limits.use, limits.use - drop)


def _best(*scores: float | None) -> float | None:
    return max((score for score in scores if score is not None), default=None)
