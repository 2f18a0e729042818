"""Names of utterances, and folds, in the published forms."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.data.prepare.sentiment.utterances import (
    parse_name,
    read_folds,
    replace_nonfinite,
    unique_names,
)

SHARED = Path(__file__).parents[5] / "shared" / "data"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("03bSnISJMiM$_$1", ("03bSnISJMiM$_$1", "03bSnISJMiM")),
        ("c5xsKMxpXnc[12]", ("c5xsKMxpXnc[12]", "c5xsKMxpXnc")),
        ("_dI--eQ6qVU_3", ("_dI--eQ6qVU_3", "_dI--eQ6qVU")),
        ("abcdefgh_12", ("abcdefgh_12", "abcdefgh_12")),
        (b"73449", ("73449", "73449")),
        (np.array([b"03bSnISJMiM", b"0", b"1"]), ("03bSnISJMiM[0,1]", "03bSnISJMiM")),
        (["--qXJuDtHPw", "23.199", "30.325"], ("--qXJuDtHPw[23.199,30.325]", "--qXJuDtHPw")),
        (np.array([b"only"]), ("only", "only")),
    ],
)
def test_videos_are_found_in_every_form_of_id(name: Any, expected: tuple[str, str]) -> None:
    assert parse_name(name) == expected


def test_names_become_unique_even_with_similar_names() -> None:
    names, changed = unique_names(["a", "a", "a#2", "b", "a"])
    assert len(set(names)) == 5
    assert changed == 2
    assert [names[0], names[2], names[3]] == ["a", "a#2", "b"]


@pytest.mark.skipif(not SHARED.exists(), reason="the published folds are not available")
def test_the_published_folds_are_read() -> None:
    folds = list(read_folds(SHARED / "splits" / "cmu_mosi_std_folds.csv").values())
    assert {split: folds.count(split) for split in ("train", "val", "test")} == {
        "train": 52,
        "val": 10,
        "test": 31,
    }


def test_large_arrays_are_counted_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equipoise.data.format.content.CHUNK_BYTES", 100)
    values = np.ones((11, 2, 5), np.float32)
    values[0, 0, 0], values[3, 1], values[10, 1, 4], values[10, 0, 0] = np.nan, -np.inf, np.inf, np.nan
    counts = Counter[str]()
    replace_nonfinite(values, counts)
    assert counts == {"nan": 2, "-inf": 5, "inf": 1, "samples": 3}
    expected = np.ones((11, 2, 5))
    expected[0, 0, 0] = expected[3, 1] = expected[10, 1, 4] = expected[10, 0, 0] = 0
    np.testing.assert_array_equal(values, expected)
