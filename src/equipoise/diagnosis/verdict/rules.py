"""The numbers of one modality, the thresholds, and the rules that compare them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Final

from equipoise.types import UsageError

OVER_TRAINED: Final = "over-trained"
UNDER_TRAINED: Final = "under-trained"
BALANCED: Final = "balanced"
SCARCE: Final = "scarcely informative"
WEAK: Final = "encoder too weak"
UNUSED: Final = "unused (redundant)"
STATES: Final = (OVER_TRAINED, UNDER_TRAINED, BALANCED, SCARCE, WEAK, UNUSED)

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The limits between the states; all but `errors` are differences of scores (0.1: 10 points of accuracy).

    `docs/results/verdicts.md` evaluates them on synthetic data.

    Attributes:
        information: a modality whose best score covers less than this share of the distance from chance to a
            perfect score is scarcely informative.
        gap: from this difference between training and validation score on, an encoder is over-trained.
            Untrained encoders, or encoders of noise that they could not memorise, have gaps up to 0.1.
        shortfall: from this difference on, an encoder is under-trained if other training does better, and too
            weak if a linear head on its inputs does; runs with different seeds differ by half of it.
        use: a joint model that loses less than this without a modality does not need it.
        errors: differences of validation accuracies count if they exceed this many standard errors.
        border: a verdict with a smaller margin is close to the border.
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
    """What is known of one modality; an unknown number is None, and rules that need it are skipped.

    From `chance` on they are accuracies (or R^2) on validation, or differences of them.

    Attributes:
        modality: its name.
        train_score, val_score: separability of training and validation features.
        gap_interval: 95 % interval of `train_score - val_score`.
        measure: the measure of separability.
        n_val: number of validation samples, for the standard errors of accuracies.
        chance: score of a constant prediction: the share of the largest class among the scored samples (0
            for R^2).
        refit: score of a linear head on this modality's features.
        without_refit: score of a linear head on the features of all others.
        all_refit: score of a linear head on the features of all modalities.
        inputs: score of a linear head on this modality's inputs, without an encoder.
        floor_lead: of a unimodal run, `inputs` minus its score on the same samples.
        floor_lead_error: standard error of `floor_lead`.
        alone: score of the modality trained alone, from its initial weights.
        probe: score of a classifier trained on the frozen encoder.
        fine_tuned: score of encoder and classifier, trained further from the joint model's weights.
        joint: score of the joint model with all modalities.
        removed_drop: loss of the joint model without the modality.
        removed_interval: 95 % interval of `removed_drop`.
        shapley: the modality's Shapley value.
        shapley_interval: 95 % interval of `shapley`.
        score_name: `accuracy` or `r2`.
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
    floor_lead: float | None = None
    floor_lead_error: float | None = None
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
                f"chance of {self.modality!r} is {self.chance}; expected less than 1, that is at least two "
                "classes."
            )

    def known(self) -> dict[str, Any]:
        """Return the numbers that are known, by name."""
        texts = ("modality", "measure", "score_name")
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in texts}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def gap(self) -> float | None:
        """`train_score - val_score`, negative if validation features are more separable."""
        if self.train_score is None or self.val_score is None:
            return None
        return self.train_score - self.val_score

    @property
    def learnt(self) -> float | None:
        """The best score from the encoder as it is."""
        return best(self.refit, self.probe)

    @property
    def reference(self) -> float | None:
        """The best score from the modality without this encoder as it is."""
        return best(self.trained, self.inputs)

    @property
    def trained(self) -> float | None:
        """The best score after further or separate training of the encoder."""
        return best(self.alone, self.fine_tuned)

    @property
    def potential(self) -> float | None:
        """The best score from this modality alone."""
        return best(self.learnt, self.reference)

    def standard_error(self, *scores: float) -> float:
        """Return that of a difference of accuracies on independent samples; paired ones vary less."""
        if self.n_val is None or self.score_name != "accuracy":
            return 0.0
        return math.sqrt(sum(score * (1 - score) for score in scores) / self.n_val)


def rule_amounts(numbers: ModalityNumbers, limits: Thresholds) -> dict[str, float]:
    """Return by how much each rule holds, in order; rules with missing numbers are left out."""
    amounts = {
        SCARCE: scarce(numbers, limits),
        OVER_TRAINED: over_trained(numbers, limits),
        WEAK: weak(numbers, limits),
        UNDER_TRAINED: under_trained(numbers, limits),
        UNUSED: unused(numbers, limits),
    }
    return {state: amount for state, amount in amounts.items() if amount is not None}


def information_floor(numbers: ModalityNumbers, limits: Thresholds) -> float | None:
    """Return the score from which on a modality counts as informative."""
    if numbers.chance is None:
        return None
    way = limits.information * (1 - numbers.chance)
    return numbers.chance + max(way, limits.errors * numbers.standard_error(numbers.chance))


def needed(numbers: ModalityNumbers, limits: Thresholds) -> float | None:
    """Return by how much the joint model needs the modality, above zero if it does.

    It does if it clearly loses without it, and a new head on the others does not compensate for that.
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
    """Return the limit above which a difference of these scores counts."""
    return max(limits.shortfall, limits.errors * numbers.standard_error(*scores))


def scarce(numbers: ModalityNumbers, limits: Thresholds) -> float | None:
    """Return by how much the modality is scarcely informative; None if unknown."""
    floor, potential = information_floor(numbers, limits), numbers.potential
    if floor is None or potential is None:
        return None
    need = needed(numbers, limits)
    return floor - potential if need is None else min(floor - potential, -need)


def over_trained(numbers: ModalityNumbers, limits: Thresholds) -> float | None:
    """Return by how much the encoder is over-trained; None if unknown."""
    if numbers.gap is None:
        return None
    ahead = numbers.gap - limits.gap
    return ahead if numbers.gap_interval is None else min(ahead, numbers.gap_interval[0])


def weak(numbers: ModalityNumbers, limits: Thresholds) -> float | None:
    """Return by how much the encoder is too weak for what its inputs hold; None if unknown.

    It is if a linear head on the inputs does better than the encoder, however it was trained, or clearly
    better than a unimodal run.
    """
    inputs, reached = numbers.inputs, best(numbers.learnt, numbers.trained)
    if inputs is None or reached is None:
        return None
    amount = inputs - reached - shortfall_limit(numbers, limits, inputs, reached)
    of_run = below_floor(numbers.floor_lead, numbers.floor_lead_error, limits)
    return amount if of_run is None else max(amount, of_run)


def below_floor(lead: float | None, error: float | None, limits: Thresholds) -> float | None:
    """Return by how much a run is below its floor, a linear model on its inputs, beyond noise.

    `lead` is the floor minus the run's validation score, `error` its standard error, of paired samples.
    """
    return None if lead is None else lead - limits.errors * (error or 0.0)


def under_trained(numbers: ModalityNumbers, limits: Thresholds) -> float | None:
    """Return by how much the encoder is under-trained; None if unknown."""
    amounts = [behind(numbers, limits), neglected(numbers, limits)]
    return max((amount for amount in amounts if amount is not None), default=None)


def behind(numbers: ModalityNumbers, limits: Thresholds) -> float | None:
    """Return by how much the encoder has learnt too little of its modality; None if unknown."""
    learnt, reference = numbers.learnt, numbers.reference
    if learnt is None or reference is None:
        return None
    return reference - learnt - shortfall_limit(numbers, limits, learnt, reference)


def neglected(numbers: ModalityNumbers, limits: Thresholds) -> float | None:
    """Return by how much the joint model neglects what the encoder has learnt; None if unknown.

    It does if it loses almost nothing without a modality that adds to the others, and a new head on all
    modalities does better. A redundant modality adds nothing; a joint linear head on saved features cannot be
    exceeded by the new head, which is the same.
    """
    with_it = used_head(numbers)
    others, joint, drop = numbers.without_refit, numbers.joint, numbers.removed_drop
    if with_it is None or others is None or joint is None or drop is None:
        return None
    added = with_it - others - shortfall_limit(numbers, limits, with_it, others)
    return min(added, with_it - joint - limits.use, limits.use - drop)


def unused(numbers: ModalityNumbers, limits: Thresholds) -> float | None:
    """Return by how much the joint model makes no use of an informative encoder; None if unknown.

    It makes none if neither the drop nor the Shapley value is above zero beyond noise: they are below `use`
    and their intervals, if known, do not begin above zero.
    """
    floor, learnt = information_floor(numbers, limits), numbers.learnt
    if floor is None or learnt is None or numbers.removed_drop is None or numbers.shapley is None:
        return None
    amounts = [learnt - floor, limits.use - numbers.removed_drop, limits.use - numbers.shapley]
    starts = [interval[0] for interval in (numbers.removed_interval, numbers.shapley_interval) if interval]
    return min(*amounts, *(-start for start in starts if start > 0))


def used_head(numbers: ModalityNumbers) -> float | None:
    """Return the score of a new head that uses the modality, with the others if that is known."""
    return numbers.refit if numbers.all_refit is None else numbers.all_refit


def best(*scores: float | None) -> float | None:
    """Return the highest of the scores that are known."""
    return max((score for score in scores if score is not None), default=None)
