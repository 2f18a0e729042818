"""Draw the figures of docs/how-it-works.md from the records of two runs.

Usage: python benchmarks/how_it_works.py RUNS_DIR IMAGES_DIR

The data are synthetic, so that the truth is known: `sound` has few dimensions and separates the classes well.
`lips` has many dimensions, with too few training samples to learn from all of them, and separates the classes
a little. After some epochs, the encoder of `lips` can only improve by memorising training samples.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import equipoise as eq
from equipoise.report.charts.chart import Chart
from equipoise.report.charts.relearning import strengths
from equipoise.report.charts.trace import over_epochs
from equipoise.report.pages.examination import examination_page
from equipoise.report.records import read_run
from equipoise.report.render import write_figures
from equipoise.report.text.learning import readings
from equipoise.training.record.record import TRACE, RunRecord

SAMPLES, CLASSES, EPOCHS, SEED = 900, 6, 60, 0
WORLD = {"sound": (12, 3.0), "lips": (400, 2.2)}
"""Modality to number of dimensions, and distance of the class centres from the origin (noise has std 1)."""
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
            sys.exit(f"The runs contain no data for {name}; remove {runs} and run this again.")
        kind = "png" if name == "how-features" else "svg"
        print(write_figures([replace(chart, name=name)], Path(images), [kind])[0])


def trained(method: str, runs: Path) -> Path:
    """Train with one method, unless that was already done, and return the run folder."""
    data, folder = runs / "data", runs / method
    if not data.exists():
        inputs, target = world()
        eq.write_dataset(data, inputs, target, name="sound and lips, synthetic")
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
    """Read the trace of a run over its epochs."""
    return list(RunRecord(folder).events(TRACE))


def features(folder: Path) -> Chart | None:
    """Plot the features of a run with t-SNE: training and validation side by side."""
    found = eq.examine_run(folder)
    found = replace(found, projections=[p for p in found.projections if p.kind == "t-sne"])
    return next((chart for chart in examination_page(found).all_charts if chart.name == "projections"), None)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
