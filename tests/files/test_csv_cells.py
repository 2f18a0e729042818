"""A spreadsheet takes texts as texts, and our readers get back what was written."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pandas as pd
import pytest

from equipoise.files.csv_cells import as_cell, csv_text, from_cell, read_csv
from equipoise.types import DataError

TEXTS = (
    *("=1+1", "+SUM(A1)", "-cmd|' /C calc'!A0", "@x", "\t=1", "\r=1", "=", "-", "'=1", "''=1", "'-1", "-x"),
    *("plain", "a=b", "'quoted'", "", "-1", "+2.5", "-.5e-3", "1e5", "1-2", "é"),
)


def test_a_formula_becomes_a_text_and_is_read_back() -> None:
    rng = random.Random(0)
    drawn = ["".join(rng.choices("'=+-@\t\r1.e ", k=rng.randint(0, 6))) for _ in range(5000)]
    for text in (*TEXTS, *drawn):
        cell = as_cell(text)
        assert from_cell(cell) == text
        if cell[:1] in tuple("=+-@\t\r"):
            float(cell)  # a number, which a spreadsheet may take as one
    assert [as_cell(text) for text in ("-1", "+2.5", "-.5e-3", "1-2", "plain")] == [
        *("-1", "+2.5", "-.5e-3", "1-2", "plain")
    ]
    assert [as_cell(value) for value in (-1.5, None, 3)] == [-1.5, None, 3]


def test_a_table_is_read_back_as_it_was(tmp_path: Path) -> None:
    table = pd.DataFrame({"=name": TEXTS, "x": [-0.5 * n for n in range(len(TEXTS))]})
    path = tmp_path / "a.csv"
    path.write_bytes(csv_text(table).encode())
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.reader(file):
            assert row[0][:1] not in tuple("=@\t\r")
            assert not row[0].startswith(("-c", "+S", "-x"))
    held = read_csv(path, DataError, dtype={"=name": str}, keep_default_na=False)
    pd.testing.assert_frame_equal(held, table)


def test_a_file_that_is_no_table_gives_the_error_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'a,b\n"1,2\n3,4,5\n')
    with pytest.raises(DataError):
        read_csv(path, DataError)
