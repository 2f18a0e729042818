"""Files of runs, comparisons, tunings and datasets that parse, but hold other entries than expected."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import equipoise as eq
from equipoise.data import open_dataset
from equipoise.experiments.compare.comparison import SUMMARY, read_comparison
from equipoise.experiments.compare.tuned import TUNED, Tuned, TunedMethod, read_tuned
from equipoise.report.records import read_run
from equipoise.training.record.record import SNAPSHOT_INDEX, RunRecord
from equipoise.training.record.snapshots import Snapshots
from equipoise.training.record.trace import read_trace
from other_content import refuses_other_content

EARLIER = Path(__file__).parents[1] / "support" / "earlier"
pytestmark = pytest.mark.mutations


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Changed settings are warned of, which is not asked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", eq.EquipoiseWarning)
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run without seals, a comparison, a tuning and a prepared dataset."""
    for name in ("run", "comparison", "set"):
        shutil.copytree(EARLIER / name, tmp_path / name)
    point = {"event": "epoch", "modalities": {"audio": {"train": 0.5}}, "accuracy": {"val": 0.5}}
    (tmp_path / "run" / "trace.jsonl").write_text(
        "".join(json.dumps({"epoch": epoch} | point) + "\n" for epoch in range(3))
    )
    index = tmp_path / "run" / SNAPSHOT_INDEX
    index.parent.mkdir()
    index.write_text(json.dumps({"epoch": 0, "event": "epoch", "weights": "9b" * 32}) + "\n")
    (tmp_path / "tuning").mkdir()
    method = TunedMethod(finished=2, default=0.5, best=0.6, trial=1, chosen={"lr": 0.1}, causes={1: "no"})
    Tuned(
        folder=tmp_path / "tuning",
        dataset="d",
        data_fingerprint="a",
        split_fingerprint="b",
        figure="val_accuracy",
        trials=2,
        seeds=[0],
        settings={"epochs": 3, "encoder": ["mlp"]},
        methods={"joint": method},
    ).write()
    return tmp_path


def read_both(file: Path) -> None:
    read_run(file.parent)
    eq.load_run(file.parent)


def read_and_tell(file: Path) -> None:
    comparison = read_comparison(file.parent)
    comparison.table()
    assert comparison.failed >= 0


READERS: dict[str, Callable[[Path], object]] = {
    "run/result.json": read_both,
    "run/config.yaml": read_both,
    "run/metrics.jsonl": lambda file: read_run(file.parent),
    "run/diagnosis.jsonl": read_both,
    "run/trace.jsonl": lambda file: read_trace(file.parent),
    f"run/{SNAPSHOT_INDEX}": lambda file: Snapshots(RunRecord(file.parents[1])).all(),
    f"comparison/{SUMMARY}": read_and_tell,
    f"tuning/{TUNED}": lambda file: read_tuned(file.parent),
    "set/dataset.json": lambda file: open_dataset(file.parent),
}


@pytest.mark.parametrize("name", READERS)
def test_it_is_read_or_refused_in_one_line(name: str, folder: Path) -> None:
    refuses_other_content(READERS[name], folder / name, reader=name.partition("/")[0])
