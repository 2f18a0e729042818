"""The processes of a distributed training: each reads its share of the samples, all take one decision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

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
        if not hasattr(tensor, "placements"):  # a DTensor; to import that class takes half a second
            dist.broadcast(tensor.data, src=0)


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
