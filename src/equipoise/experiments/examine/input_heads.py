"""The score of a linear head on each modality's inputs: what its encoder should reach at least."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from equipoise.diagnosis.contribution.refits import refits_of
from equipoise.types import Batch

WIDTH: Final = 1024
"""Numbers of a sample up to which all are read; of more, as many random projections."""


def input_scores(train: Iterable[Batch], val: Iterable[Batch], seed: int = 0) -> dict[str, float]:
    """Return modality to the validation score of a linear head fitted to its inputs of the training split.

    An encoder whose features give less than its inputs has not learnt what they contain. Inputs of more than
    `WIDTH` numbers (videos, spectrograms) are projected at random (Johnson and Lindenstrauss, 1984), so that
    memory and time stay small.
    """
    x, y = _flat(train, seed)
    x_val, y_val = _flat(val, seed)
    return {m: refits_of({m: x[m]}, y, {m: x_val[m]}, y_val).alone[m] for m in x}


def _flat(batches: Iterable[Batch], seed: int) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    found: dict[str, list[NDArray[Any]]] = {}
    targets, maps = [], {}
    for batch in batches:
        for name, values in batch.inputs.items():
            rows = values.numpy().reshape(len(values), -1).astype(np.float32)
            if rows.shape[1] > WIDTH:
                if name not in maps:
                    generator = np.random.default_rng([seed, *name.encode()])
                    maps[name] = generator.standard_normal((rows.shape[1], WIDTH), dtype=np.float32)
                rows = rows @ maps[name]
            found.setdefault(name, []).append(rows)
        targets.append(batch.target.numpy())
    return {name: np.concatenate(rows) for name, rows in found.items()}, np.concatenate(targets)
