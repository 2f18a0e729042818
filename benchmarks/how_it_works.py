"""Draw the pictures of the page that explains Diagnosing & Re-learning, from the records of two runs.

Usage: python benchmarks/how_it_works.py RUNS_DIR IMAGES_DIR

The data are constructed so that the truth is known: `sound` has few numbers that tell the class well, `lips`
many numbers that tell it a little, more of them than there are training samples to learn them from. An
encoder of `lips` can therefore only go on improving by learning its training samples by heart.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import equipoise as eq
from equipoise.report.examination import examination_page
from equipoise.report.export import write_figures
from equipoise.report.figures import Chart
from equipoise.report.learning import readings
from equipoise.report.learning_charts import strengths
from equipoise.report.records import read_run
from equipoise.report.trace_charts import over_epochs
from equipoise.training.record.record import TRACE, RunRecord

SAMPLES, CLASSES, EPOCHS, SEED = 900, 6, 60, 0
WORLD = {"sound": (12, 3.0), "lips": (400, 2.2)}
"""Modality to its number of columns, and the distance of the class centres from the origin (noise has 1)."""
METHODS = ("joint", "diagnose-relearn")


def main(runs: str, images: str) -> None:
    folders = {method: trained(method, Path(runs)) for method in METHODS}
    charts = {
        "how-joint": over_epochs(trace_of(folders["joint"])),
        "how-relearn": over_epochs(trace_of(folders["diagnose-relearn"])),
        "how-strength": strengths(readings([read_run(folders["diagnose-relearn"])]), "diagnose-relearn"),
        "how-features": features(folders["joint"]),
    }
    for name, chart in charts.items():
        if chart is None:
            sys.exit(f"the runs hold nothing for {name}; remove {runs} and run this again")
        kind = "png" if name == "how-features" else "svg"
        print(write_figures([replace(chart, name=name)], Path(images), [kind])[0])


def trained(method: str, runs: Path) -> Path:
    """Train by one method, where that was not done already, and return the run folder."""
    data, folder = runs / "data", runs / method
    if not data.exists():
        inputs, target = world()
        eq.write_dataset(data, inputs, target, name="sound and lips, constructed")
    if not (folder / "result.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        eq.fit(data, method=method, seed=SEED, epochs=EPOCHS, trace=True, out=folder)
    return folder


def world() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draw Gaussian classes: `{m: [N, d]}` and labels `[N]`."""
    rng, target = np.random.default_rng(SEED), np.arange(SAMPLES) % CLASSES
    inputs = {}
    for name, (width, distance) in WORLD.items():
        centres = rng.normal(size=(CLASSES, width))
        centres *= distance / np.linalg.norm(centres, axis=1, keepdims=True)
        inputs[name] = (centres[target] + rng.normal(size=(SAMPLES, width))).astype(np.float32)
    return inputs, target


def trace_of(folder: Path) -> list[dict[str, Any]]:
    """Read how a run went over its epochs."""
    return list(RunRecord(folder).events(TRACE))


def features(folder: Path) -> Chart | None:
    """Draw the features of a run: training beside validation, by t-SNE."""
    found = eq.examine_run(folder)
    found = replace(found, projections=[p for p in found.projections if p.kind == "t-sne"])
    return next((chart for chart in examination_page(found).all_charts if chart.name == "projections"), None)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
