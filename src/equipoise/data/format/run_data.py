"""The data of one run: loaders of train and validation, and a test split that opens once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import copy
from functools import partial

from equipoise.data.format.augment import Augmenter, AugmentOptions
from equipoise.data.format.batches import MEMORY_LIMIT, SplitData, SplitLoader, make_loader
from equipoise.data.format.noise import ReadNoise
from equipoise.data.format.normalize import fit_normalizers
from equipoise.data.format.prepared import PreparedDataset
from equipoise.data.format.splits import Splits
from equipoise.distributed import by_first
from equipoise.types import DataError, EquipoiseWarning, UsageError


class RunData:
    """The data of one run: loaders of train and validation, and a test split that can be opened once.

    `seed` is that of the run: only the order, the augmentation and the noise of training batches depend on
    it. `augment` augments training batches, and no others. For the other arguments see `SplitData` and
    `make_loader`.

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
        preparation: how the dataset was made from files, see `PreparedDataset`.
        sizes: number of samples of each split.
        name: of the dataset.
        dataset_fingerprint: of the dataset.
        split_fingerprint: of the splits.
        split_origin: where the splits come from.
        test_closed: whether the test split cannot be opened at all.

    Raises:
        DataError: a split is empty or names rows that do not exist.
        UsageError: the batch size is invalid.
    """

    def __init__(
        self,
        dataset: PreparedDataset,
        splits: Splits,
        batch_size: int,
        seed: int = 0,
        *,
        num_workers: int = 0,
        share: tuple[int, int] = (0, 1),
        memory_limit: int = MEMORY_LIMIT,
        augment: AugmentOptions | None = None,
    ) -> None:
        splits.check_rows(len(dataset))
        self.classes, self.modality_specs = dataset.classes, dict(dataset.modalities)
        self.task, self.target_scale = dataset.task, _target_scale(dataset, splits)
        self.normalizers = by_first(lambda: fit_normalizers(dataset, splits.train))
        self.sizes = {name: len(rows) for name, rows in splits.items()}
        self.name, self.dataset_fingerprint = dataset.name, dataset.fingerprint
        self.preparation = dataset.preparation
        self.split_fingerprint, self.split_origin = splits.fingerprint, splits.origin
        noise = ReadNoise(self.modality_specs, self.normalizers, seed)
        serve = partial(
            SplitData,
            dataset,
            normalizers=self.normalizers,
            noise=noise if noise.levels else None,
            memory_limit=memory_limit,
            scale=self.target_scale,
            share=share,
        )
        self._load = load = partial(make_loader, batch_size=batch_size, seed=seed, num_workers=num_workers)

        def load_test() -> SplitLoader:
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
        self._load_test: Callable[[], SplitLoader] | None = load_test
        self.test_closed = False

    @property
    def class_count(self) -> int:
        """Number of classes or labels C; 1 for a numeric target."""
        return len(self.classes) or 1

    def alone(self) -> RunData:
        """Return the same training and validation data, which this process reads by itself."""
        if self.train_samples.share[1] == 1:
            return self
        found = copy(self)
        found.train_samples, found.val_samples = self.train_samples.alone(), self.val_samples.alone()
        found.train, found.train_eval = (
            self._load(found.train_samples, shuffle=shuffle) for shuffle in (True, False)
        )
        found.val = self._load(found.val_samples)
        return found

    def close_test(self) -> None:
        """Make it impossible to open the test split: for runs by which settings are chosen."""
        self._load_test, self.test_closed = None, True

    def open_test(self) -> SplitLoader:
        """Return the test loader; possible only once.

        Raises:
            UsageError: it was opened before, or closed.
            DataError: the test split is empty.
        """
        if self.test_closed:
            raise UsageError(
                f"the test split of {self.name!r} is closed: settings are chosen by this run, which must not "
                "see it."
            )
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
