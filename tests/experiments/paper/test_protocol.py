"""Epochs selected on the test split, from traces that were measured after training."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from equipoise.experiments.compare.comparison import Comparison
from equipoise.experiments.paper.protocol import selected_on_test


def trace(folder: Path, accuracies: list[tuple[str, float]]) -> None:
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({"test": {}, "validation": {}, "seed": 0}))
    (folder / "config.yaml").write_text("{}")
    lines = [
        {"epoch": epoch, "event": event, "modalities": {}, "accuracy": {"val": 0.1, "test": test}}
        for epoch, (event, test) in enumerate(accuracies)
    ]
    (folder / "trace.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_best_epoch_of_each_run(tmp_path: Path, monkeypatch) -> None:
    runs = tmp_path / "runs"
    trace(runs / "joint-seed0", [("epoch", 0.2), ("epoch", 0.6), ("epoch", 0.5)])
    trace(runs / "joint-seed1", [("epoch", 0.4), ("before-relearning", 0.9), ("epoch", 0.3)])
    trace(runs / "ogm-seed1", [("epoch", 0.7)])
    rows = [("joint", 0, "ok"), ("joint", 1, "ok"), ("ogm", 0, "failed: x"), ("ogm", 1, "ok")]
    results = pd.DataFrame(rows, columns=["method", "seed", "status"])
    found = selected_on_test(Comparison(tmp_path, results, {}))
    assert found == {"joint": [0.6, 0.4], "ogm": [0.7]}
