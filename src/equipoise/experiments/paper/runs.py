"""The runs of a comparison that finished."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from equipoise.experiments.compare.comparison import Comparison


def finished_runs(comparison: Comparison) -> Iterator[tuple[str, int, Path]]:
    """Yield method, seed and folder of each finished run, in the order of the results."""
    finished = comparison.results[comparison.results["status"] == "ok"]
    for row in finished.to_dict("records"):
        method, seed = str(row["method"]), int(row["seed"])
        yield method, seed, comparison.run_folder(method, seed)
