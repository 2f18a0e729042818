"""Batches of a prepared dataset, from memory if the features fit, else from the memory map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from equipoise.data.format.augment import Augmenter
from equipoise.data.format.content import chunks
from equipoise.data.format.modality import ModalitySpec
from equipoise.data.format.noise import ReadNoise
from equipoise.data.format.normalize import Normalizer
from equipoise.data.format.order import EpochOrder, Positions
from equipoise.data.format.prepared import PreparedDataset
from equipoise.data.format.read_ahead import ReadingAhead, failed
from equipoise.randomness import derive_seed
from equipoise.sharing import Blocks, SharedBatch
from equipoise.types import Batch, DataError

MEMORY_LIMIT = 512 * 2**20
"""Splits of at most this many bytes as float32 are kept in memory."""


class SplitData(TorchDataset[Batch]):
    """The samples of one split, normalised to float32.

    Item `[positions]` (a list of positions in the split) is a `Batch` of these samples; its `index` holds
    their rows in the prepared dataset. Values from memory and from the memory map are the same.

    Args:
        dataset: holds the features.
        indices: rows of this split, sorted.
        normalizers: modality to normaliser, fitted on the train split.
        memory_limit: keep the features in memory if they take at most this many bytes as float32.
        augmenter: changes batches whose positions have an epoch, see `Positions`.
        noise: is added to all batches.
        scale: mean and standard deviation of a numeric target, which is standardised.
        share: this process and the number of those that share every batch (`SharedBatch`). Its inputs are
            then read from the memory map, each by one process.

    Attributes:
        indices: rows of this split `[n]` (int64).
        target: their class indices `[n]` (int64), labels `[n, C]` (float32), or standardised numbers `[n]`
            (float32).
        in_memory: whether the features are kept in memory.

    Raises:
        DataError: the split is empty.
    """

    def __init__(
        self,
        dataset: PreparedDataset,
        indices: NDArray[np.int64],
        normalizers: Mapping[str, Normalizer],
        *,
        memory_limit: int = MEMORY_LIMIT,
        augmenter: Augmenter | None = None,
        noise: ReadNoise | None = None,
        scale: tuple[float, float] = (0.0, 1.0),
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._augmenter, self._noise, self.share = augmenter, noise, share
        if not len(indices):
            raise DataError(f"a split of {dataset.name!r} is empty; give it at least one sample.")
        self.indices = torch.tensor(indices, dtype=torch.int64)
        values = dataset.target[indices]
        if dataset.task == "regression":
            values = (values - scale[0]) / scale[1]
        kind = torch.int64 if dataset.task == "classification" else torch.float32
        self.target = torch.tensor(values, dtype=kind)
        self._normalizers = dict(normalizers)
        self._maps: dict[str, NDArray[Any]] = {}
        self._features: dict[str, torch.Tensor] = {}
        self._dataset: PreparedDataset | None = dataset
        numbers = sum(int(np.prod(spec.shape, dtype=np.int64)) for spec in dataset.modalities.values())
        self.in_memory = share[1] == 1 and 4 * numbers * len(indices) <= memory_limit
        if self.in_memory:
            self._features = {name: self._read_all(spec) for name, spec in dataset.modalities.items()}
            self._maps, self._dataset = {}, None  # no other row stays reachable from here

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        try:
            return self._batch(positions)
        except Exception as error:
            return failed(error)  # type: ignore[return-value]  # the loader raises what this stands for

    def _batch(self, positions: Sequence[int]) -> Batch:
        where = torch.as_tensor(positions, dtype=torch.int64).reshape(-1)
        epoch = positions.epoch if isinstance(positions, Positions) else None
        rank, processes = self.share
        if processes == 1:
            return self._read_batch(where, epoch)
        own = self._read_batch(where[rank::processes], epoch)
        return SharedBatch.of(own, self.target[where], self.indices[where], rank, processes)

    def alone(self) -> SplitData:
        """Return the same samples, of which this process reads every batch by itself."""
        found = copy(self)
        found.share = 0, 1
        return found

    def block(
        self, positions: Sequence[int], batch_size: int, num_workers: int = 0
    ) -> tuple[Blocks, DataLoader[Batch]] | None:
        """Return the blocks of some samples, and a loader of this process's, in order and not augmented.

        None if this process has all of them.
        """
        if self.share[1] == 1:
            return None
        blocks = Blocks.shared(len(positions))
        own, size = positions[blocks.own], max(1, batch_size // self.share[1])
        order: Any = [list(own[start : start + size]) for start in range(0, len(own), size)]
        return blocks, ReadingAhead(
            self.alone(),
            batch_size=None,
            sampler=order,
            num_workers=num_workers,
            collate_fn=_as_it_is,
            generator=torch.Generator(),
        )

    def _read_batch(self, where: torch.Tensor, epoch: int | None) -> Batch:
        index = self.indices[where]
        if self.in_memory:
            inputs = {name: features[where] for name, features in self._features.items()}
        else:
            rows = index.numpy()
            inputs = {name: self._read(name, rows) for name in self._normalizers}
        if self._noise is not None:
            inputs = self._noise(inputs, index, epoch)
        if self._augmenter is not None and epoch is not None:
            inputs = self._augmenter(inputs, index, epoch)
        return Batch(inputs, self.target[where], index)

    def __getstate__(self) -> dict[str, Any]:
        # Pickling a memory map copies all features; each worker process opens its own map.
        return {**self.__dict__, "_maps": {}}

    def _read(self, name: str, rows: NDArray[np.int64]) -> torch.Tensor:
        if self._dataset is not None:
            self._dataset.check_unchanged(name)
            if name not in self._maps:
                self._maps[name] = np.asarray(self._dataset.array(name))
        return torch.from_numpy(self._normalizers[name](self._maps[name][rows]))

    def _read_all(self, spec: ModalitySpec) -> torch.Tensor:
        features = torch.empty(len(self), *spec.shape)
        for part in chunks(len(self), spec.row_bytes):
            features[part] = self._read(spec.name, self.indices[part].numpy())
        return features


class SplitLoader(ReadingAhead):
    """A loader of a split, which takes batches right from the samples where no other process reads them.

    The loader of torch is made for single samples that are put together; what it does around each takes a
    twentieth of the step of a small model.
    """

    dataset: SplitData

    def __iter__(self) -> Any:
        if self.num_workers:
            return super().__iter__()
        return map(self.dataset.__getitem__, self.sampler)

    def own_block(self) -> tuple[Blocks, DataLoader[Batch]] | None:
        """Return the blocks of all samples and a loader of this process's, see `SplitData.block`."""
        sampler: Any = self.sampler
        return self.dataset.block(range(len(self.dataset)), sampler.batch_size, self.num_workers)


def make_loader(
    data: SplitData,
    batch_size: int,
    *,
    seed: int = 0,
    shuffle: bool = False,
    num_workers: int = 0,
) -> SplitLoader:
    """Return a loader of batches; iteration does not use torch's global random state.

    `num_workers` processes read ahead if the features are not in memory. For the other arguments and the
    errors see `EpochOrder`; `loader.sampler.set_epoch(e)` sets the epoch of a shuffled loader.
    """
    order = EpochOrder(len(data), batch_size, seed=seed, shuffle=shuffle, processes=data.share[1])
    workers = 0 if data.in_memory else num_workers
    return SplitLoader(
        data,
        batch_size=None,
        sampler=order,
        num_workers=workers,
        collate_fn=_as_it_is,
        # Without its own generator, the loader would draw a seed for workers from the global state.
        generator=torch.Generator().manual_seed(derive_seed(seed, "workers")),
        persistent_workers=workers > 0,
    )


def _as_it_is(batch: Any) -> Any:
    return batch
