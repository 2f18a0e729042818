"""Damaged files of comparisons, tunings and saved features are refused with a typed error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from equipoise.experiments.compare.comparison import RESULTS, SUMMARY, read_comparison
from equipoise.experiments.compare.tuned import TUNED, Tuned, TunedMethod, read_tuned
from equipoise.experiments.examine.saved_features import SavedFeatures
from equipoise.types import RunFolderError
from mutations import refuses_all

EARLIER = Path(__file__).parents[1] / "support" / "earlier" / "comparison"
WORDS = b'null{}[]"",:-1e999 NaN true "methods" 1 \xff\xfe \x00 &a *a << ? - |'


@pytest.fixture
def comparison(tmp_path: Path) -> Path:
    for name in (RESULTS, SUMMARY):
        shutil.copy(EARLIER / name, tmp_path)
    return tmp_path


@pytest.mark.mutations
@pytest.mark.parametrize("name", [RESULTS, SUMMARY])
def test_a_damaged_comparison_is_refused(name: str, comparison: Path) -> None:
    def read(_: Path) -> None:
        held = read_comparison(comparison)
        held.table()
        assert held.failed >= 0

    assert refuses_all(read, comparison / name, 100, reader="comparison", other=WORDS)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda held: held.pop("model"), "has no 'model'"),
        (lambda held: held.update(methods=[]), r"\[\] for 'methods', expected a mapping"),
        (lambda held: held["methods"].update(joint=3), "3 for 'joint' in 'methods', expected a mapping"),
        (lambda held: held["methods"]["joint"].pop("n"), "has no 'n' in 'joint' in 'methods'"),
        (lambda held: held["methods"]["joint"].update(cost="much"), "'much' for 'cost' in 'joint'"),
        (lambda held: held["methods"]["joint"].update(floor={"mean": 1}), "no 'difference' in 'floor'"),
        (
            lambda held: held["methods"]["joint"].update(n=True),
            "True for 'n' in 'joint' in 'methods', expected a whole",
        ),
        (lambda held: held["methods"]["joint"].update(rank=10**30), "for 'rank'"),
        (
            lambda held: held["methods"]["diagnose-relearn"]["difference_to_joint"].pop("low"),
            "has no 'low' in",
        ),
        (lambda held: held.update(left_out=[]), r"\[\] for 'left_out', expected a mapping"),
        (lambda held: held.update(seeds="0"), "'0' for 'seeds', expected a list"),
        (lambda held: held.update(not_ranked_because=[1]), "1 for 'not_ranked_because', expected a text"),
    ],
)
def test_a_summary_says_what_it_lacks(change: Callable[[Any], Any], match: str, comparison: Path) -> None:
    summary = json.loads((comparison / SUMMARY).read_text())
    change(summary)
    (comparison / SUMMARY).write_text(json.dumps(summary))
    with pytest.raises(RunFolderError, match=match):
        read_comparison(comparison)


def test_what_may_be_null_is_no_number(comparison: Path) -> None:
    summary = json.loads((comparison / SUMMARY).read_text())
    names = ("cost", "floor", "options", "difference_to_joint")
    summary["methods"]["joint"].update(dict.fromkeys(names), std=None)
    (comparison / SUMMARY).write_text(json.dumps(summary))
    held = read_comparison(comparison)
    assert [held.summary["methods"]["joint"][name] for name in names] == [None] * 4
    assert held.table().loc["joint", ["std", "relative_forward", "floor"]].isna().all()


def test_nesting_and_kinds_are_checked_before_anything_is_used(comparison: Path) -> None:
    for text, match in (("[" * 10**5, "nested too deep"), ('{"a":' * 500 + "1" + "}" * 500, "100 deep")):
        (comparison / SUMMARY).write_text(text)
        with pytest.raises(RunFolderError, match=match):
            read_comparison(comparison)
    (comparison / SUMMARY).write_text("[1, 2]")
    with pytest.raises(RunFolderError, match="a list, expected a mapping"):
        read_comparison(comparison)
    (comparison / SUMMARY).write_bytes(b'{"a": "\xe9"}')
    with pytest.raises(RunFolderError, match="not utf-8 text"):
        read_comparison(comparison)


def test_fingerprints_and_names_that_look_like_numbers_stay_texts(comparison: Path) -> None:
    table = pd.read_csv(comparison / RESULTS).assign(split_fingerprint="0012e5", dataset="007", method="null")
    table.to_csv(comparison / RESULTS, index=False)
    with pytest.raises(RunFolderError, match="has no method 'null'"):
        read_comparison(comparison)
    summary = json.loads((comparison / SUMMARY).read_text())
    summary["methods"]["null"] = summary["methods"]["joint"]
    (comparison / SUMMARY).write_text(json.dumps(summary))
    held = read_comparison(comparison).results
    assert held.loc[0, ["split_fingerprint", "dataset", "method"]].tolist() == ["0012e5", "007", "null"]


@pytest.mark.mutations
def test_a_damaged_tuning_is_refused(tmp_path: Path) -> None:
    method = TunedMethod(finished=2, default=0.5, best=0.6, trial=1, chosen={"lr": 0.1}, causes={1: "no"})
    Tuned(
        folder=tmp_path,
        dataset="d",
        data_fingerprint="a",
        split_fingerprint="b",
        figure="val_accuracy",
        trials=2,
        seeds=[0],
        settings={"epochs": 3, "encoder": ["mlp"]},
        methods={"joint": method},
    ).write()
    assert refuses_all(
        lambda file: read_tuned(file.parent), tmp_path / TUNED, 150, reader="tuning", other=WORDS
    )


@pytest.mark.parametrize("text", ["a: &a [1, *a]", "- " * 300, "{k: 1}", "", "{seeds: 3}", "methods: 1"])
def test_yaml_that_is_no_tuning_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / TUNED).write_text(text)
    with pytest.raises(RunFolderError):
        read_tuned(tmp_path)


def test_aliases_and_merges_cannot_multiply_a_file(tmp_path: Path) -> None:
    lists = ["a0: &a0 [1, 1]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))]
    keys = ["a0: &a0 {x0: 1, y0: 1}"]
    keys += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 40)]
    for lines, match in ((lists, "aliases multiply"), (keys, "merged keys")):
        (tmp_path / TUNED).write_text("\n".join(lines))
        with pytest.raises(RunFolderError, match=match):
            read_tuned(tmp_path)
    assert yaml.safe_load("a: &a [1]\nb: *a") == {"a": [1], "b": [1]}


@pytest.mark.mutations
def test_damaged_features_are_refused(tmp_path: Path) -> None:
    x, y = np.ones((6, 2), np.float32), np.array([0, 1] * 3)
    path = tmp_path / "features.npz"
    np.savez_compressed(path, train_a=x, val_a=x, train_labels=y, val_labels=y, classes=["no", "yes"])

    def read(file: Path) -> None:
        held = SavedFeatures(file)
        held.class_names()
        dict(held.features().train)

    assert refuses_all(read, path, 150, reader="saved features")
