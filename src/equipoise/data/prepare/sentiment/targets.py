"""Targets made of sentiments, and samples that a target cannot use."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from equipoise.data.format.folder import listed
from equipoise.data.prepare.sentiment.utterances import MODALITIES, Utterances
from equipoise.types import DataError

Target = Literal["binary", "binary-nonzero", "seven", "regression"]
Empty = Literal["keep", "drop-text", "drop"]
_DROPPED: dict[Empty, tuple[str, ...]] = {"keep": (), "drop-text": ("text",), "drop": MODALITIES}
_CLASSES = {"binary": ("negative", "non-negative"), "binary-nonzero": ("negative", "positive")}


def drop_samples(samples: Utterances, empty: Empty, target: Target) -> None:
    """Remove samples with an empty modality, as `empty` says, and those that the target excludes.

    Raises:
        DataError: no sample is left.
    """
    zeros = {name: ~x.any(axis=tuple(range(1, x.ndim))) for name, x in samples.inputs.items()}
    counts = {name: int(rows.sum()) for name, rows in zeros.items()}
    keep = np.ones(len(samples.names), dtype=np.bool_)
    for name in _DROPPED[empty]:
        keep &= ~zeros[name]
    samples.facts["empty"] = {**counts, "left_out": int((~keep).sum())}
    for name, count in counts.items():
        if count:
            action = "removed" if name in _DROPPED[empty] else "kept"
            samples.notes.append(f"{name}: {count} samples contain only zeros and were {action}.")
    if target == "binary-nonzero":
        zero = keep & (samples.values == 0)
        samples.facts["zero_left_out"] = int(zero.sum())
        samples.notes.append(f"the target excludes {int(zero.sum())} samples with the sentiment 0.")
        keep &= ~zero
    if not keep.any():
        raise DataError("no sample is left; choose another target, or keep samples that are empty.")
    samples.select(keep)


def target_columns(samples: Utterances, target: Target) -> dict[str, Any]:
    """Return the arguments `target`, and `classes` or `task`, of `write_dataset`."""
    if target == "regression":
        return {"task": "regression", "target": samples.values}
    if target == "seven":
        # numpy.rint rounds halves to even, like the evaluation of MulT and MMSA.
        labels = np.rint(samples.values).astype(np.int64)
        classes = [str(label) for label in np.unique(labels).tolist()]
    else:
        labels = (samples.values >= 0).astype(np.int64)
        classes = [_CLASSES[target][label] for label in np.unique(labels).tolist()]
    if samples.splits is not None:
        for split in np.unique(samples.splits).tolist():
            absent = np.setdiff1d(labels, labels[samples.splits == split]).tolist()
            if absent:
                samples.notes.append(
                    f"the split {split} has no sample of {listed(absent)}; choose another target."
                )
    return {"target": labels, "classes": classes}
