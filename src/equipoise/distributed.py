"""Distributed training: shared values and decisions, sharded weights, wrappers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeGuard, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from equipoise.types import EquipoiseError, ModelError, UsageError

T = TypeVar("T")
BUNDLE = 2**23
"""Values that are exchanged at once."""


def process_count() -> int:
    """Return the number of training processes, 1 without `torch.distributed`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """Return the number of this process, 0 without `torch.distributed`."""
    return dist.get_rank() if process_count() > 1 else 0


def gathered(value: T) -> list[T]:
    """Return the values of all processes, by rank; all processes must call it."""
    if process_count() == 1:
        return [value]
    found: list[Any] = [None] * process_count()
    dist.all_gather_object(found, value)
    return found


def agreed(value: T) -> T:
    """Return the value of the first process; all processes must call it."""
    if process_count() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def by_first(work: Callable[[], T]) -> T:
    """Return what `work` returns in the first process, or raise its error; all processes must call it."""
    if process_count() == 1:
        return work()
    outcome: tuple[T | None, EquipoiseError | None] = None, None
    if process_rank() == 0:
        try:
            outcome = work(), None
        except EquipoiseError as error:
            outcome = None, portable(error)
    result, failure = agreed(outcome)
    if failure is not None:
        raise failure
    return cast("T", result)


def portable(error: EquipoiseError) -> EquipoiseError:
    """Return an error that can be sent to other processes; some are made from more than their message."""
    if type(error).__init__ in (EquipoiseError.__init__, ValueError.__init__, RuntimeError.__init__):
        return error
    return (UsageError if isinstance(error, UsageError) else EquipoiseError)(str(error))


@torch.no_grad()
def share_values(tensors: Iterable[Tensor]) -> None:
    """Copy the values of tensors from the first process; all processes must call it, in the same order.

    Sharded tensors are skipped, as each process has a different part.
    """
    if process_count() == 1:
        return
    for tensor in tensors:
        if not is_sharded(tensor):
            dist.broadcast(tensor.data, src=0)


@contextmanager
def buffers_of_first(model: nn.Module) -> Iterator[None]:
    """Use the first process's values of a model's buffers in a block; all processes must call it.

    `DistributedDataParallel` does so before each of its forward passes, but not for the wrapped module.
    """
    if process_count() == 1:
        yield
        return
    held = [(buffer, buffer.clone()) for buffer in model.buffers()]
    share_values(buffer for buffer, _ in held)
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, own in held:
                buffer.copy_(own)


def averaged(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the means of tensors over all processes; all processes must call it, in the same order.

    Many small ones are exchanged together. In one process they are returned as they are.
    """
    if process_count() == 1:
        return list(tensors)
    bundles: list[list[Tensor]] = []
    for tensor in tensors:
        last = bundles[-1] if bundles else []
        alike = bool(last) and (last[0].dtype, last[0].device) == (tensor.dtype, tensor.device)
        if alike and sum(one.numel() for one in last) + tensor.numel() <= BUNDLE:
            last.append(tensor)
        else:
            bundles.append([tensor])
    with torch.no_grad():
        flat = [torch.cat([tensor.reshape(-1) for tensor in bundle]) for bundle in bundles]
        for exchange in [dist.all_reduce(values, async_op=True) for values in flat]:
            exchange.wait()
        means: list[Tensor] = []
        for values, bundle in zip(flat, bundles, strict=True):
            parts = torch.split(values.div_(process_count()), [tensor.numel() for tensor in bundle])
            means += [part.view(tensor.shape) for tensor, part in zip(bundle, parts, strict=True)]
    return means


@torch.no_grad()
def average_values(tensors: Iterable[Tensor]) -> None:
    """Average tensors over all processes, in place; see `averaged`. What is sharded is left out."""
    if process_count() == 1:
        return
    whole_ones = [tensor for tensor in tensors if not is_sharded(tensor)]
    for tensor, mean in zip(whole_ones, averaged(whole_ones), strict=True):
        tensor.copy_(mean)


@contextmanager
def unsynced(model: nn.Module) -> Iterator[None]:
    """Turn off the exchange of gradients and buffers by `DistributedDataParallel` in a block."""
    wrapped = [part for part in model.modules() if isinstance(part, DistributedDataParallel)]
    before = [(part.broadcast_buffers, part.require_backward_grad_sync) for part in wrapped]
    try:
        for part in wrapped:
            part.broadcast_buffers = part.require_backward_grad_sync = False
        yield
    finally:
        for part, (buffers, gradients) in zip(wrapped, before, strict=True):
            part.broadcast_buffers, part.require_backward_grad_sync = buffers, gradients


def is_sharded(tensor: Tensor) -> TypeGuard[Any]:
    """Return whether this process has only a part of the tensor, as under `fully_shard`."""
    return hasattr(tensor, "placements")  # a DTensor, whose import takes half a second


def own_part(tensor: Tensor) -> Tensor:
    """Return the part of a tensor on this process, in the same memory."""
    part: Tensor = tensor.to_local() if is_sharded(tensor) else tensor
    return part


def placed_like(value: Tensor, tensor: Tensor) -> Tensor:
    """Return `value` sharded as `tensor` is.

    If `tensor` is sharded and `value` is not, all processes must call it; the first process's value is used.
    """
    if not is_sharded(tensor) or is_sharded(value):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, tensor.device_mesh, tensor.placements)


def part_like(value: Tensor, tensor: Tensor) -> Tensor:
    """Return the part of `value` that corresponds to this process's part of `tensor`; see `placed_like`."""
    return own_part(placed_like(value, tensor))


def load_whole(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict of whole tensors, or of those of this process, into a module that may be sharded.

    If it is, all processes must call it.
    """
    current = module.state_dict()
    module.load_state_dict({n: placed_like(v, current[n]) if n in current else v for n, v in state.items()})


def whole(tensor: Tensor) -> Tensor:
    """Return the full tensor on the CPU; if it is sharded, all processes must call it."""
    if is_sharded(tensor):
        tensor = tensor.to(tensor.device_mesh.device_type).full_tensor()
    return tensor.cpu()


def whole_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict with full tensors on the CPU, see `whole`."""
    return {name: whole(value) for name, value in state.items()}


def reshard(model: nn.Module) -> None:
    """Free the full weights of `fully_shard` modules, which remain after a forward pass without a backward.

    Before that, `parameters()` are temporary copies, and changes to them are lost.
    """
    if "torch.distributed.fsdp" in sys.modules:
        from torch.distributed.fsdp import FSDPModule

        for part in model.modules():
            if isinstance(part, FSDPModule):
                part.reshard()


def refuse_flattened(module: nn.Module, what: str) -> None:
    """Check that `FullyShardedDataParallel` has not flattened the weights; `what` names the module.

    Raises:
        ModelError: it has.
        UsageError: it is no module.
    """
    if not hasattr(module, "modules"):
        raise UsageError(f"{what} is a {type(module).__name__}; expected a torch module.")
    if "torch.distributed.fsdp" in sys.modules:
        from torch.distributed.fsdp import FullyShardedDataParallel

        if any(isinstance(part, FullyShardedDataParallel) for part in module.modules()):
            raise ModelError(
                f"{what} is wrapped by FullyShardedDataParallel, which flattens its weights and leaves no "
                "layer to blend; shard it with torch.distributed.fsdp.fully_shard."
            )


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module without wrappers for distributed training and compilation."""
    while True:
        inner = module.module if isinstance(module, DistributedDataParallel | DataParallel) else None
        inner = getattr(module, "_orig_mod", None) if inner is None else inner
        if not isinstance(inner, nn.Module):
            return module
        module = inner
