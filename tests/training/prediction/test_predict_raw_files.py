"""From a raw table to a model, and from a new raw table without labels to its predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import equipoise as eq
from equipoise.data.datasets.table import OwnTable
from equipoise.data.prepare.engine import prepare

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 16, "diagnose_every": 0}
WORDS = ("calm sea", "high wind", "heavy rain")
OPTIONS: dict[str, Any] = {
    "modalities_from": ("imu:imu_*=numbers", "words=text", "picture=array"),
    "length": 4,
    "separator": ";",
    "decimal": ",",
}


def table_of(folder: Path, count: int, seed: int) -> pd.DataFrame:
    """Write arrays, and return a table of them with numbers, words and labels."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    rows = []
    for row in range(count):
        kind = row % 3
        np.save(folder / f"{row}.npy", (rng.normal(size=(2, 6, 6)) + kind).astype(np.float32))
        numbers = {f"imu_{axis}": str(rng.normal() + kind).replace(".", ",") for axis in "xyz"}
        labels = {"target": ("sail", "wait", "stay")[kind], "group": f"g{row}"}
        rows.append({**numbers, "words": f"{WORDS[kind]} day{row}", "picture": f"{row}.npy", **labels})
    return pd.DataFrame(rows)


def saved(table: pd.DataFrame, path: Path) -> Path:
    table.to_csv(path, index=False, sep=";")
    return path


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> eq.FitResult:
    """A run whose training data and raw files are gone."""
    folder = tmp_path_factory.mktemp("raw")
    table = saved(table_of(folder / "in", 90, 0), folder / "in" / "t.csv")
    prepare(OwnTable(**OPTIONS).planned(table), folder / "set", workers=1)
    run_dir = eq.fit(folder / "set", out=folder / "run", **QUICK).run_dir
    (folder / "in").rename(folder / "gone")
    (folder / "set").rename(folder / "gone too")
    return eq.load_run(run_dir)


def test_raw_files_are_predicted_like_those_that_are_prepared_by_hand(
    result: eq.FitResult, tmp_path: Path
) -> None:
    table = table_of(tmp_path / "new", 20, 1)
    labelled = saved(table, tmp_path / "new" / "with.csv")
    by_hand = prepare(OwnTable(**OPTIONS).plan(labelled), tmp_path / "by hand", workers=1).dataset
    expected = result.predict(by_hand)
    bare = saved(table.drop(columns=["target", "group"]), tmp_path / "new" / "without.csv")
    found = result.predict(source=bare)
    assert found.attrs["lost"] == []
    pd.testing.assert_frame_equal(found, expected.drop(columns="target"))
    assert result.predict(source=str(labelled))["target"].tolist() == table["target"].tolist()
    assert expected["target"].tolist() == table["target"].tolist()


def test_samples_that_cannot_be_read_are_counted(result: eq.FitResult, tmp_path: Path) -> None:
    table = table_of(tmp_path / "new", 6, 1)
    path = saved(table, tmp_path / "new" / "n.csv")
    (tmp_path / "new" / "4.npy").unlink()
    with pytest.warns(eq.EquipoiseWarning, match=r"1 of 6 samples of .*n\.csv cannot be read") as told:
        found = result.predict(source=path)
    assert str(tmp_path / "new" / "4.npy") in str(told[0].message)
    assert found["id"].tolist() == ["0", "1", "2", "3", "5"]
    assert len(found.attrs["lost"]) == 1
    for row in range(6):
        (tmp_path / "new" / f"{row}.npy").unlink(missing_ok=True)
    with pytest.raises(eq.DataError, match="none of 6 samples can be prepared"):
        result.predict(source=path)


def test_columns_of_a_modality_that_is_left_out_may_be_missing(result: eq.FitResult, tmp_path: Path) -> None:
    table = table_of(tmp_path / "new", 6, 1)
    whole = saved(table, tmp_path / "new" / "n.csv")
    expected = result.predict(source=whole, without="words")
    part = saved(table.drop(columns="words"), tmp_path / "new" / "p.csv")
    pd.testing.assert_frame_equal(result.predict(source=part, without=["words"]), expected)
    with pytest.raises(eq.DataError, match=r"no column 'words', .*--without words"):
        result.predict(source=part)
    with pytest.raises(eq.UsageError, match="not"):
        result.predict(source=tmp_path / "nowhere.csv")
