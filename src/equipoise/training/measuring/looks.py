"""Looks: diagnoses during a training that change nothing, so few and small that they hardly slow it down."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from equipoise.data.format.batches import SplitData
from equipoise.diagnosis.estimate import stratified_rows
from equipoise.distributed import gathered
from equipoise.sharing import Blocks
from equipoise.tasks import CLASSIFICATION, Task
from equipoise.types import Batch

SHARE: Final = 0.05
"""Part of a training that its looks in between may take, by the estimate below."""
LEAST: Final = 3
"""Number of looks in a run, the last one included, however long they take."""
MOST: Final = 10
"""Number of looks in a run, however little they take, or whose weights are kept for a trace."""
SAMPLES: Final = 2000
"""Samples of a split that a look in between reads."""
STARTS: Final = 3
"""Starts of k-means in a look in between."""
SPEED: Final = 2e10
"""Operations per second of one core, roughly. Only the ratio of training and looks matters."""
CALL: Final = 1e-3
"""Seconds of a step, of a start of k-means, or of reading a batch, however small they are."""


class Looks:
    """Decides after which epochs a run is diagnosed, and on which samples.

    With `every` from the settings all samples are read, as by a re-learning. By default there are as many
    looks as `SHARE` allows, on a part of the samples. Their number follows from an estimate, and not from a
    clock, because it must be the same on other machines and in a resumed run. The look after the last epoch
    reads all samples.

    Attributes:
        every: epochs between looks; 0 for none, None as long as it is not known.
    """

    def __init__(self, every: int | None, epochs: int, train: SplitData, val: SplitData, task: Task) -> None:
        self.every, self.given = every, every is not None
        self._epochs, self._task = epochs, task
        self._operations = 0
        self._splits = train, val
        self._parts = [_some_rows(split.target.numpy(), task) for split in self._splits]

    def due(self, epoch: int) -> bool:
        """Return whether a look follows this epoch, not counting that after the last one."""
        return self.every is None or (self.every > 0 and epoch % self.every == 0)

    def whole(self, last: bool) -> bool:
        """Return whether a look reads all samples."""
        return last or self.given

    def samples(self, batch_size: int) -> tuple[Iterable[Batch], Iterable[Batch]]:
        """Return batches of the training and validation samples of a look in between."""
        train, val = (
            _Part(split, rows.tolist(), batch_size)
            for split, rows in zip(self._splits, self._parts, strict=True)
        )
        return train, val

    def options(self) -> Mapping[str, Any]:
        """Return the options of a diagnosis in between."""
        return {"n_init": STARTS} if self._task is CLASSIFICATION else {}

    @contextmanager
    def counted(self, model: nn.Module) -> Iterator[None]:
        """Count the operations of the passes in the block, if the number of looks is not yet known."""
        if self.every is not None:
            yield
            return
        hooks = [module.register_forward_hook(self._passed) for module in model.modules()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def plan(self, features: Mapping[str, Tensor], classes: int, batch_size: int) -> None:
        """Decide the number of looks after the first of them, whose training features these are."""
        if self.every is not None:
            return
        sizes = [len(rows) for rows in self._parts]
        operations = sum(gathered(self._operations))
        reading = operations / sum(sizes)
        total = len(self._splits[0])
        training = self._epochs * (math.ceil(total / batch_size) * CALL + 3 * total * reading / SPEED)
        look = sum(math.ceil(size / batch_size) for size in sizes) * CALL / 2 + operations / SPEED
        for z in features.values():
            for size in sizes:
                # About fifteen iterations of Lloyd's algorithm, and as much for the starts.
                look += STARTS * (CALL + 30 * 2 * size * z.shape[1] * classes / SPEED)
        looks = min(MOST, max(LEAST, int(SHARE * training / look)))
        self.every = max(1, math.ceil((self._epochs - 1) / (looks - 1)))

    def _passed(self, module: nn.Module, inputs: Any, output: Any) -> None:
        weights = sum(p.numel() for p in module.parameters(recurse=False) if p.ndim > 1)
        first = output[0] if isinstance(output, tuple) else output
        if not weights or isinstance(module, nn.Embedding | nn.EmbeddingBag) or not isinstance(first, Tensor):
            return
        of_maps = isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        channels = first.shape[1] if of_maps else first.shape[-1]
        self._operations += 2 * weights * (first.numel() // max(1, channels))


def _some_rows(target: NDArray[Any], task: Task) -> NDArray[np.int64]:
    """Return up to `SAMPLES` rows in order, of classes in proportion, and at least one of each class."""
    classified = task is CLASSIFICATION
    rows = stratified_rows(target, SAMPLES, np.random.default_rng(0), not classified)
    if not classified:
        return rows
    classes, first = np.unique(target, return_index=True)
    return np.union1d(rows, first[~np.isin(classes, target[rows])])


class _Part:
    """Some samples of a split, in order, batch by batch."""

    def __init__(self, split: SplitData, positions: list[int], batch_size: int) -> None:
        self._split, self._positions, self._batch_size = split, positions, batch_size

    def own_block(self) -> tuple[Blocks, Iterable[Batch]] | None:
        """Return the blocks of the samples and a loader of this process's, see `SplitData.block`."""
        return self._split.block(self._positions, self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self._positions), self._batch_size):
            yield self._split[self._positions[start : start + self._batch_size]]
