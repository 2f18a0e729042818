"""Evaluate the estimators of the learning state on features with known overfitting.

Usage: python benchmarks/estimators.py PAGE.md [--mosi mosi_utt.npz] [--draws 20] [--rows ROWS.csv]

The classes are Gaussian. Overfitting is simulated like that of an encoder that memorised its samples: each
training sample is pulled toward the mean of its class by a known factor, validation samples are not. The true
gap is measured on very many samples from the same distribution. With --rows, the measurements are saved to
that file, or read from it if it exists.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from estimators_page import page

from equipoise.diagnosis import diagnose

WIDTH, MANY = 32, 6000
CLASSES = (2, 7, 31)
SEPARATIONS = (0.3, 0.6, 1.2)
PULLS = (0.0, 0.15, 0.3, 0.5)
SIZES = ((200, 50), (800, 200), (3200, 800))
SHARE_OF_DRAWS = {200: 1.0, 800: 0.6, 3200: 0.2}
TRANSFER = {"assign": "transfer", "scaler": "minmax-train"}
HELD_OUT = {"assign": "cross-fit", "scaler": "standard-train"}
REPEATED = {"repeats": 5, "n_init": 1}
ESTIMATORS: dict[str, dict[str, Any]] = {
    "purity, paper": {},
    "purity, matched, 5 repeats": {"matched_size": True, "repeats": 5},
    "purity, matched, 5 repeats, 1 start": {"matched_size": True, **REPEATED},
    "purity, transfer": TRANSFER,
    "purity, transfer, 5 repeats": {**TRANSFER, **REPEATED},
    "purity, transfer, matched, 5 repeats": {**TRANSFER, "matched_size": True, **REPEATED},
    "purity, cross-fit, 1 start": {**HELD_OUT, "n_init": 1},
    "purity, cross-fit, 3 repeats, 1 start": {**HELD_OUT, "repeats": 3, "n_init": 1},
    "linear-probe, transfer": {**TRANSFER, "metric": "linear-probe"},
    "linear-probe, cross-fit": {**HELD_OUT, "metric": "linear-probe"},
    "knn, transfer": {**TRANSFER, "metric": "knn"},
    "knn, cross-fit": {**HELD_OUT, "metric": "knn"},
    "nearest-class-mean, transfer": {**TRANSFER, "metric": "nearest-class-mean"},
    "nearest-class-mean, cross-fit": {**HELD_OUT, "metric": "nearest-class-mean"},
}


@dataclass(frozen=True)
class Features:
    """Features `[N, d]` and classes of two splits."""

    train: np.ndarray
    train_labels: np.ndarray
    val: np.ndarray
    val_labels: np.ndarray


def draw(classes: int, separation: float, pull: float, sizes: tuple[int, int], seed: int) -> Features:
    """Draw Gaussian classes with the same means in every draw; `pull` moves training samples toward them."""
    means = np.random.default_rng(classes).normal(size=(classes, WIDTH)) * separation
    rng = np.random.default_rng([seed, classes])
    labels = [rng.permutation(np.arange(size) % classes) for size in sizes]
    noise = [rng.normal(size=(size, WIDTH)) for size in sizes]
    return Features(
        (means[labels[0]] + (1 - pull) * noise[0]).astype(np.float32),
        labels[0],
        (means[labels[1]] + noise[1]).astype(np.float32),
        labels[1],
    )


def measured(features: Features, options: dict[str, Any]) -> tuple[float, float, float]:
    """Return the signed gap and its confidence interval."""
    state = diagnose(
        {"m": features.train}, features.train_labels, {"m": features.val}, features.val_labels, **options
    )["m"]
    assert state.interval is not None
    return state.train_score - state.val_score, *state.interval


def family(estimator: str) -> str:
    """Return what an estimator estimates: its measure, and whether each split is fitted separately."""
    refitted = not any(word in estimator for word in ("transfer", "cross-fit"))
    return estimator.split(",")[0] + (" refitted" if refitted else "")


def truths(cell: tuple[int, float, int]) -> list[dict[str, Any]]:
    """Compute the true gap of every measure on very many samples with the class means of all draws."""
    classes, separation, seed = cell
    rows = []
    for pull in PULLS:
        features = draw(classes, separation, pull, (MANY, MANY), seed)
        for name, options in {
            "purity refitted": {"n_init": 3},
            "purity": {**TRANSFER, "n_init": 3},
            "linear-probe": {**TRANSFER, "metric": "linear-probe"},
            "knn": {**TRANSFER, "metric": "knn"},
            "nearest-class-mean": {**TRANSFER, "metric": "nearest-class-mean"},
        }.items():
            gap = measured(features, {**options, "bootstrap": 1})[0] if pull else 0.0
            rows.append(
                {"classes": classes, "separation": separation, "pull": pull, "family": name, "truth": gap}
            )
    return rows


def estimates(cell: tuple[int, float, tuple[int, int], int]) -> list[dict[str, Any]]:
    """Apply every estimator to one draw, at every level of overfitting."""
    classes, separation, sizes, seed = cell
    rows = []
    for pull in PULLS:
        features = draw(classes, separation, pull, sizes, seed)
        for name, options in ESTIMATORS.items():
            start = time.process_time()
            gap, low, high = measured(features, options)
            rows.append(
                {
                    "classes": classes,
                    "separation": separation,
                    "pull": pull,
                    "train": sizes[0],
                    "seed": seed,
                    "estimator": name,
                    "family": family(name),
                    "gap": gap,
                    "low": low,
                    "high": high,
                    "seconds": time.process_time() - start,
                }
            )
    return rows


def study(draws: int, workers: int) -> pd.DataFrame:
    """Measure all cells, and join each with its true gap."""
    cells = [
        (classes, separation, sizes, seed)
        for sizes, classes, separation in product(reversed(SIZES), reversed(CLASSES), SEPARATIONS)
        for seed in range(max(1, round(draws * SHARE_OF_DRAWS[sizes[0]])))
    ]
    many = list(product(CLASSES, SEPARATIONS, [1000]))
    with ProcessPoolExecutor(workers) as pool:
        known = pd.DataFrame([row for rows in pool.map(truths, many) for row in rows])
        found = pd.DataFrame([row for rows in pool.map(estimates, cells, chunksize=2) for row in rows])
    keys = ["classes", "separation", "pull", "family"]
    return found.merge(known, on=keys)


def video_of_mosi(file: Path, seeds: int = 5) -> pd.DataFrame:
    """Apply every estimator to the modalities of CMU-MOSI: 80 % of the training part against the rest.

    The text and video features were learnt on the whole training part, so their encoders overfit both parts
    equally, and the true gap of all modalities is 0.
    """
    with np.load(file, allow_pickle=False) as arrays:
        inside = arrays["repo_split"] == "train"
        features = {name: arrays[name][inside] for name in ("text", "audio", "video")}
        labels, groups = arrays["label"][inside].astype(int), arrays["video_id"][inside]
    rows = []
    for seed in range(seeds):
        drawn = np.random.default_rng(seed).permutation(np.unique(groups))
        val = np.isin(groups, drawn[: len(drawn) // 5])
        for name, options in ESTIMATORS.items():
            found = diagnose(
                {m: x[~val] for m, x in features.items()},
                labels[~val],
                {m: x[val] for m, x in features.items()},
                labels[val],
                **options,
            )
            rows += [
                {"estimator": name, "modality": m, "seed": seed, "gap": s.train_score - s.val_score}
                for m, s in found.items()
            ]
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--mosi", type=Path)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rows", type=Path)
    given = parser.parse_args()
    if given.rows and given.rows.exists():
        found = pd.read_csv(given.rows)
    else:
        found = study(given.draws, given.workers)
        if given.rows:
            found.to_csv(given.rows, index=False)
    mosi = video_of_mosi(given.mosi) if given.mosi else None
    given.page.write_text(page(found, mosi, given.draws), encoding="utf-8")


if __name__ == "__main__":
    main()
