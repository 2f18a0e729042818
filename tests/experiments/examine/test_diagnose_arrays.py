"""Feature files of a user: what is accepted, and one clear line for each mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import equipoise as eq
from equipoise.experiments.examine.saved_features import SavedFeatures


def diagnose_arrays(file: Path, **options: Any) -> eq.Diagnosis:
    return eq.diagnose(*SavedFeatures(file).features(), **options)


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "train_a": rng.normal(size=(40, 3)),
        "val_a": rng.normal(size=(20, 3)),
        "train_b_c": rng.normal(size=(40, 2)).astype(np.float32),
        "val_b_c": rng.normal(size=(20, 2)).astype(np.float32),
        "train_labels": np.arange(40) % 4,
        "val_labels": np.arange(20) % 4,
    }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_equals_the_arrays_in_memory(tmp_path: Path, save: Any) -> None:
    held = arrays()
    save(tmp_path / "f.npz", **held, classes=np.array(["w", "x", "y", "z"]))
    before = (tmp_path / "f.npz").read_bytes()
    for options in ({}, {"preset": "robust"}, {"scaler": "none"}, {"repeats": 2, "scaler": "l2"}):
        found = diagnose_arrays(tmp_path / "f.npz", **options)
        expected = eq.diagnose(
            {"a": held["train_a"], "b_c": held["train_b_c"]},
            held["train_labels"],
            {"a": held["val_a"], "b_c": held["val_b_c"]},
            held["val_labels"],
            **options,
        )
        assert found == expected
    assert (tmp_path / "f.npz").read_bytes() == before


def test_a_continuous_target(tmp_path: Path) -> None:
    held = arrays()
    np.savez(
        tmp_path / "f.npz",
        **{**held, "train_labels": held["train_a"][:, 0], "val_labels": held["val_a"][:, 0]},
    )
    assert diagnose_arrays(tmp_path / "f.npz")["a"].metric == "ridge-r2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val_b_c": None}, "holds train_b_c and lacks val_b_c"),
        ({"train_a": None}, "holds val_a and lacks train_a"),
        ({"train_labels": None}, "lacks the array 'train_labels'"),
        ({"test_a": np.zeros((3, 3))}, "holds an array 'test_a'; expected train_NAME"),
        ({"train_": np.zeros((3, 3))}, "holds an array 'train_'"),
        ({"val_labels": np.arange(19) % 4}, "20 rows, but there are 19 val labels"),
        ({"val_a": np.zeros((20, 4))}, "3 features in train and 4 in val"),
        ({"train_a": np.array([{}] * 40, dtype=object)}, "cannot read the array 'train_a'"),
        ({"classes": np.array(["w", "x"])}, "train_labels do not fit the 2 names"),
        ({"train_a": None, "val_a": None, "train_b_c": None, "val_b_c": None}, "labels and no features"),
    ],
)
def test_a_mistake_gives_one_clear_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "f.npz", **{k: v for k, v in {**arrays(), **change}.items() if v is not None})
    with pytest.raises(eq.DataError, match=message) as caught:
        diagnose_arrays(tmp_path / "f.npz")
    assert "\n" not in str(caught.value)


def test_a_damaged_file(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "f.npz", **arrays())
    content = bytearray((tmp_path / "f.npz").read_bytes())
    content[100:160] = b"\0" * 60
    (tmp_path / "f.npz").write_bytes(content)
    with pytest.raises(eq.DataError, match="cannot read"):
        diagnose_arrays(tmp_path / "f.npz")
