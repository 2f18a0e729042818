"""Overhead of Equipoise, as ratios of alternating measurements.

Usage: python benchmarks/overhead.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

import equipoise as eq
from equipoise.data import RunData, load_dataset, splits_of

EPOCHS, ROUNDS = 20, 5


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = str(make_data(Path(folder) / "data"))
        eq.fit(data, epochs=1, diagnose_every=0)  # warm-up: imports and caches are not measured
        rows = [
            ("trainer / hand-written loop", lambda: fit(data), lambda: by_hand(data)),
            ("by_hand joint / hand-written loop", lambda: by_hand(data, "joint"), lambda: by_hand(data)),
            ("by_hand ogm-ge / hand-written loop", lambda: by_hand(data, "ogm-ge"), lambda: by_hand(data)),
            ("diagnose-relearn / joint", lambda: fit(data, "diagnose-relearn"), lambda: fit(data)),
            ("ogm-ge / joint", lambda: fit(data, "ogm-ge"), lambda: fit(data)),
            ("diagnosing ten times / never", lambda: fit(data, looks=2), lambda: fit(data)),
            ("equipoise --help / python -c pass", help_command, bare_python),
        ]
        print(f"{'what':36} {'ratio':>6} {'seconds':>9} {'seconds':>9}")
        for name, one, other in rows:
            ratio, first, second = paired(one, other)
            print(f"{name:36} {ratio:6.2f} {first:9.3f} {second:9.3f}")


def paired(one: Callable[[], object], other: Callable[[], object]) -> tuple[float, float, float]:
    """Time both alternately; return the median ratio and the median seconds of each."""
    times = [(timed(one), timed(other)) for _ in range(ROUNDS)]
    ratio = statistics.median(first / second for first, second in times)
    return ratio, *(statistics.median(column) for column in zip(*times, strict=True))


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def make_data(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    target = np.arange(1400) % 7
    inputs = {name: rng.normal(size=(1400, d)) + target[:, None] / 4 for name, d in (("a", 36), ("b", 16))}
    return eq.write_dataset(folder, inputs, target).path


def fit(data: str, method: str = "joint", looks: int = 0) -> None:
    eq.fit(data, method, epochs=EPOCHS, diagnose_every=looks)


def by_hand(data: str, name: str | None = None) -> None:
    """Train in a user-defined loop, with or without a method."""
    dataset = load_dataset(data)
    run = RunData(dataset, splits_of(dataset), 64)
    shapes = {name: (spec.shape, spec.kind) for name, spec in dataset.modalities.items()}
    model = eq.build_model(shapes, 7)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    method = name and eq.by_hand(name, model, train_loader=run.train, optimizer=optimizer, epochs=EPOCHS)
    for epoch in method.epochs() if method else range(EPOCHS):
        run.set_epoch(epoch)
        model.train()
        for batch in run.train:
            optimizer.zero_grad()
            loss = method.loss(batch) if method else F.cross_entropy(model(batch).logits, batch.target)
            loss.backward()
            if method:
                method.on_gradients()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for batch in run.val:
                model(batch)


def help_command() -> None:
    subprocess.run([sys.executable, "-m", "equipoise", "--help"], capture_output=True, check=True)


def bare_python() -> None:
    subprocess.run([sys.executable, "-c", "pass"], check=True)


if __name__ == "__main__":
    main()
