"""Text tables of spreadsheets: rows of another length are refused, and decimal commas are an option."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from equipoise.data.datasets.table import OwnTable
from equipoise.data.prepare.engine import prepare
from equipoise.types import DataError, UsageError


def planned(folder: Path, content: str, **options: str) -> object:
    (folder / "t.csv").write_bytes(content.encode())
    return OwnTable(modalities_from=("x=numbers",), **options).plan(folder / "t.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x,target\n1,2,a\n3,4,b\n", "t.csv, line 2, has 3 cells, and the header names 2 columns"),
        ("x,target\n1,a,\n3,b,\n", "t.csv, line 2, has 3 cells"),
        ("x,target\n1,a\n3\n", "t.csv, line 3, has 1 cells"),
        ('x,target\n1,"a\nb"\n\n3,4,b\n', "t.csv, line 5, has 3 cells"),
        ("x,target\r1,a\r\n3,4,b\n", "line 3, has 3 cells"),
        ("x,x,target\n1,2,a\n3,4,b\n", "has two columns 'x'; rename one"),
        ('x,target\n1,a\n2,"b\n', "cannot be read"),
    ],
)
def test_rows_and_names_that_do_not_fit(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        planned(tmp_path, content)


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffx,target\n1,a\n3,b\n",
        "\n\nx,target\n\n1,a\n   \n3,b\n\n",
        "x,target\r\n1,a\r3,b\n",
        'x,target,note\n1,a,"two\nlines, and a comma"\n3,b,""\n',
        "x,target,\n1,a,\n3,b,\n",
        "x,target,note\n1,a," + "long " * 50_000 + "\n3,b,\n",
    ],
)
def test_rows_that_fit(tmp_path: Path, content: str) -> None:
    """A mark at the beginning, blank lines, mixed ends of lines, lines within quotes, unnamed columns."""
    dataset = prepare(planned(tmp_path, content), tmp_path / "out", workers=1).dataset
    assert dataset.array("x").tolist() == [[1.0], [3.0]]
    assert dataset.target.tolist() == [0, 1]


def test_decimal_commas(tmp_path: Path) -> None:
    content = "x;y;target\n0,5;1,25;-3,5\n-1,75;2;4\n"
    (tmp_path / "t.csv").write_text(content)
    own = OwnTable(modalities_from=("x=numbers", "y=numbers"), separator=";", task="regression", decimal=",")
    dataset = prepare(own.plan(tmp_path / "t.csv"), tmp_path / "out", workers=1).dataset
    assert np.array_equal(dataset.array("x"), np.float32([[0.5], [-1.75]]))
    assert np.array_equal(dataset.array("y"), np.float32([[1.25], [2.0]]))
    assert dataset.target.tolist() == [-3.5, 4.0]


@pytest.mark.parametrize(
    ("cell", "decimal", "message"),
    [
        ("0,5", ".", "'0,5' in the first row; expected numbers .*--decimal ','"),
        ("1.234,5", ",", r"'1.234,5' in .*the decimal mark ',' and none between thousands, or"),
        ("1.234", ",", r"'1.234' in .*--decimal '.'"),
        ("1,234,567", ".", "'1,234,567' in .*none between thousands, or in Parquet"),
        ("loud", ".", "'loud' in the first row; expected numbers, or in Parquet"),
    ],
)
def test_marks_in_numbers(tmp_path: Path, cell: str, decimal: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        planned(tmp_path, f"x;target\n{cell};a\n{cell};b\n", separator=";", decimal=decimal)
    with pytest.raises(UsageError, match="decimal is ';'; expected"):
        planned(tmp_path, "x;target\n1;a\n2;b\n", separator=";", decimal=";")


def test_a_target_with_decimal_commas_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1, has '0,5' in the column 'target'.*--decimal ','"):
        planned(tmp_path, "x;target\n1;0,5\n2;1,5\n", separator=";", task="regression")
