"""Diagnose features in files, for instance from CLIP, BERT or wav2vec: no model, no training.

    python examples/embeddings.py

Principal components of handwritten digits stand in for your encoders: 16 of the upper half of each image, 3
of the lower half. On the command line, use `equipoise diagnose --features features.npz`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

import equipoise


def write_features(folder: Path) -> Path:
    """Write features and labels of both splits, like a feature extraction script."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    train, val = order[:1200], order[1200:]
    arrays = {"train_labels": digits.target[train], "val_labels": digits.target[val]}
    for name, rows, width in (("upper", slice(0, 4), 16), ("lower", slice(4, 8), 3)):
        pixels = digits.images[:, rows].reshape(len(order), -1)
        encoder = PCA(width, random_state=0).fit(pixels[train])
        arrays[f"train_{name}"] = encoder.transform(pixels[train])
        arrays[f"val_{name}"] = encoder.transform(pixels[val])
    np.savez(folder / "features.npz", **arrays)
    return folder / "features.npz"


def main() -> equipoise.Diagnosis:
    with np.load(write_features(Path.cwd())) as arrays:
        train, val = (
            {name: arrays[f"{split}_{name}"] for name in ("upper", "lower")} for split in ("train", "val")
        )
        diagnosis = equipoise.diagnose(
            train=train,
            train_labels=arrays["train_labels"],
            val=val,
            val_labels=arrays["val_labels"],
            preset="robust",
        )
    print(diagnosis)
    for name, state in diagnosis.items():
        low, high = state.interval
        print(f"{name}: gap {state.gap:.3f} [{low:.3f}, {high:.3f}], strength {state.strength(lam=3.0):.3f}")
    return diagnosis


if __name__ == "__main__":
    main()
