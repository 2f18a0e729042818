"""Invalid data are refused with a one-line error that names a remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from equipoise.data import write_dataset
from equipoise.types import DataError

RNG = np.random.default_rng(0)

GOOD = RNG.normal(size=(6, 2))
Y = [0, 1, 2, 0, 1, 2]
BAD_CALLS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no modality": ({"inputs": {}}, ["no modality", "give at least one"]),
    "no mapping": ({"inputs": GOOD}, ["ndarray", "mapping"]),
    "name is no text": ({"inputs": {3: GOOD}}, ["3", "text"]),
    "empty name": ({"inputs": {"": GOOD}}, ["''", "text"]),
    "unequal lengths": (
        {"inputs": {"a": GOOD, "b": GOOD[:5]}},
        ["modality 'a' 6", "modality 'b' 5", "the target 6", "one row for each sample"],
    ),
    "short target": ({"target": [0, 1]}, ["modality 'a' 6", "the target 2"]),
    "no samples": ({"inputs": {"a": GOOD[:0]}, "target": []}, ["no samples", "at least one"]),
    "object dtype": (
        {"inputs": {"a": np.array([[{}], [2]] * 3, dtype=object)}},
        ["'a'", "object", "numbers"],
    ),
    "text dtype": ({"inputs": {"a": np.array([["x"]] * 6)}}, ["'a'", "<U1", "numbers"]),
    "complex dtype": ({"inputs": {"a": GOOD + 1j}}, ["'a'", "complex128", "floats"]),
    "complex tensor": ({"inputs": {"a": torch.zeros(6, 2, dtype=torch.complex64)}}, ["'a'", "complex64"]),
    "dates": ({"inputs": {"a": np.zeros((6, 1), "datetime64[s]")}}, ["'a'", "datetime64", "numbers"]),
    "ragged": ({"inputs": {"a": [[1.0], [1.0, 2.0]] * 3}}, ["'a'", "rectangular", "pad"]),
    "masked": ({"inputs": {"a": np.ma.masked_less(GOOD, 0)}}, ["'a'", "masked", "fill"]),
    "sparse": ({"inputs": {"a": torch.zeros(6, 2).to_sparse()}}, ["'a'", "sparse", "to_dense"]),
    "one axis": ({"inputs": {"a": GOOD[:, 0]}}, ["'a'", "[6]", "reshape(-1, 1)"]),
    "no axis": ({"inputs": {"a": torch.tensor(1.0)}}, ["'a'", "[]", "[N, ...]"]),
    "empty axis": ({"inputs": {"a": np.zeros((6, 0))}}, ["'a'", "[6, 0]", "length 0"]),
    "too many axes": (
        {"inputs": {"a": np.zeros((6, 1, 1, 1, 1, 1))}},
        ["'a'", "5 axes", "video [T, C, H, W]"],
    ),
    "kind does not fit": ({"kinds": {"a": "image"}}, ["'a'", "[6, 2]", "image [C, H, W]", "reshape"]),
    "negative tokens": (
        {"inputs": {"a": np.array([[3, -1]] * 6)}, "kinds": {"a": "tokens"}},
        ["'a'", "token -1", "at least 0"],
    ),
    "bytes that are no text": ({"target": [b"\xff", b"a"] * 3}, ["\\xff", "not UTF-8"]),
    "unknown kind": ({"kinds": {"a": "sound"}}, ["'sound'", "vector, tokens, sequence, image, video"]),
    "kind of another": ({"kinds": {"z": "vector"}}, ["kinds", "'z'", "'a'"]),
    "float tokens": ({"kinds": {"a": "tokens"}}, ["'a'", "float", "whole numbers"]),
    "content of a vector": ({"contents": {"a": "frames"}}, ["'frames'", "vector", "image or a video"]),
    "unknown content": ({"contents": {"a": "radar"}}, ["'radar'", "frames, spectrogram, flow"]),
    "content of another": ({"contents": {"z": "flow"}}, ["contents", "'z'", "'a'"]),
    "unknown task": ({"task": "ranking"}, ["'ranking'", "'classification' or 'multilabel' or 'regression'"]),
    "infinite values": (
        {"task": "regression", "target": [0.5, float("inf"), 1, 2, 3, 4]},
        ["not finite", "1 samples", "row 1"],
    ),
    "texts for values": ({"task": "regression", "target": list("abcabc")}, ["no numbers", "one number"]),
    "classes of values": (
        {"task": "regression", "target": [0.5] * 6, "classes": ["a"]},
        ["classes", "regression"],
    ),
    "normalisation": ({"normalize": {"a": "zscore"}}, ["'zscore'", "'standard' or 'clip' or 'none'"]),
    "normalisation of another": ({"normalize": {"z": "none"}}, ["normalize", "'z'", "'a'"]),
    "ignored labels": ({"target": [0, 1, -100] * 2}, ["2 of 6 labels are -100", "leave these samples out"]),
    "float labels": ({"target": [0.0, 1.0, 2.0] * 2}, ["float64", "return_inverse=True", "classes=classes"]),
    "missing text label": ({"target": ["a", "b", float("nan")] * 2}, ["target of sample 2 is missing (nan)"]),
    "no text label": ({"target": ["a", "", "c"] * 2}, ["target of sample 1 is missing ('')"]),
    "no first label": ({"target": [None, "b", "c"] * 2}, ["target of sample 0 is missing (None)"]),
    "texts and numbers": ({"target": ["a", 0, "c"] * 2}, ["texts and '0'", "texts only"]),
    "other classes than texts": (
        {"target": list("abcabc"), "classes": list("abd")},
        ["classes lacks the label 'c'"],
    ),
    "missing labels": ({"target": [0, 1, None] * 2}, ["object", "integer"]),
    "one-hot labels": ({"target": np.eye(3, dtype=int)[Y]}, ["[6, 3]", "argmax(axis=1)"]),
    "column labels": ({"target": torch.tensor(Y)[:, None]}, ["[6, 1]", "ravel()"]),
    "ragged labels": ({"target": [[1], [1, 2]] * 3}, ["ragged", "one class"]),
    "scalar label": ({"target": 3}, ["[]", "one class"]),
    "one class": ({"target": [4] * 6}, ["one class", "'4'", "at least 2"]),
    "too many classes": ({"classes": list("abcdefgh")}, ["6 samples for 8 classes"]),
    "wrong classes": ({"classes": list("ab")}, ["2 names", "3 distinct", "'0', '1', '2'"]),
    "classes is a text": ({"classes": "abc"}, ["str", "list of class names"]),
    "class twice": ({"classes": ["x", "y", "x"]}, ["'x'", "more than once"]),
    "short split": ({"split": ["train"] * 5}, ["split has 5 values for 6"]),
    "short group": ({"group": ["g"] * 7}, ["group has 7 values for 6"]),
    "short ids": ({"ids": []}, ["ids has 0 values for 6"]),
    "ids are a text": ({"ids": "abcdef"}, ["ids is 'abcdef'", "one value for each"]),
    "group is a number": ({"group": 3}, ["group is 3", "one value for each"]),
    "two ids": ({"ids": ["a", "b", "c", "a", "b", "d"]}, ["2 ids", "'a', 'b'", "more than once"]),
    "unknown split": ({"split": ["train", "dev", "test"] * 2}, ["'dev'", "'train', 'val', 'test'"]),
    "missing split": ({"split": ["train", "", "test"] * 2}, ["split of sample 1 is missing"]),
    "missing group": ({"group": [1.0, 2.0, float("nan")] * 2}, ["group of sample 2 is missing", "nan"]),
    "no group": ({"group": ["a", None, "b"] * 2}, ["group of sample 1 is missing", "None"]),
    "nested group": ({"group": [[1], [1, 2], [3]] * 2}, ["group of sample 0 is a list"]),
    "two group columns": ({"group": np.zeros((6, 2))}, ["group of sample 0 is a"]),
    "NUL id": ({"ids": ["a\0", "b", "c", "d", "e", "f"]}, ["ids of sample 0", "NUL"]),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_invalid_data_are_refused_in_one_line(tmp_path: Path, case: str) -> None:
    changes, words = BAD_CALLS[case]
    with pytest.raises(DataError) as caught:
        write_dataset(**{"folder": tmp_path / "new" / "set", "inputs": {"a": GOOD}, "target": Y, **changes})
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_non_finite_features_are_refused(tmp_path: Path, value: float) -> None:
    bad = RNG.random((60, 5, 3))
    bad[[3, 50, 51, 59], 4, 2] = value
    with pytest.raises(DataError, match=r"'b'.* in 4 of 60 samples \('c3', 'c50', 'c51' and 1 more\); fill"):
        write_dataset(
            tmp_path / "x" / "set",
            {"a": bad[:, :, 0] * 0, "b": bad},
            np.arange(60) % 2,
            ids=[f"c{i}" for i in range(60)],
        )
    assert list(tmp_path.iterdir()) == []
