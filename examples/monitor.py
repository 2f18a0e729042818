"""Watch how well each modality is learnt in a plain PyTorch loop, without a change to the training.

    python examples/monitor.py    # extra demo

The lines marked "watch" are the only additions to the training loop. `log=` takes any function of a dict of
numbers and the epoch, such as one that hands them to a tracker; here they are printed.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import equipoise
from equipoise import Monitor, write_monitor_report  # watch
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


def say(numbers: dict[str, float], epoch: int) -> None:
    print(epoch, {name: round(number, 3) for name, number in numbers.items() if "/gap/" in name})


def main() -> nn.Module:
    torch.manual_seed(0)
    train_loader, val_loader, test_loader = loaders()
    sound, wrist, target = train_loader.dataset.tensors
    model = SoundAndWrist(sound.shape[1], wrist.shape[1], int(target.max()) + 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    monitor = Monitor({"sound": model.sound, "wrist": model.wrist}, every=5, log=say)  # watch
    for epoch in range(EPOCHS):
        model.train()
        for sound, wrist, target in train_loader:
            optimizer.zero_grad()
            F.cross_entropy(model(sound, wrist), target).backward()
            optimizer.step()
        if monitor.due(epoch):  # watch
            monitor.step(epoch, model, train_loader, val_loader)  # watch
    print(monitor)
    print(write_monitor_report(monitor, "watch.html"))
    print(f"test accuracy {accuracy(model, test_loader):.3f}")
    return model


if __name__ == "__main__":
    main()
