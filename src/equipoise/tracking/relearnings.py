"""What the loggers of a user-defined loop get of its re-learnings."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.diagnosis.features.capture import Captured
from equipoise.diagnosis.state import Diagnosis
from equipoise.tracking.outlets import Logger, Outlets, Pictures
from equipoise.tracking.pictures import feature_pictures
from equipoise.tracking.series import series


class RelearnLog:
    """The loggers of a `DiagnoseRelearn`; see `Outlets` for the argument."""

    def __init__(self, log: Logger | Sequence[Logger] | None) -> None:
        self._outlets = Outlets(log)
        self._pictures: Pictures | None = None

    def measured(self, train: Captured, val: Captured) -> None:
        """Keep some of the features that were measured, to be drawn; all processes call it."""
        if self._outlets:
            classes = train.target.ndim == 1 and not train.target.is_floating_point()
            self._pictures = feature_pictures(train, val) if classes else None

    def relearnt(self, epoch: int, diagnosis: Diagnosis) -> None:
        """Log scores, gap and strength of each modality, and what was kept, for an epoch."""
        event = {"event": "relearning", "modalities": diagnosis.to_dict()}
        self._outlets.log(series(event), epoch, self._pictures)
        self._pictures = None
