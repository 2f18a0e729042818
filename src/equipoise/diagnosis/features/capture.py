"""Features of a model's encoders, seen through forward hooks; the caller's state stays as it was."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from equipoise.diagnosis.features.reading import BatchReader, Pool, device_of, move_batch, pooled_output
from equipoise.distributed import gathered, interleaved, process_count
from equipoise.randomness import isolated_rng
from equipoise.scopes import evaluating
from equipoise.types import DataError, EquipoiseError, ModelError, UsageError


@dataclass
class Captured:
    """Pooled features of one split.

    Attributes:
        features: modality name to `[N, d_m]`, float32 (float64 where the model is), on the CPU.
        target: `[N]`, on the CPU.
    """

    features: dict[str, Tensor]
    target: Tensor


def collect_features(
    encoders: Mapping[str, nn.Module],
    model: nn.Module,
    loader: Iterable[Any],
    *,
    reader: BatchReader | None = None,
    pool: Pool | Mapping[str, Pool] | None = None,
) -> Captured:
    """Run the model over a loader and keep what its encoders return.

    The model runs in evaluation mode without gradients. Afterwards the mode of each submodule, all
    gradients, the global random states and those of the loader's generators are as before. A shuffled
    `DataLoader` over a map-style dataset is read in the dataset's order. Where its sampler is a
    `DistributedSampler`, or `accelerate` has prepared it, each process reads its share, none twice, and gets
    the features of all of them.

    Args:
        encoders: modality name to a module inside `model`. A module that serves several modalities stands
            under each of their names, in the order in which the model calls it.
        model: the whole model.
        loader: an iterable of batches; see `BatchReader` for what a batch may be.
        reader: how batches are read, where the default does not fit.
        pool: from an encoder's output to `[B, d]`, for all modalities or by name; see `pooled_output` for
            what None does.

    Raises:
        ModelError: a handle is no part of the model, is never called or too often, or returns something
            that cannot be pooled.
        DataError: the loader gives no batch, or the features are not finite.
    """
    share = _Share.of(loader)
    if share is None:
        return _collect(encoders, model, _in_order(loader), loader, reader or BatchReader(), pool)
    own: Captured | EquipoiseError
    try:
        own = _collect(encoders, model, share.loader(loader), loader, reader or BatchReader(), pool)
    except EquipoiseError as error:  # told to all, as the others would wait for this process for ever
        own = error
    parts = gathered(own)
    if failed := [part for part in parts if isinstance(part, EquipoiseError)]:
        raise failed[0]
    return share.joined([part for part in parts if isinstance(part, Captured)])


def _collect(
    encoders: Mapping[str, nn.Module],
    model: nn.Module,
    batches: Iterable[Any],
    loader: Iterable[Any],
    reader: BatchReader,
    pool: Pool | Mapping[str, Pool] | None,
) -> Captured:
    _check_handles(encoders, model)
    device = device_of(model)
    kept: dict[str, list[Tensor]] = {name: [] for name in encoders}
    targets: list[Tensor] = []
    with ExitStack() as stack:
        stack.enter_context(isolated_rng())
        stack.enter_context(untouched_generators(loader))
        stack.enter_context(evaluating(model))
        stack.enter_context(torch.no_grad())
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and to import it takes seconds
            # Compiled code does not know of hooks that come later, and to compile it anew takes minutes.
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        recorder = stack.enter_context(_Recorder(encoders).hooked())
        for batch in batches:
            batch = move_batch(batch, device)
            target = reader.target(batch)
            reader.run(model, batch)
            for name, (output, mask) in recorder.take().items():
                kept[name].append(_kept(name, pooled_output(name, output, len(target), pool, mask)))
            targets.append(target.detach().cpu())
    if not targets:
        raise DataError("the loader gave no batch; expected at least one: check its dataset and drop_last.")
    return Captured({name: torch.cat(parts) for name, parts in kept.items()}, torch.cat(targets))


@dataclass(frozen=True)
class _Share:
    """What one process reads of a dataset that its sampler shares out."""

    size: int
    rank: int
    processes: int

    @classmethod
    def of(cls, loader: Any) -> _Share | None:
        """Return the share of this process; None where the loader shares nothing out."""
        if _is_of_accelerate(loader):
            whole = isinstance(_innermost(loader).sampler, SequentialSampler | RandomSampler)
            if not whole or process_count() == 1:
                return None
            return cls(len(loader.dataset), dist.get_rank(), process_count())
        if not _rebuildable(loader) or not isinstance(loader.sampler, DistributedSampler):
            return None
        sampler = loader.sampler
        if sampler.dataset is not loader.dataset or process_count() != sampler.num_replicas:
            return None
        return cls(len(sampler.dataset), sampler.rank, sampler.num_replicas)  # type: ignore[arg-type]

    def loader(self, loader: Any) -> DataLoader[Any]:
        """Return a loader of the samples `rank, rank + processes, ...`.

        All processes get as many, as models may exchange values in each pass; `joined` drops the excess.
        """
        own = [*range(self.rank, self.size, self.processes)]
        own += [self.size - 1] * (-(-self.size // self.processes) - len(own))
        return _rebuilt(loader, own)

    def joined(self, parts: list[Captured]) -> Captured:
        """Return the samples of all processes in the dataset's order."""
        counts = [len(range(rank, self.size, self.processes)) for rank in range(self.processes)]
        features = {
            name: interleaved([part.features[name][:n] for part, n in zip(parts, counts, strict=True)])
            for name in parts[0].features
        }
        target = interleaved([part.target[:n] for part, n in zip(parts, counts, strict=True)])
        return Captured(features, target)


@dataclass
class _Recorder:
    """Outputs of the encoders since the last `take`, each with its mask, in the order of the calls."""

    encoders: Mapping[str, nn.Module]
    outputs: dict[nn.Module, list[Any]] = field(default_factory=dict)

    @contextmanager
    def hooked(self) -> Iterator[_Recorder]:
        handles = [
            module.register_forward_hook(
                lambda module, _, given, out: self.outputs[module].append((out, given.get("attention_mask"))),
                with_kwargs=True,
            )
            for module in set(self.encoders.values())
        ]
        self._clear()
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def take(self) -> dict[str, Any]:
        names: dict[nn.Module, list[str]] = {}
        for name, module in self.encoders.items():
            names.setdefault(module, []).append(name)
        taken: dict[str, Any] = {}
        for module, served in names.items():
            calls = self.outputs[module]
            if len(calls) != len(served):
                what = " and ".join(repr(name) for name in served)
                raise ModelError(
                    f"the encoder handle of {what} ({type(module).__name__}) was called {len(calls)} times "
                    f"in one pass of the model; expected {len(served)}: "
                    + (
                        "choose the module whose output reaches the fusion, and make sure the model uses it."
                        if not calls
                        else "choose a module that is called once for each modality."
                    )
                )
            taken.update(zip(served, calls, strict=True))
        self._clear()
        return {name: taken[name] for name in self.encoders}

    def _clear(self) -> None:
        self.outputs = {module: [] for module in self.encoders.values()}


def _check_handles(encoders: Mapping[str, nn.Module], model: nn.Module) -> None:
    if not encoders:
        raise UsageError("no encoder was given; expected a mapping from modality name to module.")
    inside = set(model.modules())
    for name, module in encoders.items():
        if not isinstance(module, nn.Module):
            raise UsageError(f"the handle of {name!r} is a {type(module).__name__}; expected a module.")
        if module not in inside:
            raise ModelError(
                f"the handle of {name!r} ({type(module).__name__}) is no part of the model "
                f"({type(model).__name__}); expected one of its submodules, such as model.{name}_encoder."
            )


def _kept(name: str, features: Tensor) -> Tensor:
    features = features.detach()
    features = (features if features.dtype == torch.float64 else features.float()).cpu()
    if not torch.isfinite(features).all():
        raise DataError(
            f"the encoder of {name!r} returned NaN or infinite features; check its inputs and whether "
            "training has diverged."
        )
    return features


def _in_order(loader: Any) -> Any:
    """Return a view of a shuffled `DataLoader` in the order of its dataset; anything else as it is."""
    if not _rebuildable(loader) and not _is_of_accelerate(loader):
        return loader
    sampler = _innermost(loader).sampler if _is_of_accelerate(loader) else loader.sampler
    if isinstance(sampler, SubsetRandomSampler):
        return _rebuilt(loader, sorted(sampler.indices))
    if not isinstance(sampler, RandomSampler) or sampler.replacement:
        return loader
    return _rebuilt(loader, None)


def _rebuildable(loader: Iterable[Any]) -> TypeGuard[DataLoader[Any]]:
    """Tell whether a loader's batches are those of its dataset and sampler alone."""
    return (
        isinstance(loader, DataLoader)
        and loader.batch_size is not None
        and type(loader).__iter__ is DataLoader.__iter__
    )


def _is_of_accelerate(loader: Any) -> bool:
    """Tell whether `accelerate` has prepared the loader, and its dataset can be read in any order."""
    return type(loader).__module__ == "accelerate.data_loader" and not isinstance(
        getattr(loader, "dataset", None), IterableDataset | None
    )


def _innermost(loader: Any) -> Any:
    """Return the batch sampler that was there before `accelerate` shared its batches out."""
    found = loader.batch_sampler
    while not hasattr(found, "sampler"):
        found = found.batch_sampler
    return found


def _rebuilt(loader: DataLoader[Any], chosen: list[int] | None) -> DataLoader[Any]:
    return DataLoader(
        loader.dataset,
        batch_size=_innermost(loader).batch_size,
        sampler=chosen,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
        worker_init_fn=loader.worker_init_fn,
    )


@contextmanager
def untouched_generators(loader: Iterable[Any]) -> Iterator[None]:
    """Give back the random states of a loader's own generators, those of its samplers too, as they were."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    samplers = [getattr(loader, "sampler", None), getattr(batch_sampler, "sampler", None)]
    owners = [loader, batch_sampler, *samplers]
    generators = [
        generator
        for owner in owners
        if isinstance(generator := getattr(owner, "generator", None), torch.Generator)
    ]
    states = [generator.get_state() for generator in generators]
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
