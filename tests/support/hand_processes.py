"""The work of each process in tests of methods in user-defined loops; a module that new processes import."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import equipoise as eq
from two_processes import TwoStreams, leave, samples

SIZE, N, EPOCHS = 16, 64, 3


class Parts:
    """Batches of all samples in one order; each process takes every other row."""

    def __init__(self, rank: int, processes: int) -> None:
        self.rank, self.processes = rank, processes

    def __len__(self) -> int:
        return N // SIZE

    def __iter__(self) -> Any:
        tensors = samples(N, 0).tensors
        for start in range(0, N, SIZE):
            yield tuple(t[start : start + SIZE][self.rank :: self.processes] for t in tensors)


class Smooth(TwoStreams):
    """Without batch normalisation, whose statistics differ between processes."""

    def __init__(self) -> None:
        super().__init__()
        self.audio = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8))


def trained(
    name: str, options: dict[str, Any], loader: Iterable[Any], model: nn.Module, inner: Smooth
) -> dict[str, Any]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    method = eq.by_hand(
        name,
        model,
        {"audio": inner.audio, "video": inner.video},
        head=inner.head,
        train_loader=loader,
        optimizer=optimizer,
        epochs=EPOCHS,
        **options,
    )
    for _ in method.epochs():
        for batch in loader:
            optimizer.zero_grad()
            method.loss(batch).backward()
            method.on_gradients()
            optimizer.step()
    return {"model": inner.state_dict(), "method": method.state_dict()}


def drawn(seed: int = 0) -> Smooth:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Smooth()


def work(rank: int, folder: Path, wanted: dict[str, dict[str, Any]]) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for name, options in wanted.items():
        inner = drawn()
        kept = trained(name, options, Parts(rank, 2), DistributedDataParallel(inner), inner)
        torch.save(kept, folder / f"{name}-{rank}.pt")
    inner = drawn()
    wrapped = DistributedDataParallel(inner)
    with pytest.raises(eq.UsageError, match="routes gradients itself"):
        trained("mmpareto", {}, Parts(rank, 2), wrapped, inner)
    with pytest.raises(eq.UsageError, match="some are in other processes"):
        trained("agm", {"mode": "encoder-grad"}, Parts(rank, 2), wrapped, inner)
    leave()
