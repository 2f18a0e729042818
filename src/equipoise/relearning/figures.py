"""The numbers of a diagnosis under the names that they are logged by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from equipoise.diagnosis.state import Diagnosis

PREFIX: Final = "equipoise"
"""First part of the names of all logged numbers."""


def named(values: Mapping[str, float]) -> dict[str, float]:
    """Return numbers under the names that they are logged by."""
    return {f"{PREFIX}/{name}": value for name, value in values.items()}


def scores(diagnosis: Diagnosis) -> dict[str, dict[str, float]]:
    """Return scores, gap and strength of each modality by `MODALITY/NAME`, where they exist."""
    return {
        name: {
            f"{name}/{key}": value
            for key, value in (
                ("train_score", state.train_score),
                ("val_score", state.val_score),
                ("gap", state.gap),
                ("strength", state.applied),
            )
            if value is not None
        }
        for name, state in diagnosis.items()
    }


def flat(diagnosis: Diagnosis) -> dict[str, float]:
    """Return the numbers of all modalities in one mapping, see `scores`."""
    return {key: value for own in scores(diagnosis).values() for key, value in own.items()}
