"""Opening a dataset: every defect of a folder has its own clear error."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.data import PreparedDataset, open_dataset
from equipoise.types import DataError, UnknownNameError

Write = Callable[..., PreparedDataset]


def edit(folder: Path, **changes: Any) -> None:
    file = folder / "dataset.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_folders_without_a_dataset(tmp_path: Path, write: Write) -> None:
    with pytest.raises(DataError, match=r"does not exist; expected the folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no dataset.json; create one with equipoise.write_dataset"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match=r"is a file; expected the folder"):
        open_dataset(write().path / "index.csv")


@pytest.mark.parametrize("text", ["{", "", "[]", "null", "{}", '{"format": "parquet"}', "\xff"])
def test_a_damaged_description(write: Write, text: str) -> None:
    folder = write().path
    (folder / "dataset.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"dataset\.json"):
        open_dataset(folder)


@pytest.mark.parametrize(
    "key", ["n", "classes", "modalities", "has_split", "has_group", "fingerprint", "name"]
)
def test_a_description_with_a_missing_part(write: Write, key: str) -> None:
    folder = write().path
    described = json.loads((folder / "dataset.json").read_text())
    del described[key]
    (folder / "dataset.json").write_text(json.dumps(described))
    with pytest.raises(DataError, match=r"damaged.*write it again"):
        open_dataset(folder)


@pytest.mark.parametrize("modalities", [3, ["a"], [{"name": "a"}], [{}]])
def test_invalid_modalities(write: Write, modalities: Any) -> None:
    folder = write().path
    edit(folder, modalities=modalities)
    with pytest.raises(DataError, match="damaged"):
        open_dataset(folder)


def test_versions(write: Write) -> None:
    folder = write().path
    edit(folder, format_version=2)
    with pytest.raises(DataError, match="version 2, this Equipoise reads up to 1; upgrade equipoise"):
        open_dataset(folder)
    edit(folder, format_version="one")
    with pytest.raises(DataError, match="'one', expected 1"):
        open_dataset(folder)


def test_a_description_cannot_name_files_outside_its_folder(write: Write) -> None:
    found = write()
    described = json.loads((found.path / "dataset.json").read_text())
    described["modalities"][0]["file"] = "../secret.npy"
    edit(found.path, modalities=described["modalities"])
    with pytest.raises(DataError, match="outside its folder"):
        open_dataset(found.path)


def test_array_files(write: Write) -> None:
    found = write()
    file = found.path / "00_a.npy"
    content = file.read_bytes()
    for broken in (content[:-8], content[:20], b""):
        file.write_bytes(broken)
        with pytest.raises(DataError, match=r"00_a\.npy, the array of modality 'a', is truncated or damaged"):
            open_dataset(found.path)
    for wrong in (np.zeros((60, 4)), np.zeros((59, 3)), np.zeros((60, 3), np.float32)):
        np.save(file, wrong)
        with pytest.raises(DataError, match=r"expected float64 \[60, 3\] for modality 'a'"):
            open_dataset(found.path)
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="truncated or damaged"):
        open_dataset(found.path)
    file.unlink()
    with pytest.raises(DataError, match=r"00_a\.npy, the array of modality 'a', is missing"):
        open_dataset(found.path)


def test_an_edited_index(write: Write) -> None:
    folder = write().path
    file = folder / "index.csv"
    text = file.read_text()
    file.write_text(text.replace('"7",1', '"7",2'))
    with pytest.raises(DataError, match=r"was changed after writing .* write the dataset again"):
        open_dataset(folder)
    file.write_text("\n".join(text.splitlines()[:-1]) + "\n")
    with pytest.raises(DataError, match=r"59 rows, dataset.json says 60"):
        open_dataset(folder)
    for broken in ("", "id,target\n", text.replace('"7",1', '"7",x'), text.replace('"7",1', '"7",9,9,1')):
        file.write_text(broken)
        with pytest.raises(DataError) as caught:
            open_dataset(folder)
        assert "\n" not in str(caught.value)
    file.unlink()
    with pytest.raises(DataError, match="damaged"):
        open_dataset(folder)


def test_verify_detects_changed_features(write: Write, small_chunks: None) -> None:
    found = write(ids=[f"s{i}" for i in range(60)])
    array = found.array("b").copy()
    array[[5, 58]] += 1
    np.save(found.path / "01_b.npy", array)
    reopened = open_dataset(found.path)
    with pytest.raises(DataError, match=r"modality 'b' .* 2 samples .*\('s5', 's58'\)"):
        reopened.verify()


def test_unknown_modality(write: Write) -> None:
    with pytest.raises(UnknownNameError, match="unknown modality 'c': known: a, b"):
        write().array("c")


def test_opening_reads_no_features(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write().path
    modes = []
    real = np.load
    monkeypatch.setattr(np, "load", lambda *a, **k: modes.append(k.get("mmap_mode")) or real(*a, **k))
    found = open_dataset(folder)
    assert modes == ["r", "r"]
    assert len(pickle.dumps(found)) < 60_000
    assert repr(found) == "<PreparedDataset 'set': 60 samples, 3 classes, a [3], b [2, 4]>"
