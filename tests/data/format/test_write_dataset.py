"""Writing: accepted data are read back unchanged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import equipoise.data.format.writing as writing
from equipoise.data import PreparedDataset, open_dataset, write_dataset

RNG = np.random.default_rng(0)
Write = Callable[..., PreparedDataset]
ODD_NAMES = [
    "a/b",
    "..",
    "train",
    "Ärger",
    ".",
    "A",
    "a",
    "con",
    "x" * 300,
    "日本",
    "id",
    "nul\n",
    "C:\\x",
    " ",
]


@pytest.mark.usefixtures("small_chunks")
def test_round_trip_of_everything(tmp_path: Path, inputs: dict[str, Any]) -> None:
    count = 60
    split = np.repeat(["train", "valid", "validation", "test"], 15)
    written = write_dataset(
        tmp_path / "deep" / "er" / "set",
        inputs,
        np.arange(count) % 3,
        split,
        np.arange(count) // 5,
        [f"clip {i}" for i in range(count)],
        classes=["no", "yes", "nan"],
        normalize={"image": "none"},
        name="tiny",
        licence="CC0",
        source="a test",
    )
    for found in (written, open_dataset(tmp_path / "deep" / "er" / "set")):
        assert (found.name, found.licence, found.source) == ("tiny", "CC0", "a test")
        assert found.classes == ("no", "yes", "nan")
        assert len(found) == count
        assert found.target.dtype == np.int64
        assert found.target.tolist() == [i % 3 for i in range(count)]
        assert found.split is not None
        assert found.split.tolist() == ["train"] * 15 + ["val"] * 30 + ["test"] * 15
        assert found.group is not None
        assert found.group.tolist() == [str(i // 5) for i in range(count)]
        assert found.ids[7] == "clip 7"
        assert list(found.modalities) == list(inputs)
        assert [spec.kind for spec in found.modalities.values()] == list(inputs)
        assert [spec.normalize for spec in found.modalities.values()] == [
            "standard",
            "standard",
            "none",
            "standard",
        ]
        for name, array in inputs.items():
            assert isinstance(found.array(name), np.memmap)
            assert not found.array(name).flags.writeable
            assert found.array(name).dtype == array.dtype
            np.testing.assert_array_equal(found.array(name), array)
            assert found.modalities[name].shape == array.shape[1:]
        assert found.fingerprint == written.fingerprint
        found.verify()
        with pytest.raises(ValueError, match="read-only"):
            found.target[0] = 2


def test_files_are_named_after_number_and_slug(write: Write) -> None:
    found = write(inputs={name: RNG.random((60, 2)) for name in ["Audio", "a/b", "Ärger", "日本"]})
    assert {path.name for path in found.path.iterdir()} == {
        "00_audio.npy", "01_a-b.npy", "02_arger.npy", "03_unnamed.npy", "index.csv", "dataset.json"
    }  # fmt: skip
    assert list(pd.read_csv(found.path / "index.csv").columns) == [
        "id", "target", "split", "group", "hash_00_audio", "hash_01_a-b", "hash_02_arger", "hash_03_unnamed"
    ]  # fmt: skip


def test_any_modality_name_works(write: Write) -> None:
    inputs = {name: RNG.random((60, 2)) for name in ODD_NAMES}
    found = write(inputs=inputs)
    assert list(found.modalities) == ODD_NAMES
    for name in ODD_NAMES:
        np.testing.assert_array_equal(found.array(name), inputs[name])
    assert sorted(path.parent for path in found.path.rglob("*")) == [found.path] * (len(ODD_NAMES) + 2)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.lists(
        st.text(min_size=1).filter(lambda text: "\0" not in text), min_size=4, max_size=4, unique=True
    )
)
def test_any_text_is_an_id_and_a_group(tmp_path: Path, ids: list[str]) -> None:
    found = write_dataset(
        tmp_path / "set", {"a": np.zeros((4, 1))}, [0, 1, 0, 1], group=ids, ids=ids, overwrite=True
    )
    assert found.ids.tolist() == ids
    assert found.group is not None
    assert found.group.tolist() == ids


def test_tensors_lists_memory_maps_and_byte_orders(tmp_path: Path, write: Write) -> None:
    mapped = np.lib.format.open_memmap(tmp_path / "m.npy", "w+", np.float32, (60, 2))
    mapped[:] = RNG.random((60, 2))
    inputs = {
        "tensor": torch.rand(60, 2, requires_grad=True),
        "bfloat16": torch.rand(60, 2).to(torch.bfloat16),
        "list": RNG.random((60, 2)).tolist(),
        "mapped": mapped,
        "big-endian": np.arange(120, dtype=">i4").reshape(60, 2),
        "strided": RNG.random((60, 8))[:, ::4],
        "fortran": np.asfortranarray(RNG.random((60, 2, 3))),
        "bool": RNG.random((60, 2)) > 0.5,
    }
    found = write(inputs=inputs, target=torch.arange(60) % 2, group=torch.arange(60), ids=np.arange(60))
    for name, values in inputs.items():
        expected = values.detach().float().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
        np.testing.assert_array_equal(found.array(name), expected)
    assert found.modalities["bfloat16"].dtype == "float32"
    assert found.modalities["big-endian"].dtype == "int32"


@pytest.mark.parametrize(
    ("target", "classes", "expected", "names"),
    [
        ([0, 1, 2, 0], None, [0, 1, 2, 0], ("0", "1", "2")),
        ([3, 7, -2, 3], None, [1, 2, 0, 1], ("-2", "3", "7")),
        ([True, False, True, True], None, [1, 0, 1, 1], ("False", "True")),
        ([10, 20, 10, 20], ["ten", "twenty"], [0, 1, 0, 1], ("ten", "twenty")),
        (np.array([0, 2**64 - 1, 0, 0], dtype=np.uint64), None, [0, 1, 0, 0], ("0", str(2**64 - 1))),
        (torch.tensor([False, True, False, True]), np.array(["n", "y"]), [0, 1, 0, 1], ("n", "y")),
        (pd.Series([5, 6, 5, 6], index=[9, 8, 7, 6]), None, [0, 1, 0, 1], ("5", "6")),
    ],
)
def test_labels_are_renumbered(
    tmp_path: Path, target: Any, classes: Any, expected: list[int], names: tuple[str, ...]
) -> None:
    found = write_dataset(tmp_path / "set", {"a": np.zeros((4, 1))}, target, classes=classes)
    assert found.target.tolist() == expected
    assert found.classes == names


def test_the_fingerprint_depends_on_the_content_only(tmp_path: Path, write: Write) -> None:
    base = write()
    described = json.loads((base.path / "dataset.json").read_text())
    assert described["fingerprint"] == base.fingerprint
    assert (
        write(folder=tmp_path / "elsewhere", name="other", licence="x", source="y").fingerprint
        == base.fingerprint
    )
    changed = base.array("a").copy()
    changed[17, 1] += 1e-9
    other_target = base.target.copy()
    other_target[[0, 1]] = other_target[[1, 0]]
    variants: list[dict[str, Any]] = [
        {"inputs": {"a": changed, "b": base.array("b")}},
        {"inputs": {"b": base.array("b"), "a": base.array("a")}},
        {"inputs": {"a": base.array("a"), "c": base.array("b")}},
        {"inputs": {"a": base.array("a")}},
        {"target": other_target},
        {"classes": ["x", "y", "z"]},
        {"split": ["train", "val", "test"] * 20},
        {"group": ["g"] * 60},
        {"ids": [f"i{i}" for i in range(60)]},
        {"normalize": "none"},
    ]
    prints = [write(folder=tmp_path / f"v{i}", **variant).fingerprint for i, variant in enumerate(variants)]
    assert len({base.fingerprint, *prints}) == len(variants) + 1


def test_large_arrays_are_read_in_pieces(tmp_path: Path, small_chunks: None) -> None:
    class Watched(np.ndarray):
        largest = 0

        def __getitem__(self, key: Any) -> Any:
            found = super().__getitem__(key)
            Watched.largest = max(Watched.largest, np.size(found))
            return found

    array = RNG.random((100, 10))
    watched = array.view(Watched)
    source = writing.ArraySource(watched, watched.shape, watched.dtype)
    for part in writing.chunks(100, 80):
        source.read(part)
    assert Watched.largest == 20  # two rows of 80 bytes fit into 200
    assert write_dataset(tmp_path / "set", {"a": array}, np.arange(100) % 2).array("a").shape == (100, 10)


def test_a_path_does_not_depend_on_the_current_folder(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = write(folder="relative")
    os.chdir("/")
    assert found.path == tmp_path.resolve() / "relative"
    found.verify()


TEXTS = ["dog", "cat", "10", "Ärger", "cat", "dog", "9", "10", "Ärger", "9"]


@pytest.mark.parametrize(
    "given",
    [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        np.array([text.encode() for text in TEXTS]),
        pd.Series(TEXTS),
        pd.Series(TEXTS, index=range(10, 20), dtype="string"),
        pd.Categorical(TEXTS, categories=[*sorted(set(TEXTS)), "never"]),
    ],
    ids=["list", "tuple", "array", "objects", "bytes", "series", "strings", "categorical"],
)
def test_texts_are_classes_in_sorted_order(write: Write, given: Any) -> None:
    found = write(count=10, target=given)
    assert found.classes == ("10", "9", "cat", "dog", "Ärger")
    assert found.target.tolist() == [3, 2, 0, 4, 2, 3, 1, 0, 4, 1]


def test_classes_give_the_order_of_texts(write: Write) -> None:
    found = write(count=6, target=["high", "low", "mid"] * 2, classes=["low", "mid", "high"])
    assert found.classes == ("low", "mid", "high")
    assert found.target.tolist() == [2, 0, 1] * 2
