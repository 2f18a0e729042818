"""The diagnoses of a run, as its record holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.diagnosis import Diagnosis, DiagnosisOptions, LearningState
from equipoise.files.untrusted import parsing
from equipoise.training.record.events import REMEDY
from equipoise.training.record.names import DIAGNOSES
from equipoise.types import RunFolderError


@dataclass(frozen=True)
class RecordedDiagnosis(Diagnosis):
    """A diagnosis made in training: modality to `LearningState`, with the epoch.

    Attributes:
        epoch: the epoch (0-based) that had ended.
        event: `relearning` where encoders were then re-learnt, by the strengths `applied`; `diagnosis` where
            nothing was changed.
    """

    epoch: int = 0
    event: str = "diagnosis"


def read_diagnoses(events: Iterable[Mapping[str, Any]]) -> list[RecordedDiagnosis]:
    """Return the diagnoses of `diagnosis.jsonl`, in order.

    Raises:
        RunFolderError: an event is none of a diagnosis.
    """
    return [_diagnosis(event) for event in events]


def _diagnosis(event: Mapping[str, Any]) -> RecordedDiagnosis:
    def refuse(found: str) -> RunFolderError:
        return RunFolderError(
            f"{DIAGNOSES} of a run holds {repr(event)[:80]}, which is no diagnosis ({found}). {REMEDY}"
        )

    with parsing(refuse):
        return RecordedDiagnosis(
            {name: LearningState.from_dict(state) for name, state in event["modalities"].items()},
            DiagnosisOptions(**event.get("options", {})),
            event["epoch"],
            event["event"],
        )
