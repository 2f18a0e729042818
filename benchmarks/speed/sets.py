"""Data in known shapes, written once into a temporary folder, and the trainings that are measured on them."""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import equipoise as eq
from equipoise.data.format.batches import SplitData
from equipoise.methods import create_method
from equipoise.training.assembly import ModelSpec, build_for, build_reference, prepare_data
from equipoise.training.loop import Training
from equipoise.training.option_text import to_options
from equipoise.training.record.record import RunRecord
from equipoise.training.settings import Settings

Split = tuple[Mapping[str, Tensor], Tensor]
"""Inputs by modality, and targets."""
HTAD = "htad"
CLASSES = 26
SIZES = {"train": 390, "val": 130, "test": 260}


@lru_cache(maxsize=1)
def folder() -> Path:
    """Return a temporary folder that is removed at the end."""
    made = Path(tempfile.mkdtemp(prefix="equipoise-speed-"))
    atexit.register(rmtree, made, ignore_errors=True)
    return made


@lru_cache(maxsize=1)
def avletters() -> str:
    """Write data in the shape of AVLetters as prepared by default; return their folder."""
    rng, count = np.random.default_rng(0), sum(SIZES.values())
    target = rng.permutation(np.arange(count) % CLASSES)
    audio = rng.normal(size=(CLASSES, 24, 26))[target] + 2 * rng.normal(size=(count, 24, 26))
    video = rng.normal(size=(CLASSES, 12, 1, 15, 20))[target] + 2 * rng.normal(size=(count, 12, 1, 15, 20))
    inputs = {
        "audio": audio.astype(np.float32),
        "video": np.clip(128 + 25 * video, 0, 255).astype(np.uint8),
    }
    split = np.repeat(list(SIZES), list(SIZES.values()))
    written = eq.write_dataset(folder() / "avletters", inputs, target, split, contents={"video": "frames"})
    return str(written.path)


@lru_cache(maxsize=8)
def vectors(count: int, modalities: int) -> str:
    """Write vectors of 32 numbers in 7 classes; return their folder."""
    rng = np.random.default_rng(0)
    rows = np.arange(count)
    target = rows % 7
    names = [f"m{number}" for number in range(modalities)]
    inputs = {m: rng.normal(size=(7, 32))[target] + 2 * rng.normal(size=(count, 32)) for m in names}
    split = np.array(["train", "train", "val", "test"])[rows // 7 % 4]
    return str(eq.write_dataset(folder() / f"vectors-{count}-{modalities}", inputs, target, split).path)


@lru_cache(maxsize=2)
def images(count: int, side: int) -> str:
    """Write images of three channels and vectors, in two classes; return their folder."""
    rng = np.random.default_rng(0)
    inputs = {
        "image": rng.integers(0, 256, (count, 3, side, side)).astype(np.uint8),
        "vector": rng.normal(size=(count, 32)).astype(np.float32),
    }
    split = np.array(["train", "train", "val", "test"])[np.arange(count) % 4]
    return str(eq.write_dataset(folder() / f"images-{count}", inputs, np.arange(count) // 4 % 2, split).path)


def training_of(data: str, **options: Any) -> Training:
    """Return a training of Equipoise before its first epoch."""
    settings = Settings.from_options(data, **{"diagnose_every": 0, **options})
    dataset, run_data = prepare_data(settings)
    spec, method = ModelSpec.of(dataset), create_method(settings.method, settings.method_options)
    model = build_for(method, settings, build_reference(settings, spec))
    record = RunRecord(Path(tempfile.mkdtemp(dir=folder())))
    record.open(to_options(settings), overwrite=True)
    return Training(settings, run_data, model, method, record)


def model_of(data: str, **options: Any) -> nn.Module:
    """Return the model of a training as it is built, for a hand-written loop."""
    settings = Settings.from_options(data, **options)
    return build_reference(settings, ModelSpec.of(prepare_data(settings)[0]))


def epoch_of(training: Training, epochs: int = 1) -> Callable[[], object]:
    """Return the work of training some epochs, without validation."""

    def work() -> None:
        with training.repeatable():
            for _ in range(epochs):
                training._train_epoch()

    return work


def hand_optimizer(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Return the optimiser of a training, for another model; it clips gradients where the training does."""
    budget = training.settings.budget
    shared = {"lr": budget.lr, "weight_decay": budget.weight_decay}
    optimizer: torch.optim.Optimizer
    if budget.optimizer == "adamw":
        optimizer = torch.optim.AdamW(model.parameters(), **shared)
    else:
        optimizer = torch.optim.SGD(model.parameters(), momentum=budget.momentum, **shared)
    if (limit := budget.clip_norm) is not None:

        def clip(*_: object) -> None:
            nn.utils.clip_grad_norm_(model.parameters(), limit)

        optimizer.register_step_pre_hook(clip)
    return optimizer


class PlainMLP(nn.Module):
    """The default model of vectors, as one writes it in plain PyTorch."""

    def __init__(self, widths: Mapping[str, int], classes: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(
            {
                m: nn.Sequential(
                    nn.Linear(d, 128),
                    nn.ReLU(),
                    nn.Dropout(0.2),
                    nn.Linear(128, 128),
                    nn.ReLU(),
                    nn.Dropout(0.2),
                )
                for m, d in widths.items()
            }
        )
        self.head = nn.Linear(128 * len(widths), classes)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the logits of a batch."""
        return self.head(torch.cat([net(inputs[m]) for m, net in self.encoders.items()], dim=1))


def hand_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable[Split]) -> None:
    """Train one epoch, in the usual five lines."""
    model.train()
    for inputs, target in batches:
        optimizer.zero_grad()
        output = model(inputs)
        loss = F.cross_entropy(output if isinstance(output, Tensor) else output.logits, target)
        loss.backward()
        optimizer.step()


def tensors_of(split: SplitData) -> Split:
    """Return all samples of a split as tensors."""
    batch = split[range(len(split))]
    return batch.inputs, batch.target


def shuffled(inputs: Mapping[str, Tensor], target: Tensor, size: int) -> Iterable[Split]:
    """Yield batches of tensors in random order."""
    for rows in torch.randperm(len(target)).split(size):
        yield {m: x[rows] for m, x in inputs.items()}, target[rows]


def served(training: Training) -> Iterable[Split]:
    """Yield the batches of the training's own loader."""
    for batch in training.train:
        yield batch.inputs, batch.target
