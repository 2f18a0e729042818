"""The work of each of two processes of a test; a separate module, because a new process imports it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import equipoise as eq

N, VALIDATION = 101, 53  # odd, so that one process has one sample fewer


class TwoStreams(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.audio = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 8))
        self.video = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8))
        self.head = nn.Linear(16, 3)

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        return self.head(torch.cat([self.audio(audio), self.video(video)], dim=1))


def samples(n: int, seed: int) -> TensorDataset:
    draw = torch.Generator().manual_seed(seed)
    target = torch.arange(n) % 3
    audio = torch.randn(n, 6, generator=draw) + target[:, None]
    return TensorDataset(audio, torch.randn(n, 5, generator=draw) + 0.4 * target[:, None], target)


def loaders(*, shared: bool) -> list[DataLoader[Any]]:
    """The loaders of training and validation; distributed over the processes if `shared`."""
    found = []
    for data, shuffle in ((samples(N, 0), True), (samples(VALIDATION, 1), False)):
        sampler = DistributedSampler(data, shuffle=shuffle) if shared else None
        found.append(DataLoader(data, batch_size=8, sampler=sampler, shuffle=shuffle and not shared))
    return found


def train(model: nn.Module, loader: DataLoader[Any], epochs: int = 3) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(epochs):
        for audio, video, target in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(audio, video), target).backward()
            optimizer.step()


def leave() -> NoReturn:
    """End a process of a successful test once the other processes have finished.

    At a regular exit threads of `torch.distributed` may still run, and torch sometimes aborts the process.
    """
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
    os._exit(0)


def work(rank: int, folder: Path, options: dict[str, Any]) -> None:
    """One of two processes; they start with different weights, which the wrapper makes equal."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(rank)
    model = TwoStreams()
    early = options.pop("early", False)
    encoders = {"audio": model.audio, "video": model.video}
    relearn = eq.DiagnoseRelearn(encoders, every=1, count=1, **options) if early else None
    wrapped = DistributedDataParallel(model)
    relearn = relearn or eq.DiagnoseRelearn(encoders, every=1, count=1, **options)
    initial = {name: value.clone() for name, value in model.state_dict().items()}
    training, validation = loaders(shared=True)
    train(wrapped, training)
    for buffer in model.buffers():  # like the wrapper before its next pass
        dist.broadcast(buffer, src=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = relearn.step(1, wrapped, training, validation)
    train(wrapped, training, 1)  # training can continue
    kept = {"initial": initial, "before": before, "state": state.to_dict(), "end": model.state_dict()}
    torch.save(kept, folder / f"{rank}.pt")
    leave()


def watch(rank: int, folder: Path) -> None:
    """Train twice, without a monitor and with one: the same in each process, and one history in both."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    ends, logged, history = [], [], []
    for watched in (False, True):
        torch.manual_seed(rank)
        model = TwoStreams()
        wrapped = DistributedDataParallel(model)
        monitor = eq.Monitor(
            {"audio": model.audio, "video": model.video},
            every=1,
            log=lambda numbers, _: logged.append(numbers),
        )
        training, validation = loaders(shared=True)
        for epoch in range(3):
            train(wrapped, training, 1)
            if watched:
                monitor.step(epoch, wrapped, training, validation)
        ends.append({**model.state_dict(), "stream": torch.rand(3)})
        history = monitor.history
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    assert len(logged) == (0 if rank else 3)
    torch.save([entry["modalities"] for entry in history], folder / f"{rank}.pt")
    torch.save(ends[0], folder / f"end{rank}.pt")
    leave()


def fail(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = TwoStreams()
    training, validation = loaders(shared=True)
    if rank == 1:
        nn.init.constant_(model.audio[0].weight, torch.nan)
    relearn = eq.DiagnoseRelearn({"audio": model.audio}, every=1, count=1)
    with pytest.raises(eq.DataError, match="'audio' returned NaN"):
        relearn.step(1, model, training, validation)
    leave()
