"""New raw files are read exactly as the training data were, without their labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import equipoise as eq
from equipoise.data.datasets import DATASETS
from equipoise.data.datasets.from_source import SourceDataset
from equipoise.data.datasets.table import OwnTable
from equipoise.data.new_samples import prepare_new
from equipoise.data.prepare.engine import prepare
from equipoise.data.prepare.journal import plan_digest
from equipoise.data.prepare.readers.recorded import READERS, as_recorded, restored_reader
from equipoise.data.prepare.readers.table_file import TextFormat
from equipoise.data.prepare.readers.text import TokensReader
from media_files import moving_square, tone, write_image, write_video, write_wav

N = 8
MODALITIES = ("rgb:clip=frames", "sound=spectrogram", "photo=image", "note=tokens", "words=text")
NUMBERS = ("features=array", "imu_*=numbers")


def table_of(folder: Path, numbers: int = N, media: bool = True) -> pd.DataFrame:
    """Write files and return a table of them with relative paths; every row differs."""
    rng = np.random.default_rng(3)
    rows = []
    for row in range(numbers):
        if media:
            write_video(folder / f"{row}.avi", np.roll(moving_square(6), row, axis=2), 10)
            write_wav(folder / f"{row}.wav", tone(200 + row, 8000, 0.5), 8000)
            write_image(folder / f"{row}.png", moving_square(row + 1)[row])
        folder.mkdir(exist_ok=True)
        (folder / f"{row}.txt").write_text(f"word{row} and more")
        np.save(folder / f"{row}.npy", rng.normal(size=(5, 2)).astype(np.float32))
        files = {"clip": "avi", "sound": "wav", "photo": "png", "note": "txt", "features": "npy"}
        rows.append(
            {
                "id": f"s{row}",
                **{column: f"{row}.{ending}" for column, ending in files.items()},
                "words": f"a word {row}",
                **{f"imu_{axis}": repr(float(rng.normal())) for axis in "xyz"},
                "target": ["cat", "dog"][row % 2],
                "split": ["train", "train", "val", "test"][row * 4 // numbers],
                "group": f"g{row}",
            }
        )
    return pd.DataFrame(rows)


def trained_on(folder: Path, chosen: tuple[str, ...], **options: Any) -> Mapping[str, Any]:
    """Prepare a table, and return the record of it as a file has it."""
    table_of(folder, media="rgb:clip=frames" in chosen).to_csv(folder / "t.csv", index=False)
    dataset = OwnTable(modalities_from=chosen, **options)
    prepare(dataset.planned(folder / "t.csv"), folder / "set", workers=1)
    record: Mapping[str, Any] = json.loads((folder / "set" / "preparation.json").read_text())
    return record


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_new_table_without_labels_equals_one_prepared_by_hand(tmp_path: Path, ending: str) -> None:
    options: dict[str, Any] = {"resolution": "48x48", "frames": 2, "seconds": 0.5, "length": 6}
    record = trained_on(tmp_path / "old", (*MODALITIES, *NUMBERS), **options)
    table, path = table_of(tmp_path / "new", 6), tmp_path / "new" / f"n{ending}"
    by_hand = prepare(
        OwnTable(modalities_from=(*MODALITIES, *NUMBERS), **options).plan(_saved(table, path)),
        tmp_path / "by hand",
        workers=1,
    ).dataset
    bare = table.drop(columns=["target", "split", "group"])
    names = [*by_hand.modalities]
    found = prepare_new(record, _saved(bare, path), tmp_path / "found", names)
    assert found.dataset.ids.tolist() == [f"s{row}" for row in range(6)]
    assert (found.labels, found.lost) == ({}, ())
    for m in names:
        assert found.dataset.modalities[m].shape == by_hand.modalities[m].shape
        np.testing.assert_array_equal(found.dataset.array(m), by_hand.array(m))
    # Without a column of ids, rows are numbered; unused modalities are not read, whatever their files are.
    for file in (tmp_path / "new").glob("*.avi"):
        file.unlink()
    other = prepare_new(record, _saved(bare.drop(columns=["id", "clip"]), path), tmp_path / "o", names[1:])
    assert other.dataset.ids.tolist() == [str(row) for row in range(6)]
    for m in names[1:]:
        np.testing.assert_array_equal(other.dataset.array(m), by_hand.array(m))


def _saved(table: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    return path


def test_labels_are_returned_where_all_rows_have_them(tmp_path: Path) -> None:
    record = trained_on(tmp_path / "old", NUMBERS)
    table = table_of(tmp_path / "new", 4, media=False)
    table["target"] = "dog"  # a single class, which no dataset to train on may have
    found = prepare_new(record, _saved(table, tmp_path / "new" / "n.csv"), tmp_path / "1", ["features"])
    assert found.labels == {f"s{row}": "dog" for row in range(4)}
    table.loc[2, "target"] = ""
    found = prepare_new(record, _saved(table, tmp_path / "new" / "n.csv"), tmp_path / "2", ["features"])
    assert found.labels == {}


def test_samples_that_cannot_be_read_are_lost_by_name(tmp_path: Path) -> None:
    record = trained_on(tmp_path / "old", NUMBERS)
    path = _saved(table_of(tmp_path / "new", 4, media=False), tmp_path / "new" / "n.csv")
    (tmp_path / "new" / "1.npy").write_text("rubbish")
    found = prepare_new(record, path, tmp_path / "found", ["features", "imu_"])
    assert [one.id for one in found.lost] == ["s1"]
    assert found.dataset.ids.tolist() == ["s0", "s2", "s3"]


def test_relative_paths_start_at_the_root_of_training_if_it_is_still_there(tmp_path: Path) -> None:
    record = trained_on(tmp_path / "old", ("features=array",), root=str(tmp_path / "old"))
    table = table_of(tmp_path / "old", 4, media=False)
    first = np.load(tmp_path / "old" / "0.npy")
    path = _saved(table, tmp_path / "elsewhere.csv")
    found = prepare_new(record, path, tmp_path / "found", ["features"]).dataset
    np.testing.assert_array_equal(found.array("features")[0], first)
    moved = (tmp_path / "old").rename(tmp_path / "moved")
    path = _saved(table, moved / "n.csv")
    found = prepare_new(record, path, tmp_path / "again", ["features"]).dataset
    np.testing.assert_array_equal(found.array("features")[0], first)


def test_a_missing_column_is_said_in_one_line(tmp_path: Path) -> None:
    record = trained_on(tmp_path / "old", NUMBERS)
    table = table_of(tmp_path / "new", 4, media=False).drop(columns=["imu_y"])
    with pytest.raises(
        eq.DataError, match=r"no column 'imu_y', from which the modality 'imu_' is read; .*--without imu_"
    ):
        prepare_new(record, _saved(table, tmp_path / "new" / "n.csv"), tmp_path / "x", ["imu_"])


def test_what_a_record_cannot_say_is_one_line(tmp_path: Path) -> None:
    record = dict(trained_on(tmp_path / "old", NUMBERS))
    path = tmp_path / "old" / "t.csv"

    def refused(changed: Mapping[str, Any], match: str) -> None:
        with pytest.raises(eq.DataError, match=match) as told:
            prepare_new({**record, **changed}, path, tmp_path / "x", ["features"])
        assert "\n" not in str(told.value)
        assert "--data" in str(told.value) or "as data" in str(told.value)

    refused({"dataset": None}, "by a version that did not record how")
    refused({"dataset": None, "readers": {}}, "were written as arrays")
    refused({"dataset": {"name": "tabel", "options": {}}}, "cannot be repeated .*did you mean table")
    refused({"dataset": {"name": "htad", "options": {}}}, "'htad' is not prepared from files")
    refused({"dataset": {"name": "table", "options": {"roof": 1}}}, "unknown option of 'table' 'roof'")
    refused({"readers": {"imu_": {}}}, "none of features was read from files, but imu_")
    readers = record["readers"]["features"]
    for wrong, match in (
        ({"reader": "os.system"}, "'os.system', which is none of"),
        ({"reader": None}, "None, which is none of"),
        ({"shape": "wide"}, "is damaged"),
        ({"depth": 3}, "no field 'depth'"),
    ):
        refused({"readers": {"features": {**readers, **wrong}}}, match)


# The record ------------------------------------------------------------------------------------------


def test_every_reader_is_restored_from_its_description() -> None:
    given: dict[str, dict[str, Any]] = {
        "NumbersReader": {"columns": ("a", "b"), "shape": (2,), "format": TextFormat("latin-1", ";", ",")},
        "CellTextReader": {"id_column": "id", "format": TextFormat(separator="\t")},
        "ArrayFileReader": {"role": "x", "shape": (3, 4), "dtype": "float64", "kind": "sequence"},
        "FramesReader": {"size": (48, 64), "pick": "second"},
        "FlowReader": {"size": (48, 64), "method": "dis"},
        "FbankReader": {"mean": 1.25},
    }
    for name, kind in READERS.items():
        reader = kind(**given.get(name, {}))
        described = json.loads(json.dumps(reader.describe()))
        assert restored_reader("m", described) == reader
        assert as_recorded({"m": described}, {"m": reader})["m"] is reader


def test_a_tokenizer_is_used_only_where_its_folder_is_known() -> None:
    described = {**TokensReader().describe(), "tokenizer": "0123", "vocabulary": None}
    with pytest.raises(eq.DataError, match=r"pretrained tokenizer.*\(0123\) but not its folder"):
        restored_reader("text", described)


def test_options_survive_a_file() -> None:
    for name, kind in DATASETS.items():
        if issubclass(kind, SourceDataset):
            own = kind(modalities_from=("a=numbers",), pixels=9) if issubclass(kind, OwnTable) else kind()
            assert type(own).from_options(json.loads(json.dumps(own.options()))) == own, name


def test_the_record_changes_neither_plan_nor_fingerprint(tmp_path: Path) -> None:
    table_of(tmp_path / "in", media=False).to_csv(tmp_path / "in" / "t.csv", index=False)
    dataset = OwnTable(modalities_from=NUMBERS)
    planned = dataset.planned(tmp_path / "in" / "t.csv")
    plain = replace(planned, made_by={})
    assert plain == dataset.plan(tmp_path / "in" / "t.csv")
    assert plan_digest(plain) == plan_digest(planned)
    one, two = (prepare(p, tmp_path / n, workers=1).dataset for p, n in ((plain, "one"), (planned, "two")))
    assert one.fingerprint == two.fingerprint
    assert {**two.preparation, "dataset": 0} == {**one.preparation, "dataset": 0}
    assert two.preparation["dataset"]["name"] == "table"
    assert OwnTable.from_options(two.preparation["dataset"]["options"]) == dataset
