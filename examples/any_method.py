"""Any method in a plain PyTorch loop: household activities from audio and a wrist sensor.

    python examples/any_method.py [METHOD]    # extra demo

The default, OGM-GE, slows down the dominant encoder; `equipoise list methods` lists all methods. The lines
marked "method" are the only changes to the training loop.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import equipoise
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
        for rows in (splits.train, splits.test)
    ]


def accuracy(model: nn.Module, loader: DataLoader) -> float:
    model.eval()
    with torch.no_grad():
        hits = [model(sound, wrist).argmax(dim=1) == target for sound, wrist, target in loader]
    return torch.cat(hits).float().mean().item()


def main(name: str = "ogm-ge") -> nn.Module:
    torch.manual_seed(0)
    loader, test_loader = loaders()
    sound, wrist, target = loader.dataset.tensors
    model = SoundAndWrist(sound.shape[1], wrist.shape[1], int(target.max()) + 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    encoders = {"sound": model.sound, "wrist": model.wrist}  # method
    given = {"head": model.head, "train_loader": loader, "optimizer": optimizer, "epochs": EPOCHS}  # method
    method = equipoise.by_hand(name, model, encoders, **given)  # method
    for epoch in method.epochs():  # instead of range(EPOCHS): method
        model.train()
        for batch in loader:
            optimizer.zero_grad()
            method.loss(batch).backward()  # instead of the cross-entropy: method
            method.on_gradients()  # method
            optimizer.step()
        if epoch % 8 == 0:
            print(epoch, {key: round(value, 3) for key, value in method.figures().items()})
    print(f"{name}: test accuracy {accuracy(model, test_loader):.3f}")
    return model


if __name__ == "__main__":
    main(*sys.argv[1:2])
