"""The numbers of a diagnosis under the names that they are logged by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from equipoise.diagnosis.state import Diagnosis
from equipoise.tracking.series import of_modality

PREFIX: Final = "equipoise"
"""First part of the names of all logged numbers."""


def named(values: Mapping[str, float]) -> dict[str, float]:
    """Return numbers under the names that they are logged by."""
    return {f"{PREFIX}/{name}": value for name, value in values.items()}


def scores(diagnosis: Diagnosis) -> dict[str, dict[str, float]]:
    """Return scores, gap and strength of each modality, where they exist, under the names of `series`."""
    return {name: of_modality(name, vars(state)) for name, state in diagnosis.items()}


def flat(diagnosis: Diagnosis) -> dict[str, float]:
    """Return the numbers of all modalities in one mapping, see `scores`."""
    return {key: value for own in scores(diagnosis).values() for key, value in own.items()}
