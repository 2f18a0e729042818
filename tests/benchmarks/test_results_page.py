"""What a results page says was found."""

from __future__ import annotations

from types import ModuleType

import pandas as pd
import pytest

from benchmark_parts import modules_of


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return modules_of(".", ["results"], monkeypatch)["results"]


def test_the_answer_comes_first(results: ModuleType) -> None:
    rows = {
        "joint": (0.90, 0.01, None, None, None),
        "good": (0.93, 0.01, 0.03, 0.01, 0.05),
        "better (experimental)": (0.95, 0.01, 0.05, 0.02, 0.08),
        "bad": (0.80, 0.01, -0.1, -0.12, -0.08),
        "like it": (0.91, 0.01, 0.01, -0.01, 0.03),
        "failed": (None, None, None, None, None),
    }
    columns = ["mean", "std", "difference", "low", "high"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).astype(float)
    asked, _, found, _, above, below, rest, *_ = results.answer(table, 6)
    assert asked.startswith("Asked: which of 4 methods differ from joint training")
    assert asked.endswith("over 6 seeds?")
    assert found.startswith("Found: joint training has a test accuracy of 0.900 \N{PLUS-MINUS SIGN} 0.010.")
    assert above == "- above joint training for better (+5.0), good (+3.0);"
    assert below == "- below it for bad (-10.0);"
    assert rest.startswith("- for the other 1 it includes zero")


def test_names_of_datasets_are_written_as_theirs(results: ModuleType) -> None:
    assert results.title("avletters", "concat(mlp)") == "AVLetters: concat(mlp)"
    assert results.title("my-data", "concat(mlp)") == "my-data: concat(mlp)"
