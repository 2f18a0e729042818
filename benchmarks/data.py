"""How fast prepared frames and spectrograms are read, and how this affects training time.

Usage: python benchmarks/data.py [OUT.md]

Writes a dataset of 2x3x64x64 frames (uint8) and 1x128x128 spectrograms (float16) to a temporary folder. It is
read in random batches of 64 from the memory map, from memory, and with augmentation, alternately. Then some
training steps are timed. Ratios compare measurements of the same round in one process.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from math import prod
from pathlib import Path
from statistics import median

import numpy as np
import torch
from results import commit

from equipoise.data import AugmentOptions, PreparedDataset, RunData, Splits, write_dataset
from equipoise.models import ConcatFusion, MultimodalModel, build_model

COUNT, BATCH, ROUNDS = 3000, 64, 7
TRAIN = 2400
MODELS = {"convolutions (the default)": 4, "one linear layer": 37}
"""Models and numbers of steps: the default, and the cheapest, for which reading matters most."""


def made(folder: Path) -> PreparedDataset:
    rng = np.random.default_rng(0)
    return write_dataset(
        folder,
        {
            "video": rng.integers(0, 256, (COUNT, 2, 3, 64, 64)).astype(np.uint8),
            "audio": rng.normal(size=(COUNT, 1, 128, 128)).astype(np.float16),
        },
        np.arange(COUNT) % 10,
        contents={"video": "frames", "audio": "spectrogram"},
    )


def opened(dataset: PreparedDataset, memory_limit: int, augment: AugmentOptions | None = None) -> RunData:
    rows = np.arange(COUNT)
    splits = Splits.of(rows[:TRAIN], rows[TRAIN:-300], rows[-300:], ids=dataset.ids, origin="benchmark")
    return RunData(dataset, splits, BATCH, memory_limit=memory_limit, augment=augment)


def read(data: RunData, epoch: int) -> float:
    """Return samples per second over one epoch."""
    data.set_epoch(epoch)
    begin = time.perf_counter()
    count = sum(len(batch) for batch in data.train)
    return count / (time.perf_counter() - begin)


def model_of(name: str, data: RunData) -> MultimodalModel:
    shapes = {m: (spec.shape, spec.kind) for m, spec in data.modality_specs.items()}
    if name != "one linear layer":
        return build_model(shapes, data.class_count)
    widths = {m: prod(shape) for m, (shape, _) in shapes.items()}
    linear = torch.nn.Linear(sum(widths.values()), data.class_count)
    return MultimodalModel({m: torch.nn.Flatten() for m in shapes}, ConcatFusion.from_linear(linear, widths))


def trained(data: RunData, epoch: int, name: str, steps: int) -> float:
    """Return the seconds for some training steps of a model, including reading the data."""
    model = model_of(name, data)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    data.set_epoch(epoch)
    begin = time.perf_counter()
    for batch in islice(data.train, steps):
        torch.nn.functional.cross_entropy(model(batch).logits, batch.target).backward()
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - begin


def side_by_side(measures: dict[str, Callable[[int], float]]) -> dict[str, list[float]]:
    """Take each measurement once per round, alternately."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for round_ in range(ROUNDS):
        for name, measure in measures.items():
            found[name].append(measure(round_))
    return found


def compared(seconds: dict[str, list[float]]) -> str:
    """Return table cells with the median, lowest and highest ratio of the rounds."""
    ratio = [a / b for a, b in zip(seconds["memory map"], seconds["memory"], strict=True)]
    return f"{median(ratio):.3f} | {min(ratio):.3f} | {max(ratio):.3f}"


def main(out: str | None) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        dataset = made(Path(folder) / "set")
        mapped, memory = opened(dataset, 0), opened(dataset, 2**40)
        augmented = opened(dataset, 0, augment=AugmentOptions())
        speeds = side_by_side(
            {
                "memory map": lambda r: read(mapped, r),
                "memory": lambda r: read(memory, r),
                "memory map, augmented": lambda r: read(augmented, r),
            }
        )
        places = {"memory map": mapped, "memory": memory}
        steps = {
            model: side_by_side(
                {name: partial(trained, data, name=model, steps=count) for name, data in places.items()}
            )
            for model, count in MODELS.items()
        }
    lines = [
        "| random reads | samples/s, median | lowest | highest |",
        "|---|---:|---:|---:|",
        *(f"| {name} | {median(s):,.0f} | {min(s):,.0f} | {max(s):,.0f} |" for name, s in speeds.items()),
        "",
        "| training | time from memory map / time from memory | lowest | highest |",
        "|---|---:|---:|---:|",
        *(f"| {name} | {compared(seconds)} |" for name, seconds in steps.items()),
    ]
    print("\n".join(lines))
    if out:
        Path(out).write_text(page(lines), encoding="utf-8")


def page(lines: list[str]) -> str:
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}"
    about = f"{machine}; {versions}; one thread. Commit `{commit()}`. Written by `benchmarks/data.py`."
    return "\n".join(["# Reading prepared data", "", about, "", *lines, ""])


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    main(sys.argv[1] if len(sys.argv) == 2 else None)
