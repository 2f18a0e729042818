"""Diagnosing & Re-learning in a plain PyTorch loop: household activities from audio and a wrist sensor.

    python examples/pytorch.py    # extra demo

The lines marked "D&R" are the only additions to the training loop.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

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
    tensors = [*inputs, torch.from_numpy(data.target)]
    return [
        DataLoader(TensorDataset(*(t[rows] for t in tensors)), batch_size=64, shuffle=rows is splits.train)
        for rows in (splits.train, splits.val, splits.test)
    ]


def accuracy(model: nn.Module, loader: DataLoader) -> float:
    model.eval()
    with torch.no_grad():
        hits = [model(sound, wrist).argmax(dim=1) == target for sound, wrist, target in loader]
    return torch.cat(hits).float().mean().item()


def main() -> nn.Module:
    torch.manual_seed(0)
    train_loader, val_loader, test_loader = loaders()
    sound, wrist, target = train_loader.dataset.tensors
    model = SoundAndWrist(sound.shape[1], wrist.shape[1], int(target.max()) + 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    relearn = DiagnoseRelearn({"sound": model.sound, "wrist": model.wrist}, every=5, count=3, lam=3.0)  # D&R
    for epoch in range(EPOCHS):
        model.train()
        for sound, wrist, target in train_loader:
            optimizer.zero_grad()
            F.cross_entropy(model(sound, wrist), target).backward()
            optimizer.step()
        if relearn.due(epoch):  # D&R
            print(relearn.step(epoch, model, train_loader, val_loader))  # D&R
    print(f"test accuracy {accuracy(model, test_loader):.3f}")
    return model


if __name__ == "__main__":
    main()
