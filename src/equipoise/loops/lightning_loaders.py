"""The batches that Lightning's Trainer gives its module, for passes outside its own loops."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from math import ceil, inf
from typing import Any

from equipoise.diagnosis.features.transferred import Transferred
from equipoise.types import UsageError, warn

Choice = Iterable[Any] | str | int | None
"""A loader, or the name of one of the Trainer's: its key or position, or its path (`"clean/0"`)."""


def check_choice(choice: Choice, parameter: str) -> None:
    """Refuse a given loader without a length, as it may be endless."""
    if not _is_name(choice) and _length(choice) is None:
        raise UsageError(
            f"{parameter} is a {type(choice).__name__} without a length, and would be read to its end; give "
            "a loader with a length."
        )


def training_loader(trainer: Any, choice: Choice) -> Transferred:
    """Return the training batches as the module gets them.

    Raises:
        UsageError: the Trainer has several training loaders, or none of that name.
    """
    found = trainer.train_dataloader if _is_name(choice) else choice
    return _chosen(trainer, "training", found, choice, trainer.limit_train_batches)


def validation_loader(trainer: Any, choice: Choice) -> Transferred:
    """Return the validation batches as the module gets them; by default of the first loader.

    Raises:
        UsageError: the Trainer has no validation loader, or none of that name.
    """
    if _is_name(found := choice):
        trainer.fit_loop.epoch_loop.val_loop.setup_data()
        found = trainer.val_dataloaders
    if found is None or (_is_name(choice) and not [*_named(found)]):
        raise UsageError(
            "the gap is one between training and validation, and the Trainer has no validation loader (it "
            "uses none without validation_step, or with limit_val_batches=0; found "
            f"{trainer.limit_val_batches}); give it one, or give the callback val_loader=."
        )
    return _chosen(trainer, "validating", found, choice, trainer.limit_val_batches)


def planned_epochs(trainer: Any) -> float:
    """Return the number of epochs that the Trainer will make, by its limits of epochs and of steps.

    Raises:
        UsageError: one epoch may never end.
    """
    most = inf if trainer.max_epochs is None or trainer.max_epochs < 0 else trainer.max_epochs
    if trainer.num_training_batches == inf:
        if most == inf:
            raise UsageError(
                "the training loader has no length, so that an epoch may never end, and encoders are "
                "re-learnt between epochs; give the Trainer limit_train_batches, the number of batches of an "
                "epoch."
            )
        return most
    steps = ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    return most if trainer.max_steps < 0 else min(most, ceil(trainer.max_steps / steps))


def _transferred(trainer: Any, stage: str, index: int, batch: Any) -> Any:
    """Return a batch as the Trainer's loops make it, with the hooks of module and datamodule."""
    setattr(trainer, stage, True)
    try:
        batch = trainer.precision_plugin.convert_input(batch)
        batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=index)
        return trainer.strategy.batch_to_device(batch, dataloader_idx=index)
    finally:
        trainer.training = True


def _named(found: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield path and loader of a collection, in the order in which Lightning counts them."""
    if isinstance(found, Mapping | list | tuple):
        for key, value in found.items() if isinstance(found, Mapping) else enumerate(found):
            yield from _named(value, f"{path}/{key}".lstrip("/"))
    else:
        yield path, found


def _chosen(trainer: Any, stage: str, found: Any, choice: Choice, limit: float) -> Transferred:
    """Return the loader of that name, by default the first, within the Trainer's limit; or the given one."""
    if not _is_name(choice):
        return Transferred(found, partial(_transferred, trainer, stage, 0))
    loaders, training = dict(_named(found)), stage == "training"
    name = next(iter(loaders)) if choice is None else str(choice)
    if name not in loaders or (training and choice is None and len(loaders) > 1):
        raise UsageError(
            f"the Trainer has the {'training' if training else 'validation'} loaders "
            f"{', '.join(loaders) or '(one without a name)'}, and "
            f"{'none was chosen' if choice is None else f'not {name!r}'}; give "
            f"{'train' if training else 'val'}_loader= the name of one of them, or another loader."
        )
    if choice is None and len(loaders) > 1:
        warn(
            f"the Trainer has the validation loaders {', '.join(loaders)}; modalities are diagnosed on the "
            f"first, {name}: give val_loader= the name of another to change that."
        )
    transfer = partial(_transferred, trainer, stage, 0 if training else list(loaders).index(name))
    return Transferred(loaders[name], transfer, _limit(loaders[name], limit))


def _is_name(choice: Choice) -> bool:
    return choice is None or isinstance(choice, str | int)


def _length(loader: Any) -> int | None:
    try:
        return len(loader)
    except TypeError:
        return None


def _limit(loader: Any, limit: float) -> int | None:
    """Return how many batches the Trainer takes; None if it takes all."""
    size = _length(loader)
    if size is None:
        return limit if isinstance(limit, int) else None
    count = min(size, limit) if isinstance(limit, int) else int(size * limit)
    return None if count == size else count
