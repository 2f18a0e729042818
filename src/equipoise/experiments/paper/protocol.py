"""What selecting epochs on the test split would change: figures that are not honest, and marked so."""

from __future__ import annotations

from equipoise.experiments.compare.comparison import Comparison
from equipoise.experiments.paper.runs import finished_runs
from equipoise.training.record.trace import read_trace


def selected_on_test(comparison: Comparison) -> dict[str, list[float]]:
    """Return the best test accuracy over the epochs of each run, by method, in the order of the seeds.

    No run sees the test split in training: the weights of every epoch are kept, and measured once training
    has ended (`trace`, with `diagnose_every=1`). Methods that train nothing have no epochs to select.
    """
    found: dict[str, list[float]] = {}
    for method, _, folder in finished_runs(comparison):
        points = read_trace(folder) or ()
        if own := [point.accuracy["test"] for point in points if point.event == "epoch"]:
            found.setdefault(method, []).append(max(own))
    return found
