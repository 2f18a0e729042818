"""Diagnose the features that a model's encoders returned, where several processes may share the samples."""

from __future__ import annotations

from equipoise.diagnosis.estimate import diagnose_with
from equipoise.diagnosis.features.capture import Captured
from equipoise.diagnosis.options import DiagnosisOptions
from equipoise.diagnosis.state import Diagnosis


def diagnose_captured(options: DiagnosisOptions, train: Captured, val: Captured) -> Diagnosis:
    """Measure the learning states of all modalities; the same in all processes that share the samples."""
    blocks = (train.blocks, val.blocks) if train.blocks and val.blocks else None
    if blocks is None:
        train, val = (part.whole() if part.blocks else part for part in (train, val))
    return diagnose_with(options, train.features, train.target, val.features, val.target, blocks)
