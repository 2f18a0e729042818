"""How loaders and their batches are read: in order, in shares of processes, and given to a model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
)

from equipoise.diagnosis.features.transferred import Transferred
from equipoise.distributed import gathered, process_count, unwrapped
from equipoise.randomness import isolated_rng
from equipoise.sharing import Blocks
from equipoise.types import Batch, UsageError

TARGET_KEYS = ("target", "targets", "label", "labels", "y")
AS_READER = ", as reader=equipoise.BatchReader(...) where there is a parameter reader."


@dataclass(frozen=True)
class BatchReader:
    """How a loader's batches are read and passed to the model.

    By default a batch is an `equipoise.Batch`; a tuple or list whose last entry is the target and whose other
    entries are the model's arguments; or a mapping with a key `target`, `targets`, `label`, `labels` or `y`.
    A mapping of inputs is passed by keyword if the parameters of `forward` have the names of its keys, else
    as one argument; the target is passed too if `forward` requires it.

    Attributes:
        inputs_of: batch to the model's input: a mapping, a tuple of arguments, or one value.
        target_of: batch to target `[B]`.
        forward: called as `forward(model, batch)` instead of all the above.
    """

    inputs_of: Callable[[Any], Any] | None = None
    target_of: Callable[[Any], Tensor] | None = None
    forward: Callable[[nn.Module, Any], Any] | None = None

    def target(self, batch: Any) -> Tensor:
        """Return the targets of a batch, `[B]`."""
        if self.target_of is not None:
            return torch.as_tensor(self.target_of(batch))
        if isinstance(batch, Batch):
            return batch.target
        if isinstance(batch, Mapping):
            return torch.as_tensor(batch[_target_key(batch)])
        if isinstance(batch, tuple | list) and len(batch) >= 2:
            return torch.as_tensor(batch[-1])
        raise UsageError(
            f"a batch of type {type(batch).__name__} has no known target; "
            f"give target_of=, a function from batch to labels{AS_READER}"
        )

    def run(self, model: nn.Module, batch: Any) -> Any:
        """Call the model on a batch on the model's device."""
        if self.forward is not None:
            return self.forward(model, batch)
        if self.inputs_of is not None:
            inputs = self.inputs_of(batch)
        elif isinstance(batch, Batch):
            return model(batch)
        elif isinstance(batch, Mapping):
            key = _target_key(batch)
            inputs = {name: value for name, value in batch.items() if name != key}
            if _keywords(model, inputs) is None and (named := _keywords(model, batch)) is not None:
                return model(**named)  # it cannot be called without the target
        elif isinstance(batch, tuple | list) and len(batch) >= 2:
            inputs = tuple(batch[:-1]) if len(batch) > 2 else batch[0]
        else:
            raise UsageError(
                f"a batch of type {type(batch).__name__} has no known inputs; give inputs_of=, a function "
                f"from batch to the model's input, or forward=, called with model and batch{AS_READER}"
            )
        if isinstance(inputs, Mapping):
            keywords = _keywords(model, inputs)
            return model(inputs) if keywords is None else model(**keywords)
        return model(*inputs) if isinstance(inputs, tuple) else model(inputs)

    def logits(self, model: nn.Module, batch: Any) -> Tensor:
        """Call the model and return its logits `[B, C]`, see `logits_in`.

        Raises:
            UsageError: the model returns none.
        """
        logits = logits_in(self.run(model, batch))
        if not isinstance(logits, Tensor):
            raise UsageError(
                f"the model returned a {type(logits).__name__}; expected logits: a tensor, or an output with "
                "'logits'; give forward= to return them."
            )
        return logits


def logits_in(output: Any) -> Any:
    """Return the logits in a model's output: `logits`, the first of a tuple that is no scalar, or itself."""
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if found is None and isinstance(output, tuple):
        found = next((value for value in output if isinstance(value, Tensor) and value.ndim), None)
    return output if found is None else found


def _target_key(batch: Mapping[Any, Any]) -> str:
    for key in TARGET_KEYS:
        if key in batch:
            return key
    raise UsageError(
        f"the batch has the keys {sorted(map(str, batch))} and none of {', '.join(TARGET_KEYS)}; "
        f"give target_of= and inputs_of=, functions from batch to labels and to the model's input{AS_READER}"
    )


def _keywords(model: nn.Module, inputs: Mapping[Any, Any]) -> dict[str, Any] | None:
    """Return the inputs that are parameters of `forward`, or None if it takes the mapping itself."""
    parameters = inspect.signature(unwrapped(model).forward).parameters.values()
    single = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    named = {p.name for p in single if p.kind is not p.POSITIONAL_ONLY}
    if not {p.name for p in single if p.default is p.empty} <= set(inputs):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return {str(key): value for key, value in inputs.items()}
    if named & set(inputs):
        return {key: value for key, value in inputs.items() if key in named}
    return None


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's first parameter or buffer; the CPU if it has none."""
    return next((p.device for p in chain(model.parameters(), model.buffers())), torch.device("cpu"))


def moved_batches(loader: Iterable[Any], device: torch.device, *, repeat: bool = False) -> Iterator[Any]:
    """Yield a loader's batches on `device`; with `repeat` again and again, until an iteration gives none.

    The loader is first iterated when the first batch is taken, as it may draw random numbers.
    """
    if not (hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")):
        raise UsageError(f"the loader is {loader!r}; expected an iterable of batches, such as a DataLoader.")
    found = True
    while found:
        found = False
        for batch in loader:
            found = repeat
            yield move_batch(batch, device)


def move_batch(value: Any, device: torch.device) -> Any:
    """Return a batch of any structure with its tensors on `device`."""
    if isinstance(value, Tensor | Batch):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: move_batch(entry, device) for key, entry in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(move_batch(entry, device) for entry in value))
    if isinstance(value, tuple | list):
        return type(value)(move_batch(entry, device) for entry in value)
    return value


def source_of(loader: Any) -> Any:
    """Return the loader inside a `Transferred`; any other loader unchanged."""
    return loader.loader if isinstance(loader, Transferred) else loader


@dataclass(frozen=True)
class Share:
    """The part of a dataset that one process reads, where several share it.

    Attributes:
        blocks: the samples of each process.
        own: batches of those of this process, if the loader gives them itself.
    """

    blocks: Blocks
    own: Iterable[Any] | None = None

    @classmethod
    def of(cls, loader: Any) -> Share | None:
        """Return the share of this process; None if every process reads the whole dataset."""
        loader = source_of(loader)
        if hasattr(loader, "own_block"):
            given = loader.own_block()
            return None if given is None else cls(*given)
        if _is_of_accelerate(loader):
            shared = isinstance(_innermost(loader).sampler, SequentialSampler | RandomSampler)
            shared &= process_count() > 1
        elif _rebuildable(loader) and isinstance(loader.sampler, DistributedSampler):
            sampler = loader.sampler
            shared = sampler.dataset is loader.dataset and process_count() == sampler.num_replicas
        else:
            return None
        return cls(Blocks.shared(len(loader.dataset))) if shared else None

    def loader(self, loader: Any) -> Any:
        """Return a loader of this process's samples, in order.

        Models may communicate in each forward pass, so every process gets the same number of samples: a
        shorter share repeats the last sample of the dataset, to be dropped beyond its block.
        """
        if self.own is not None:
            return self.own
        if isinstance(loader, Transferred):
            return replace(loader, loader=self.loader(loader.loader))
        own = [*range(self.blocks.total)[self.blocks.own]]
        own += [self.blocks.total - 1] * (max(self.blocks.sizes) - len(own))
        return _rebuilt(loader, own)


def in_order(loader: Any) -> Any:
    """Return a shuffled `DataLoader` in the order of its dataset; any other loader unchanged."""
    if isinstance(loader, Transferred):
        return replace(loader, loader=in_order(loader.loader))
    if not _rebuildable(loader) and not _is_of_accelerate(loader):
        return loader
    sampler = _innermost(loader).sampler if _is_of_accelerate(loader) else loader.sampler
    if isinstance(sampler, SubsetRandomSampler):
        return _rebuilt(loader, sorted(sampler.indices))
    if not isinstance(sampler, RandomSampler) or sampler.replacement:
        return loader
    return _rebuilt(loader, None)


def first_batches(loader: Any, count: int) -> Any:
    """Return a loader of the samples that the next `count` batches of each process have.

    It reads them in the order of the dataset. A loader whose samples have no positions is returned unchanged.
    """
    if not _rebuildable(loader) or isinstance(loader.dataset, IterableDataset):
        return loader
    with isolated_rng(), untouched_generators(loader):
        own = [*chain.from_iterable(islice(_innermost(loader), count))]
    if Share.of(loader) is None:
        return _rebuilt(loader, sorted(own))
    part = Subset(loader.dataset, sorted({*chain.from_iterable(gathered(own))}))
    return _rebuilt(loader, DistributedSampler(part, shuffle=False), part)


@contextmanager
def untouched_generators(loader: Iterable[Any]) -> Iterator[None]:
    """Restore the random states of a loader's own generators, and of its samplers', after the block."""
    loader = source_of(loader)
    batch_sampler = getattr(loader, "batch_sampler", None)
    samplers = [getattr(loader, "sampler", None), getattr(batch_sampler, "sampler", None)]
    generators = [
        generator
        for owner in (loader, batch_sampler, *samplers)
        if isinstance(generator := getattr(owner, "generator", None), torch.Generator)
    ]
    states = [generator.get_state() for generator in generators]
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def _rebuildable(loader: Iterable[Any]) -> TypeGuard[DataLoader[Any]]:
    """Return whether dataset and sampler alone determine the loader's batches."""
    if not isinstance(loader, DataLoader) or loader.batch_size is None:
        return False
    return type(loader).__iter__ is DataLoader.__iter__


def _is_of_accelerate(loader: Any) -> bool:
    """Return whether `accelerate` has prepared the loader, and its dataset can be read in any order."""
    return type(loader).__module__ == "accelerate.data_loader" and not isinstance(
        getattr(loader, "dataset", None), IterableDataset | None
    )


def _innermost(loader: Any) -> Any:
    """Return the batch sampler that `accelerate` has wrapped."""
    found = loader.batch_sampler
    while not hasattr(found, "sampler"):
        found = found.batch_sampler
    return found


def _rebuilt(loader: DataLoader[Any], chosen: Any, dataset: Any = None) -> DataLoader[Any]:
    return DataLoader(
        loader.dataset if dataset is None else dataset,
        batch_size=_innermost(loader).batch_size,
        sampler=chosen,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
        worker_init_fn=loader.worker_init_fn,
    )
