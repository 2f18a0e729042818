"""From a diagnosis, contributions and encoder qualities to the numbers that a verdict is made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from equipoise.diagnosis.contribution.contributions import Contributions
from equipoise.diagnosis.options import ACCURACY_LIKE
from equipoise.diagnosis.state import LearningState
from equipoise.diagnosis.verdict.rules import ModalityNumbers


class QualityLike(Protocol):
    """What is read of the quality of one encoder."""

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
    """Gather what is known of the modality of `state`.

    The gap is left out where the measure is no share of samples: no threshold in points of accuracy fits it.
    """
    known: dict[str, Any] = {"n_val": state.n_val}
    if state.metric in ACCURACY_LIKE:
        known |= {
            "train_score": state.train_score,
            "val_score": state.val_score,
            "gap_interval": state.interval,
            "measure": state.metric,
        }
    if inputs is not None and state.modality in inputs:
        known["inputs"] = inputs[state.modality]
    if quality is not None and state.modality in quality:
        encoder = quality[state.modality]
        known |= {"probe": encoder.probe, "fine_tuned": encoder.fine_tuned, "alone": encoder.alone}
        known["chance"] = encoder.chance
    if contributions is not None and state.modality in contributions:
        known |= _contributed(state.modality, contributions)
    return ModalityNumbers(modality=state.modality, **known)


def _contributed(modality: str, contributions: Contributions) -> dict[str, Any]:
    own = contributions[modality]
    return {
        "n_val": contributions.n,
        "chance": _chance(contributions),
        "joint": contributions.score,
        "score_name": contributions.metric,
        "refit": (contributions.refitted or {}).get(modality),
        "without_refit": (contributions.without or {}).get(modality),
        "all_refit": contributions.refitted_all,
        # Its mean in a feature's place stays within what the fusion has seen; zeros need not.
        "removed_drop": own.drop_averaged,
        "removed_interval": own.intervals.get("drop_averaged"),
        "shapley": own.shapley,
        "shapley_interval": own.intervals.get("shapley"),
    }


def _chance(contributions: Contributions) -> float:
    """Return what a constant answer can reach on the very samples that are scored.

    That may be more than the most frequent class of training reaches there, and whatever chooses an epoch by
    these samples will find it.
    """
    if contributions.confusion is None:
        return contributions.chance
    largest = max(sum(row) for row in contributions.confusion)
    return max(contributions.chance, largest / contributions.n)
