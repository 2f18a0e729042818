"""Batches of a prepared dataset, from memory if the features fit, else from the memory map."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from equipoise.data.format.augment import Augmenter, AugmentOptions
from equipoise.data.format.content import chunks
from equipoise.data.format.modality import ModalitySpec
from equipoise.data.format.normalize import Normalizer, fit_normalizers
from equipoise.data.format.order import EpochOrder, Positions
from equipoise.data.format.prepared import PreparedDataset
from equipoise.data.format.splits import Splits
from equipoise.randomness import derive_seed
from equipoise.types import Batch, DataError, EquipoiseWarning, UsageError

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
        scale: mean and standard deviation of a numeric target, which is standardised.

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
        scale: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self._augmenter = augmenter
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
        self.in_memory = 4 * numbers * len(indices) <= memory_limit
        if self.in_memory:
            self._features = {name: self._read_all(spec) for name, spec in dataset.modalities.items()}
            self._maps, self._dataset = {}, None  # no other row stays reachable from here

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        where = torch.as_tensor(positions, dtype=torch.int64).reshape(-1)
        index = self.indices[where]
        if self.in_memory:
            inputs = {name: features[where] for name, features in self._features.items()}
        else:
            rows = index.numpy()
            inputs = {name: self._read(name, rows) for name in self._normalizers}
        if self._augmenter is not None and isinstance(positions, Positions):
            inputs = self._augmenter(inputs, index, positions.epoch)
        return Batch(inputs, self.target[where], index)

    def __getstate__(self) -> dict[str, Any]:
        # Pickling a memory map copies all features; each worker process opens its own map.
        return {**self.__dict__, "_maps": {}}

    def _read(self, name: str, rows: NDArray[np.int64]) -> torch.Tensor:
        if name not in self._maps and self._dataset is not None:
            self._maps[name] = np.asarray(self._dataset.array(name))
        return torch.from_numpy(self._normalizers[name](self._maps[name][rows]))

    def _read_all(self, spec: ModalitySpec) -> torch.Tensor:
        features = torch.empty(len(self), *spec.shape)
        for part in chunks(len(self), spec.row_bytes):
            features[part] = self._read(spec.name, self.indices[part].numpy())
        return features


class _Loader(DataLoader[Batch]):
    """A loader that takes batches right from the samples where no other process reads them.

    The loader of torch is made for single samples that are put together; what it does around each takes a
    twentieth of the step of a small model.
    """

    def __iter__(self) -> Any:
        if self.num_workers:
            return super().__iter__()
        return map(self.dataset.__getitem__, self.sampler)


def make_loader(
    data: SplitData,
    batch_size: int,
    *,
    seed: int = 0,
    shuffle: bool = False,
    num_workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader[Batch]:
    """Return a loader of batches; iteration does not use torch's global random state.

    `num_workers` processes read ahead if the features are not in memory. For the other arguments and the
    errors see `EpochOrder`; `loader.sampler.set_epoch(e)` sets the epoch of a shuffled loader.
    """
    order = EpochOrder(len(data), batch_size, seed=seed, shuffle=shuffle, rank=rank, world_size=world_size)
    workers = 0 if data.in_memory else num_workers
    return _Loader(
        data,
        batch_size=None,
        sampler=order,
        num_workers=workers,
        collate_fn=_as_it_is,
        # Without its own generator, the loader would draw a seed for workers from the global state.
        generator=torch.Generator().manual_seed(derive_seed(seed, "workers")),
        persistent_workers=workers > 0,
    )


class RunData:
    """The data of one run: loaders of train and validation, and a test split that can be opened once.

    `seed` is that of the run: only the order and the augmentation of training batches depend on it. `augment`
    augments training batches, and no others. For the other arguments see `SplitData` and `make_loader`.

    Attributes:
        train: shuffled loader; call `set_epoch(e)` before each epoch.
        train_samples: the training split, by position.
        train_eval: the same samples in order, for diagnosis and evaluation.
        val: validation in order.
        val_samples: the validation split, by position.
        classes: names of classes or labels; empty for a numeric target.
        task: kind of the target.
        target_scale: mean and standard deviation of a numeric target over the training split; else (0, 1).
        modality_specs: modality to description.
        normalizers: modality to normaliser, fitted on train.
        sizes: number of samples of each split.
        name: of the dataset.
        dataset_fingerprint: of the dataset.
        split_fingerprint: of the splits.
        split_origin: where the splits come from.

    Raises:
        DataError: a split is empty or names rows that do not exist.
        UsageError: batch size, rank or world size is invalid.
    """

    def __init__(
        self,
        dataset: PreparedDataset,
        splits: Splits,
        batch_size: int,
        seed: int = 0,
        *,
        num_workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        memory_limit: int = MEMORY_LIMIT,
        augment: AugmentOptions | None = None,
    ) -> None:
        splits.check_rows(len(dataset))
        self.classes, self.modality_specs = dataset.classes, dict(dataset.modalities)
        self.task, self.target_scale = dataset.task, _target_scale(dataset, splits)
        self.normalizers = fit_normalizers(dataset, splits.train)
        self.sizes = {name: len(rows) for name, rows in splits.items()}
        self.name, self.dataset_fingerprint = dataset.name, dataset.fingerprint
        self.split_fingerprint, self.split_origin = splits.fingerprint, splits.origin
        serve = partial(
            SplitData,
            dataset,
            normalizers=self.normalizers,
            memory_limit=memory_limit,
            scale=self.target_scale,
        )
        load = partial(
            make_loader,
            batch_size=batch_size,
            seed=seed,
            num_workers=num_workers,
            rank=rank,
            world_size=world_size,
        )

        def load_test() -> DataLoader[Batch]:
            return load(serve(splits.test))

        augmenter = None
        if augment is not None:
            augmenter = Augmenter(self.modality_specs, self.normalizers, augment, seed)
            if not augmenter.contents:
                warnings.warn(
                    f"no modality of {dataset.name!r} has a content, so that none is augmented; write the "
                    "dataset with contents={modality: 'frames', 'spectrogram' or 'flow'}.",
                    EquipoiseWarning,
                    stacklevel=2,
                )
        train = serve(splits.train, augmenter=augmenter)
        self.train_samples = train
        self.train, self.train_eval = load(train, shuffle=True), load(train)
        self.set_epoch: Callable[[int], None] = self.train.sampler.set_epoch  # type: ignore[attr-defined]
        self.val_samples = serve(splits.val)
        self.val = load(self.val_samples)
        # A closure: no attribute that training code can reach refers to the test split.
        self._load_test: Callable[[], DataLoader[Batch]] | None = load_test

    @property
    def class_count(self) -> int:
        """Number of classes or labels C; 1 for a numeric target."""
        return len(self.classes) or 1

    def open_test(self) -> DataLoader[Batch]:
        """Return the test loader; possible only once.

        Raises:
            UsageError: it was opened before.
            DataError: the test split is empty.
        """
        if self._load_test is None:
            raise UsageError(
                f"the test split of {self.name!r} was opened already; it is opened once in a run, after all "
                "decisions: keep its results, and make decisions on validation."
            )
        load_test, self._load_test = self._load_test, None
        return load_test()


def _target_scale(dataset: PreparedDataset, splits: Splits) -> tuple[float, float]:
    if dataset.task != "regression":
        return 0.0, 1.0
    values = dataset.target[splits.train]
    spread = float(values.std())
    if not spread:
        raise DataError(
            f"the target of {dataset.name!r} is {values[0]} for all training samples; expected different "
            "numbers."
        )
    return float(values.mean()), spread


def _as_it_is(batch: Any) -> Any:
    return batch
