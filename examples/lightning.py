"""Diagnosing & Re-learning with the Lightning Trainer: household activities from audio and a wrist sensor.

    python examples/lightning.py    # extras demo and lightning

The lines marked "D&R" are the only additions.
"""

from __future__ import annotations

import sys
from pathlib import Path

# This file has the same name as the package `lightning`: do not search the script's folder for imports.
sys.path = [place for place in sys.path if Path(place or ".").resolve() != Path(__file__).resolve().parent]

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import equipoise
from equipoise.data import splits_of
from equipoise.loops.lightning import DiagnoseRelearnCallback  # D&R


class SoundAndWrist(pl.LightningModule):
    def __init__(self, sound: int, wrist: int, classes: int) -> None:
        super().__init__()
        self.sound = nn.Sequential(nn.Linear(sound, 64), nn.ReLU(), nn.Linear(64, 32))
        self.wrist = nn.Sequential(nn.Linear(wrist, 64), nn.ReLU(), nn.Linear(64, 32))
        self.head = nn.Linear(64, classes)

    def forward(self, sound: Tensor, wrist: Tensor) -> Tensor:
        return self.head(torch.cat([self.sound(sound), self.wrist(wrist)], dim=1))

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        return F.cross_entropy(self(*batch[:-1]), batch[-1])

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        self.log("val_accuracy", (self(*batch[:-1]).argmax(dim=1) == batch[-1]).float().mean())

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


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


def main() -> nn.Module:
    pl.seed_everything(0, verbose=False)
    train_loader, val_loader, test_loader = loaders()
    sound, wrist, target = train_loader.dataset.tensors
    model = SoundAndWrist(sound.shape[1], wrist.shape[1], int(target.max()) + 1)
    callbacks: list[pl.Callback] = []
    relearn = DiagnoseRelearnCallback({"sound": "sound", "wrist": "wrist"}, every=5, count=3, lam=3.0)  # D&R
    callbacks.append(relearn)  # D&R
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_epochs=24, accelerator="cpu", callbacks=callbacks, log_every_n_steps=1, **quiet)
    trainer.fit(model, train_loader, val_loader)
    trainer.test(model, test_loader)
    return model


if __name__ == "__main__":
    main()
