"""The processes of a distributed training: each reads its share of the samples, all take one decision."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeGuard, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from equipoise.types import ModelError

T = TypeVar("T")


def process_count() -> int:
    """Return the number of processes that train together, 1 without `torch.distributed`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gathered(value: T) -> list[T]:
    """Return the value of every process, by rank; to be called by all of them."""
    if process_count() == 1:
        return [value]
    found: list[Any] = [None] * process_count()
    dist.all_gather_object(found, value)
    return found


def agreed(value: T) -> T:
    """Return the value of the first process; to be called by all of them."""
    if process_count() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


@torch.no_grad()
def share_values(tensors: Iterable[Tensor]) -> None:
    """Give tensors the values that they have in the first process; to be called by all of them, in one order.

    What is sharded is left as it is: each process holds another part of it.
    """
    if process_count() == 1:
        return
    for tensor in tensors:
        if not is_sharded(tensor):
            dist.broadcast(tensor.data, src=0)


@contextmanager
def buffers_of_first(model: nn.Module) -> Iterator[None]:
    """Give a model's buffers the values of the first process for a block; to be called by all processes.

    `DistributedDataParallel` does so before each of its passes, but not for the module inside.
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


@torch.no_grad()
def average_values(tensors: Iterable[Tensor]) -> None:
    """Give tensors the mean of their values over all processes; to be called by all of them, in one order."""
    if process_count() == 1:
        return
    for tensor in tensors:
        dist.all_reduce(tensor)
        tensor.div_(process_count())


@contextmanager
def unsynced(model: nn.Module) -> Iterator[None]:
    """Keep `DistributedDataParallel` from exchanging gradients and buffers in the passes of a block."""
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
    """Tell whether this process holds a part of the tensor only, as under `fully_shard`."""
    return hasattr(tensor, "placements")  # a DTensor; to import that class takes half a second


def own_part(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor, in the same memory."""
    part: Tensor = tensor.to_local() if is_sharded(tensor) else tensor
    return part


def part_like(value: Tensor, tensor: Tensor) -> Tensor:
    """Return the part of `value` that belongs to what this process holds of `tensor`.

    All processes call it where `tensor` is sharded and `value` is not; the first one's value is taken.
    """
    if not is_sharded(tensor) or is_sharded(value):
        return own_part(value)
    from torch.distributed.tensor import distribute_tensor

    return own_part(distribute_tensor(value, tensor.device_mesh, tensor.placements))


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor as it is without shards, on the CPU; all processes call it where it is sharded."""
    if is_sharded(tensor):
        tensor = tensor.to(tensor.device_mesh.device_type).full_tensor()
    return tensor.cpu()


def reshard(model: nn.Module) -> None:
    """Let the modules of `fully_shard` give up whole weights, which a pass without a backward pass leaves.

    Until then `parameters()` are temporary copies, and what is written into them is lost.
    """
    if "torch.distributed.fsdp" in sys.modules:
        from torch.distributed.fsdp import FSDPModule

        for part in model.modules():
            if isinstance(part, FSDPModule):
                part.reshard()


def refuse_flattened(module: nn.Module, what: str) -> None:
    """Check that no weights are flattened into one vector by `FullyShardedDataParallel`.

    Raises:
        ModelError: they are; `what` names the module.
    """
    if "torch.distributed.fsdp" in sys.modules:
        from torch.distributed.fsdp import FullyShardedDataParallel

        if any(isinstance(part, FullyShardedDataParallel) for part in module.modules()):
            raise ModelError(
                f"{what} is wrapped by FullyShardedDataParallel, which flattens its weights and leaves no "
                "layer to be blended; shard it with torch.distributed.fsdp.fully_shard."
            )


def interleaved(parts: Sequence[Tensor]) -> Tensor:
    """Return rows `[N, ...]` of which process r of P holds those at `r, r + P, r + 2 P, ...`."""
    whole = torch.empty((sum(map(len, parts)), *parts[0].shape[1:]), dtype=parts[0].dtype)
    for rank, part in enumerate(parts):
        whole[rank :: len(parts)] = part
    return whole


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside wrappers for distributed training and compilation."""
    while True:
        inner = module.module if isinstance(module, DistributedDataParallel | DataParallel) else None
        inner = getattr(module, "_orig_mod", None) if inner is None else inner
        if not isinstance(inner, nn.Module):
            return module
        module = inner
