"""From the numbers of a modality to a verdict: state, reasons, advice and margin.

The rules are tried in order, and the first that holds gives the state (see `Thresholds` for the numbers):

1. *scarcely informative*: nothing fitted on this modality alone beats chance, and the joint model does not
   need it. This rule is first, as neither more nor less training helps (Wei et al., ECCV 2024, section 3.2);
   an encoder that has memorised noise is over-trained as well, and a remark says so.
2. *over-trained*: training features are clearly more separable than validation features.
3. *encoder too weak*: a linear head on the inputs beats the encoder, also if trained alone or further.
4. *under-trained*: the modality has more information than its encoder has learnt, or than the joint model
   uses.
5. *unused (redundant)*: the features beat chance, but drop and Shapley value are not above zero beyond noise.
6. *balanced*: none of these. A remark says if the modality is redundant, or informative only together with
   others.

A rule is a number and holds if it is above zero. "And" is the minimum of two numbers, "or" the maximum. The
margin of a verdict is the smallest absolute number among the rules up to the one that holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from equipoise.diagnosis.contribution.contributions import Contributions
from equipoise.diagnosis.options import ACCURACY_LIKE
from equipoise.diagnosis.state import LearningState
from equipoise.diagnosis.verdict import words
from equipoise.diagnosis.verdict.rules import BALANCED, STATES, ModalityNumbers, Thresholds, rule_amounts
from equipoise.types import InNotebooks, UsageError


class QualityLike(Protocol):
    """The scores of one encoder that a verdict uses, see `ModalityNumbers`."""

    @property
    def probe(self) -> float | None: ...  # noqa: D102
    @property
    def fine_tuned(self) -> float | None: ...  # noqa: D102
    @property
    def alone(self) -> float | None: ...  # noqa: D102
    @property
    def chance(self) -> float: ...  # noqa: D102


@dataclass(frozen=True)
class Verdict(InNotebooks):
    """The verdict on one modality.

    Attributes:
        modality: its name.
        state: one of `STATES`.
        margin: distance of the nearest number from its threshold, in units of the scores.
        certain: whether the margin is at least `Thresholds.border`.
        reasons: the sentence with the figure that led to the state; `numbers` has the others.
        advice: what to try.
        remarks: redundancy, a second state, a small margin.
        lacks: what could not be judged because a number is missing.
        numbers: the numbers that were used, by name; intervals are pairs.
    """

    shown_as = "verdict"

    modality: str
    state: str
    margin: float
    certain: bool
    reasons: tuple[str, ...]
    advice: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join((f"{self.modality}: {self.state}.", *self.reasons, *self.remarks, *self.lacks))

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain values, for JSON."""
        return asdict(self)


def judge(numbers: ModalityNumbers, thresholds: Thresholds | None = None) -> Verdict:
    """Judge one modality by the rules of this module.

    Raises:
        UsageError: there is neither a gap nor a score.
    """
    limits = thresholds or Thresholds()
    judged = rule_amounts(numbers, limits)
    if not judged:
        raise UsageError(
            f"nothing is known of {numbers.modality!r}; expected scores of training and validation features, "
            "or chance and the score of a head, probe or model on the modality alone."
        )
    holding = [state for state, amount in judged.items() if amount > 0]
    state = next(iter(holding), BALANCED)
    passed = list(judged)[: list(judged).index(state) + 1] if holding else list(judged)
    nearest = min(passed, key=lambda name: abs(judged[name]))
    margin = abs(judged[nearest])
    certain = margin >= limits.border
    remarks = list(words.remarks(numbers, limits, state, holding))
    if not certain:
        other = nearest if nearest != state else next(iter(holding[1:]), BALANCED)
        remarks.append(words.border(margin, other))
    return Verdict(
        modality=numbers.modality,
        state=state,
        margin=margin,
        certain=certain,
        reasons=(words.reason(numbers, limits, state),),
        advice=words.advice(numbers, state),
        remarks=tuple(remarks),
        lacks=words.lacks(numbers, [name for name in STATES if name != BALANCED and name not in judged]),
        numbers=numbers.known(),
    )


def state_of(numbers: ModalityNumbers, thresholds: Thresholds) -> str:
    """Return only the state; see `judge`."""
    amounts = rule_amounts(numbers, thresholds)
    return next((state for state, amount in amounts.items() if amount > 0), BALANCED)


def verdicts(
    diagnosis: Mapping[str, LearningState],
    contributions: Contributions | None = None,
    quality: Mapping[str, QualityLike] | None = None,
    inputs: Mapping[str, float] | None = None,
    leads: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, Verdict]:
    """Judge every modality of a diagnosis, in its order.

    Args:
        diagnosis: learning states by modality. The thresholds are set for purity with the preset `robust`.
        contributions: those to the joint model, or to a linear head on saved features.
        quality: scores of each encoder, if models were trained to measure them.
        inputs: score of a linear head on each modality's inputs.
        leads: for a unimodal run, that score minus the run's, and the standard error of the difference.

    Raises:
        UsageError: there is neither a gap nor a score of a modality.
    """
    return {
        name: judge(numbers_of(state, contributions, quality, inputs, leads))
        for name, state in diagnosis.items()
    }


def numbers_of(
    state: LearningState,
    contributions: Contributions | None = None,
    quality: Mapping[str, QualityLike] | None = None,
    inputs: Mapping[str, float] | None = None,
    leads: Mapping[str, tuple[float, float]] | None = None,
) -> ModalityNumbers:
    """Collect what is known of the modality of `state`.

    The gap is left out unless the measure is a share of samples, as the thresholds are shares of samples.
    """
    modality = state.modality
    known: dict[str, Any] = {"n_val": state.n_val}
    if state.metric in ACCURACY_LIKE:
        known |= {
            "train_score": state.train_score,
            "val_score": state.val_score,
            "gap_interval": state.interval,
            "measure": state.metric,
        }
    if inputs is not None and modality in inputs:
        known["inputs"] = inputs[modality]
    if leads is not None and modality in leads:
        known["floor_lead"], known["floor_lead_error"] = leads[modality]
    if quality is not None and modality in quality:
        known |= {
            name: getattr(quality[modality], name) for name in ("probe", "fine_tuned", "alone", "chance")
        }
    if contributions is not None and modality in contributions:
        own = contributions[modality]
        known |= {
            "n_val": contributions.n,
            "chance": _chance(contributions),
            "joint": contributions.score,
            "score_name": contributions.metric,
            "refit": (contributions.refitted or {}).get(modality),
            "without_refit": (contributions.without or {}).get(modality),
            "all_refit": contributions.refitted_all,
            # A mean feature stays within the range of the training features; zeros may not.
            "removed_drop": own.drop_averaged,
            "removed_interval": own.intervals.get("drop_averaged"),
            "shapley": own.shapley,
            "shapley_interval": own.intervals.get("shapley"),
        }
    return ModalityNumbers(modality=modality, **known)


def _chance(contributions: Contributions) -> float:
    """Return the best score of a constant prediction on the scored samples.

    It may exceed that of the most frequent training class, and selecting an epoch by these samples can reach
    it.
    """
    if contributions.confusion is None:
        return contributions.chance
    largest = max(sum(row) for row in contributions.confusion)
    return max(contributions.chance, largest / contributions.n)
