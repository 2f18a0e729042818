"""Reading prepared frames and spectrograms: from the memory map, from memory, and augmented."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from math import prod
from statistics import median

import numpy as np
import torch
from sets import folder
from turns import Found, Ratio, Size, in_turn

from equipoise.data import AugmentOptions, PreparedDataset, RunData, Splits, write_dataset
from equipoise.models import ConcatFusion, MultimodalModel, build_model

TITLE = "Reading prepared data"
BATCH = 64


def measure(size: Size) -> Found:
    found = Found()
    dataset = made(size.of(3000, 100))
    mapped, memory = opened(dataset, 0), opened(dataset, 2**40)
    augmented = opened(dataset, 0, AugmentOptions())
    places = {"memory map": mapped, "memory": memory, "memory map, augmented": augmented}
    works = {name: reading(data) for name, data in places.items()}
    turns = in_turn(works, size.of(7, 1))
    count = mapped.sizes["train"]
    for name in ("memory map", "memory map, augmented"):
        found.ratios.append(
            Ratio(f"reading: {name} / memory", turns[name], turns["memory"], unit=" s", per=count)
        )
    for model, steps in {"convolutions": size.of(4, 1), "one linear layer": size.of(37, 1)}.items():
        works = {name: training(places[name], model, steps) for name in ("memory map", "memory")}
        turns_of = in_turn(works, size.of(7, 1))
        what = f"training {model}: from memory map / from memory"
        found.ratios.append(Ratio(what, turns_of["memory map"], turns_of["memory"], unit=" s", per=steps))
    found.table = [
        {"random batches of 64": name, "samples/s": count / median(turn.wall for turn in turns[name])}
        for name in places
    ]
    found.notes.append(
        "A sample is 2 frames of 3 x 64 x 64 (uint8) and a spectrogram of 128 x 128 (float16); the files "
        "are in the page cache."
    )
    return found


@lru_cache(maxsize=1)
def made(count: int) -> PreparedDataset:
    rng = np.random.default_rng(0)
    return write_dataset(
        folder() / "frames",
        {
            "video": rng.integers(0, 256, (count, 2, 3, 64, 64)).astype(np.uint8),
            "audio": rng.normal(size=(count, 1, 128, 128)).astype(np.float16),
        },
        np.arange(count) % 10,
        contents={"video": "frames", "audio": "spectrogram"},
    )


def opened(dataset: PreparedDataset, memory_limit: int, augment: AugmentOptions | None = None) -> RunData:
    rows, count = np.arange(len(dataset)), len(dataset)
    train, val, test = np.split(rows, [count * 8 // 10, count * 9 // 10])
    splits = Splits.of(train, val, test, ids=dataset.ids, origin="benchmark")
    return RunData(dataset, splits, BATCH, memory_limit=memory_limit, augment=augment)


def reading(data: RunData) -> Callable[[], object]:
    return lambda: sum(len(batch) for batch in data.train)


def training(data: RunData, name: str, steps: int) -> Callable[[], None]:
    """Return the work of some steps, reading included."""
    model = model_of(name, data)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def work() -> None:
        for batch in islice(data.train, steps):
            torch.nn.functional.cross_entropy(model(batch).logits, batch.target).backward()
            optimizer.step()
            optimizer.zero_grad()

    return work


def model_of(name: str, data: RunData) -> MultimodalModel:
    """Return the default model, or the cheapest one, for which reading matters most."""
    shapes = {m: (spec.shape, spec.kind) for m, spec in data.modality_specs.items()}
    if name != "one linear layer":
        return build_model(shapes, data.class_count)
    widths = {m: prod(shape) for m, (shape, _) in shapes.items()}
    linear = torch.nn.Linear(sum(widths.values()), data.class_count)
    return MultimodalModel({m: torch.nn.Flatten() for m in shapes}, ConcatFusion.from_linear(linear, widths))
