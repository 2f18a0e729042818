"""Events of a run as named numbers, the curves of a tracker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

SPLITS: Final = ("train", "val", "test")
AFTER: Final = "after-relearning/"
"""First part of the names of what is measured once more in an epoch, after its re-learning."""


def series(event: Mapping[str, Any], *, again: bool = False) -> dict[str, float]:
    """Return the numbers of an event by name; texts and what is missing are left out.

    Losses and figures are `train/loss`, `val/accuracy`, `test/accuracy`; what is measured of a modality is
    `purity/audio/train`, `purity/audio/val` (or another metric's name) and `gap/audio`, and `strength/audio`
    where it was re-learnt. Other events keep their kind: `information/traces/audio`.

    Args:
        event: of a run record.
        again: whether a re-learning of the same epoch was measured before.
    """
    kind = str(event.get("event", ""))
    values = {key: value for key, value in event.items() if key not in ("event", "epoch")}
    if isinstance(modalities := values.get("modalities"), Mapping):
        prefix = AFTER if again else ""
        return {f"{prefix}{k}": v for name, s in modalities.items() for k, v in of_modality(name, s).items()}
    if kind in ("epoch", "test"):
        return {_of_split(key): float(value) for key, value in values.items() if _is_number(value)}
    return numbers(values, kind)


def numbers(value: Any, path: str) -> dict[str, float]:
    """Return the numbers within nested mappings by their path."""
    if isinstance(value, Mapping):
        return {k: v for key, inner in value.items() for k, v in numbers(inner, f"{path}/{key}").items()}
    return {path: float(value)} if _is_number(value) else {}


def of_modality(name: str, state: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of the learning state of a modality by name, see `series`."""
    found = {
        f"{state['metric']}/{name}/train": state["train_score"],
        f"{state['metric']}/{name}/val": state["val_score"],
        f"gap/{name}": state["gap"],
        f"strength/{name}": state["applied"],
    }
    return {key: float(value) for key, value in found.items() if _is_number(value)}


def _of_split(key: str) -> str:
    split, _, figure = key.partition("_")
    return f"{split}/{figure}" if split in SPLITS and figure else key


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
