"""What a linear model reads of inputs: values, statistics, means of blocks, or words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from equipoise.data.format.modality import ModalitySpec
from equipoise.training.measuring.probes import standardised
from equipoise.types import Batch

WIDTH: Final = 1024
"""Numbers of a sample that a linear model reads at most of one view of a modality."""
SEGMENTS: Final = 8
"""Blocks along time at most."""
VALUES, STATISTICS, WORDS = "values", "mean, std, min, max", "bag of words"

Array = NDArray[Any]
View = Callable[[Tensor], Tensor]


class InputViews:
    """The views of each modality, from inputs `[B, ...]` to `[B, D]`.

    - `values`: all numbers, if they are at most `WIDTH` (vectors: always, see below).
    - `mean, std, min, max` of each feature of a sequence over time, of each channel over all positions.
    - `means of blocks T x H x W`: of equal parts of time, height and width, for inputs that are too wide.
    - `bag of words`: whether each of the `WIDTH` most frequent tokens of the training split occurs.

    A view that is still too wide is projected at random (Johnson and Lindenstrauss, 1984), always by the same
    projection.
    """

    def __init__(self, specs: Mapping[str, ModalitySpec]) -> None:
        self._views = {name: _views_of(spec) for name, spec in specs.items()}

    def of(self, batches: Iterable[Batch]) -> dict[str, dict[str, Array]]:
        """Return, by modality and view, the numbers of all samples; only these are kept of the inputs."""
        found: dict[str, dict[str, list[Array]]] = {
            m: {name: [] for name in views} for m, views in self._views.items()
        }
        for batch in batches:
            for m, views in self._views.items():
                for name, view in views.items():
                    found[m][name].append(self._narrow(m, name, view(batch.inputs[m]).numpy()))
        return {m: {name: np.concatenate(parts) for name, parts in own.items()} for m, own in found.items()}

    def features(
        self, modality: str, train: Mapping[str, Array], val: Mapping[str, Array]
    ) -> dict[str, tuple[Array, Array]]:
        """Return the views of both splits, scaled by the training split."""
        if WORDS in self._views[modality]:
            return {WORDS: _bags(train[WORDS], val[WORDS])}
        return {name: standardised(train[name], val[name]) for name in train}

    def _narrow(self, modality: str, name: str, rows: Array) -> Array:
        if name == WORDS or rows.shape[1] <= WIDTH:
            return rows
        generator = np.random.default_rng([*modality.encode(), *name.encode()])
        return rows @ generator.standard_normal((rows.shape[1], WIDTH), dtype=np.float32)


def _views_of(spec: ModalitySpec) -> dict[str, View]:
    if spec.kind == "tokens":
        return {WORDS: _flat}
    if spec.kind == "vector":
        return {VALUES: _flat}
    if int(np.prod(spec.shape, dtype=np.int64)) <= WIDTH:
        return {VALUES: _flat, STATISTICS: partial(_statistics, spec.kind)}
    counts = _block_counts(spec)
    blocks = f"means of {' x '.join(map(str, counts))} blocks"
    return {STATISTICS: partial(_statistics, spec.kind), blocks: partial(_blocks, spec.kind, counts)}


def _flat(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1)


def _statistics(kind: str, x: Tensor) -> Tensor:
    axes = {"sequence": (1,), "image": (2, 3), "video": (1, 3, 4)}[kind]
    spread = x.std(dim=axes, correction=0)
    return torch.cat([_flat(part) for part in (x.mean(axes), spread, x.amin(axes), x.amax(axes))], dim=1)


def _block_counts(spec: ModalitySpec) -> tuple[int, ...]:
    """Return the number of parts of each axis but that of features or channels."""
    if spec.kind == "sequence":
        steps, width = spec.shape
        return (min(steps, max(1, WIDTH // width)),)
    channels, *sides = spec.shape[-3:]
    times = (min(spec.shape[0], SEGMENTS),) if spec.kind == "video" else ()
    positions = WIDTH / (channels * math.prod(times))
    share = min(1.0, math.sqrt(positions / math.prod(sides)))
    return (*times, *(max(1, int(side * share)) for side in sides))


def _blocks(kind: str, counts: tuple[int, ...], x: Tensor) -> Tensor:
    if kind == "sequence":
        return _flat(F.adaptive_avg_pool1d(x.transpose(1, 2), counts[0]))
    frames = x[:, None] if kind == "image" else x
    times, height, width = (1, *counts)[-3:]
    return _flat(F.adaptive_avg_pool3d(frames.transpose(1, 2), (times, height, width)))


def _bags(train: Array, val: Array) -> tuple[Array, Array]:
    """Return which of the most frequent tokens occur; 0 is no token, it ends a text."""
    tokens, counts = np.unique(train[train > 0], return_counts=True)
    kept = np.sort(tokens[np.lexsort((tokens, -counts))[:WIDTH]])
    return _bag(train, kept), _bag(val, kept)


def _bag(texts: Array, kept: Array) -> Array:
    bag = np.zeros((len(texts), max(1, len(kept))))
    for place, token in enumerate(kept):
        bag[:, place] = (texts == token).any(axis=1)
    return bag
