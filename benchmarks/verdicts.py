"""Measure how often verdicts agree with the known truth of synthetic datasets, and write the page.

Usage: python benchmarks/verdicts.py PAGE.md [--seeds N]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from synthetic_worlds import ALL, WORLDS
from verdict_page import PROCESSES, TUNING_SEED, Case, page

import equipoise as eq
from equipoise.diagnosis.verdict.verdict import numbers_of
from equipoise.experiments.examine.contribution_of_run import contribution_of_run
from equipoise.experiments.examine.encoder_quality import encoder_quality


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    chosen = parser.parse_args()
    started = time.perf_counter()
    tuning = range(TUNING_SEED, TUNING_SEED + chosen.seeds)
    found = measured([*tuning, *range(chosen.seeds)])
    sets = [[case for case in found if (case.seed in tuning) == tuned] for tuned in (True, False)]
    lines = page(*sets, chosen.seeds, time.perf_counter() - started)
    chosen.page.parent.mkdir(parents=True, exist_ok=True)
    chosen.page.write_text("\n".join(lines), encoding="utf-8")


def measured(seeds: Iterable[int]) -> list[Case]:
    """Train on every dataset with every seed; graded datasets are used for the report only."""
    tuned = {world.name for world in WORLDS}
    cells = [(name, seed) for name in ALL for seed in seeds if name in tuned or seed < TUNING_SEED]
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(PROCESSES) as pool:
        return [case for cases in pool.map(measure, cells) for case in cases]


def measure(cell: tuple[str, int]) -> list[Case]:
    """Train jointly and each modality alone, and return the numbers of each modality."""
    name, seed = cell
    world = ALL[name]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", eq.EquipoiseWarning)
        data, run = world.write(Path(folder) / "data", seed), Path(folder) / "joint"
        eq.fit(data, out=run, seed=seed, diagnose_every=0, **world.options())
        contributions = contribution_of_run(run)
        diagnosis = eq.diagnose_run(run, preset="robust")
        quality = encoder_quality(run, fine_tune=False)
    return [
        Case(name, seed, world.truth[m], numbers_of(diagnosis[m], contributions, quality))
        for m in world.truth
    ]


if __name__ == "__main__":
    main()
