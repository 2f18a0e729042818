"""A diagnosis of saved features: seconds, and peak memory relative to the size of the features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from alone import Memory, alone
from sets import folder
from turns import Found, Size, timed

TITLE = "A diagnosis of saved features"
WIDTH, CLASSES, MODALITIES = 512, 31, ("audio", "video")


def measure(size: Size) -> Found:
    found = Found()
    train, val = size.of((16_000, 4_000), (400, 100))
    file = folder() / "features.npz"
    total = save_features(file, train, val)
    for what in size.of(("paper", "robust", "panel"), ("paper",)):
        answer = alone("lines.m_diagnosis", {"what": what, "file": str(file)})
        seconds, memory = answer["turn"], answer["memory"] / total
        row = {"what": what, "seconds": seconds.wall, "CPU seconds": seconds.cpu, "memory / features": memory}
        found.table.append(row)
    found.notes.append(
        f"{train:,} + {val:,} samples of {WIDTH} features in {len(MODALITIES)} modalities and {CLASSES} "
        "classes, in a process of its own; imports are not counted. `panel` is all measures of the report."
    )
    return found


def measured(what: str, file: str) -> dict[str, Any]:
    """Diagnose, in a process of its own."""
    from equipoise.diagnosis import diagnose, separability
    from equipoise.experiments.examine.saved_features import SavedFeatures

    small = Path(file).with_name("few.npz")
    save_features(small, 80, 60, classes=2)

    def work(path: Path) -> object:
        features = SavedFeatures(path).features()
        return separability(*features) if what == "panel" else diagnose(*features, preset=what)

    work(small)  # imports
    with Memory() as memory:
        turn = timed(lambda: work(Path(file)))
    return {"turn": turn, "memory": memory.bytes}


def save_features(file: Path, n_train: int, n_val: int, classes: int = CLASSES) -> int:
    """Save features of Gaussian classes; return their size in bytes."""
    rng = np.random.default_rng(0)
    sizes = {"train": n_train, "val": n_val}
    arrays = {f"{split}_labels": rng.permutation(np.arange(n) % classes) for split, n in sizes.items()}
    for name in MODALITIES:
        means = rng.normal(size=(classes, WIDTH)).astype(np.float32) / 10
        for split, n in sizes.items():
            noise = rng.normal(size=(n, WIDTH)).astype(np.float32)
            arrays[f"{split}_{name}"] = noise + means[arrays[f"{split}_labels"]]
    np.savez(file, **arrays)
    return (n_train + n_val) * WIDTH * 4 * len(MODALITIES)
