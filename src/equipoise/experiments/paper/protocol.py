"""What selecting epochs on the test split would change: figures that are not honest, and marked so."""

from __future__ import annotations

from equipoise.experiments.compare.comparison import RUNS, Comparison
from equipoise.training.fit import run_name
from equipoise.training.record.trace import read_trace


def selected_on_test(comparison: Comparison) -> dict[str, list[float]]:
    """Return the best test accuracy over the epochs of each run, by method, in the order of the seeds.

    No run sees the test split in training: the weights of every epoch are kept, and measured once training
    has ended (`trace`, with `diagnose_every=1`). Methods that train nothing have no epochs to select.
    """
    found: dict[str, list[float]] = {}
    finished = comparison.results[comparison.results["status"] == "ok"]
    for row in finished.to_dict("records"):
        method = str(row["method"])
        points = read_trace(comparison.folder / RUNS / run_name(method, int(row["seed"]))) or ()
        if own := [point.accuracy["test"] for point in points if point.event == "epoch"]:
            found.setdefault(method, []).append(max(own))
    return found
