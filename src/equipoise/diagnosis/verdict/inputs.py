"""From a diagnosis, contributions and encoder qualities to the numbers that a verdict is based on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from equipoise.diagnosis.contribution.contributions import Contributions
from equipoise.diagnosis.options import ACCURACY_LIKE
from equipoise.diagnosis.state import LearningState
from equipoise.diagnosis.verdict.rules import ModalityNumbers


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


def numbers_of(
    state: LearningState,
    contributions: Contributions | None = None,
    quality: Mapping[str, QualityLike] | None = None,
    inputs: Mapping[str, float] | None = None,
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
