"""Diagnosing & Re-learning in two processes: household activities from audio and a wrist sensor.

    python examples/ddp.py    # one process; extra demo
    torchrun --nproc-per-node 2 examples/ddp.py

The lines marked "D&R" are the only additions to the training loop. Each process reads its share of the
samples. All processes take the same decision, and their weights stay equal.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import equipoise
from equipoise import DiagnoseRelearn  # D&R
from equipoise.data import splits_of

EPOCHS = 24


class SoundAndWrist(nn.Module):
    def __init__(self, sound: int, wrist: int, classes: int) -> None:
        super().__init__()
        self.sound = nn.Sequential(nn.Linear(sound, 64), nn.ReLU(), nn.Linear(64, 32))
        self.wrist = nn.Sequential(nn.Linear(wrist, 64), nn.ReLU(), nn.Linear(64, 32))
        self.head = nn.Linear(64, classes)

    def forward(self, sound: Tensor, wrist: Tensor) -> Tensor:
        return self.head(torch.cat([self.sound(sound), self.wrist(wrist)], dim=1))


def loaders() -> list[DataLoader]:
    data = equipoise.load_dataset("htad")
    splits, inputs = splits_of(data, seed=0), []
    for name in ("audio", "accelerometer"):
        x = np.asarray(data.array(name), dtype=np.float32)
        train = x[splits.train]
        inputs.append(torch.from_numpy((x - train.mean(axis=0)) / (train.std(axis=0) + 1e-6)))
    tensors, found = [*inputs, torch.from_numpy(data.target)], []
    for rows in (splits.train, splits.val, splits.test):
        part = TensorDataset(*(tensor[rows] for tensor in tensors))
        sampler = DistributedSampler(part, shuffle=rows is splits.train) if rows is not splits.test else None
        found.append(DataLoader(part, batch_size=32, sampler=sampler))
    return found


def accuracy(model: nn.Module, loader: DataLoader) -> float:
    model.eval()
    with torch.no_grad():
        hits = [model(sound, wrist).argmax(dim=1) == target for sound, wrist, target in loader]
    return torch.cat(hits).float().mean().item()


def say(what: object) -> None:
    if dist.get_rank() == 0:
        print(what)


def main() -> nn.Module:
    alone = {} if dist.is_torchelastic_launched() else {"store": dist.HashStore(), "rank": 0, "world_size": 1}
    dist.init_process_group("gloo", **alone)  # "nccl" on GPUs
    torch.set_num_threads(1)
    torch.manual_seed(0)
    train_loader, val_loader, test_loader = loaders()
    sound, wrist, target = train_loader.dataset.tensors
    model = SoundAndWrist(sound.shape[1], wrist.shape[1], int(target.max()) + 1)
    wrapped = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.05, momentum=0.9)
    relearn = DiagnoseRelearn({"sound": model.sound, "wrist": model.wrist}, every=5, count=3, lam=3.0)  # D&R
    for epoch in range(EPOCHS):
        wrapped.train()
        train_loader.sampler.set_epoch(epoch)
        for sound, wrist, target in train_loader:
            optimizer.zero_grad()
            F.cross_entropy(wrapped(sound, wrist), target).backward()
            optimizer.step()
        if relearn.due(epoch):  # D&R
            say(relearn.step(epoch, wrapped, train_loader, val_loader))  # D&R
    say(f"test accuracy {accuracy(model, test_loader):.3f}")
    dist.barrier()
    dist.destroy_process_group()
    return model


if __name__ == "__main__":
    main()
