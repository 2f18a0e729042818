"""Batches in order for passes outside the training of transformers' Trainer."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader, DistributedSampler, IterableDataset

from equipoise.distributed import process_count
from equipoise.types import UsageError


def loader_in_order(dataset: Any, collate: Any, args: Any, parameter: str) -> DataLoader[Any]:
    """Return batches in order, a share for each process; the Trainer's own loader is already in use.

    Raises:
        UsageError: the dataset has no length; `parameter` is that of the callback for another one.
    """
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise UsageError(
            f"a {type(dataset).__name__} cannot be read a second time in order; give {parameter}= a dataset "
            "with a length to diagnose on."
        )
    sampler: Any = DistributedSampler(dataset, shuffle=False) if process_count() > 1 else None
    return DataLoader(
        dataset, batch_size=args.per_device_eval_batch_size, sampler=sampler, collate_fn=collate
    )


class Measured:
    """The batches that a method compares between epochs: training and validation samples of a Trainer.

    Args:
        train, val: datasets that the callback was given, if any.
        loader: of the Trainer's training set.
        args: those of the Trainer.

    Attributes:
        evaluated: the loader that the Trainer has evaluated on last, if it has.

    Raises:
        UsageError: no validation set was given, and the Trainer will not evaluate.
    """

    def __init__(self, train: Any, val: Any, loader: Any, args: Any) -> None:
        self._train, self._val, self._args = loader.dataset if train is None else train, val, args
        self._collate = loader.collate_fn
        self.evaluated: Any = None
        if val is None and args.eval_strategy == "no" and not args.eval_on_start:
            raise self._missing()

    def train(self) -> DataLoader[Any]:
        """Return the training batches in order."""
        return loader_in_order(self._train, self._collate, self._args, "train_dataset")

    def val(self) -> DataLoader[Any]:
        """Return the validation batches in order.

        Raises:
            UsageError: the Trainer has not evaluated yet, or on a dataset without a length.
        """
        dataset, collate = self._val, self._collate
        if dataset is None:
            if self.evaluated is None:
                raise self._missing()
            dataset, collate = self.evaluated.dataset, self.evaluated.collate_fn
        return loader_in_order(dataset, collate, self._args, "val_dataset")

    def _missing(self) -> UsageError:
        return UsageError(
            "the method compares training with validation samples between epochs, and the Trainer has not "
            "evaluated before; give the callback val_dataset=, or the Trainer eval_on_start=True."
        )
