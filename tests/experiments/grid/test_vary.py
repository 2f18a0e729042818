"""Grids of settings that vary: their cells, folders and table."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import equipoise as eq
import synthetic
from equipoise.experiments.grid.vary import _name, cells_of, read_grid

METHODS = ["joint", "ogm"]
QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 32, "diagnose_every": 0, "workers": 1}


def test_every_combination_is_a_cell() -> None:
    vary = {"lr": [0.01, 0.1], "ogm.alpha": [0.2], "optimizer": ["sgd", "adamw"]}
    cells = cells_of(["htad"], {"epochs": 2}, METHODS, range(2), {"ogm": {"end_epoch": 1}}, vary)
    assert [cell.name for cell in cells] == [
        "lr=0.01,ogm.alpha=0.2,optimizer=sgd",
        "lr=0.01,ogm.alpha=0.2,optimizer=adamw",
        "lr=0.1,ogm.alpha=0.2,optimizer=sgd",
        "lr=0.1,ogm.alpha=0.2,optimizer=adamw",
    ]
    assert [cell.settings.budget.lr for cell in cells] == [0.01, 0.01, 0.1, 0.1]
    assert [cell.settings.budget.optimizer for cell in cells] == ["sgd", "adamw"] * 2
    for cell in cells:
        assert cell.settings.budget.epochs == 2
        assert cell.method_options == {"ogm": {"end_epoch": 1, "alpha": 0.2}}
        assert cell.seeds == [0, 1]


def test_names_of_cells_keep_signs_and_letters_of_any_script(data: str, tmp_path: Path) -> None:
    cells = cells_of(["htad"], {}, METHODS, [0], vary={"ogm.alpha": [0.5, 1], "weight_decay": [1e-05, 0.5]})
    assert cells[0].name == "ogm.alpha=0.5,weight_decay=1e-05"
    folders = [
        shutil.copytree(data, tmp_path / name) for name in ("\u6570\u636e\u4e00", "\u6570\u636e\u4e8c")
    ]
    cells = cells_of(list(map(str, folders)), {}, METHODS, [0])
    assert [cell.name for cell in cells] == [f"data={folder.name}" for folder in folders]
    assert (_name({"m.w": -1}), _name({"m.w": 1}), _name({"m.w": True})) == ("m.w=-1", "m.w=1", "m.w=true")


def test_every_option_of_a_relearning_varies() -> None:
    cells = cells_of(["htad"], {}, ["diagnose-relearn"], [0], {}, {"diagnose-relearn.metric": ["ari", "nmi"]})
    assert [cell.method_options for cell in cells] == [
        {"diagnose-relearn": {"metric": m}} for m in ("ari", "nmi")
    ]


def test_a_default_that_depends_on_what_varies_follows_it() -> None:
    alone = [cells_of(["htad"], {"optimizer": name}, METHODS, [0])[0] for name in ("sgd", "adamw")]
    varied = cells_of(["htad"], {}, METHODS, [0], vary={"optimizer": ["sgd", "adamw"]})
    assert [cell.settings for cell in varied] == [cell.settings for cell in alone]
    assert alone[0].settings.budget.lr != alone[1].settings.budget.lr


def test_numbers_of_numpy_vary() -> None:
    given = {"lr": np.array([0.1, 0.2]), "batch_size": [np.int64(8)], "ogm.alpha": [np.float32(0.5)]}
    cells = cells_of(["htad"], {"epochs": np.int64(2)}, METHODS, [0], vary=given)
    assert [cell.name for cell in cells] == [f"lr={lr},batch_size=8,ogm.alpha=0.5" for lr in (0.1, 0.2)]
    for cell in cells:
        values = [
            cell.settings.budget.lr,
            cell.settings.budget.batch_size,
            cell.method_options["ogm"]["alpha"],
        ]
        assert [type(one) for one in (*values, cell.settings.budget.epochs)] == [float, int, float, int]


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ({"lrr": [1]}, "unknown setting to vary 'lrr': did you mean lr"),
        ({"alpha": [1]}, r"did you mean ogm\.alpha"),
        ({"ogm.alfa": [1]}, "unknown option of 'ogm' 'alfa': did you mean alpha"),
        ({"ogn.alpha": [1]}, "unknown method 'ogn'"),
        ({"epochs": [1, 2]}, "epochs is set, and varies too"),
        ({"ogm.end_epoch": [1, 2]}, "ogm.end_epoch is set, and varies too"),
        ({"lr": []}, r"lr varies over \[\]; expected a list"),
        (["lr"], "expected names with lists of values"),
        ({"fusion": "sum"}, "fusion varies over 'sum'; expected a list"),
        ({"lr": ["fast"]}, "option 'lr' is 'fast'"),
        ({"data": ["a", "b"]}, r"unknown setting to vary 'data': did you mean --data \(data"),
        ({"seed": [0, 1]}, r"unknown setting to vary 'seed': did you mean --seeds \(seeds"),
    ],
)
def test_wrong_use(vary: dict[str, Any], message: str) -> None:
    with pytest.raises(eq.UsageError, match=message):
        cells_of(["htad"], {"epochs": 2}, METHODS, [0], {"ogm": {"end_epoch": 1}}, vary)


def test_no_dataset() -> None:
    with pytest.raises(eq.UsageError, match="data is empty"):
        cells_of([], {}, METHODS, [0])


def test_datasets_and_settings_vary_in_python(data: str, tmp_path: Path) -> None:
    other = synthetic.write(tmp_path / "other", seed=1)
    out = tmp_path / "out"
    table = eq.compare([data, other], METHODS, seeds=2, out=out, vary={"lr": [0.1]}, **QUICK)
    names = ["data=two,lr=0.1", "data=other,lr=0.1"]
    assert list(table.index) == [(name, method) for name in names for method in METHODS]
    for name in names:
        results = pd.read_csv(out / name / "results.csv")
        own = results[results["method"] == "ogm"]
        row = table.loc[(name, "ogm")]
        assert row["mean"] == pytest.approx(own["test_accuracy"].mean())
        assert row["std"] == pytest.approx(own["test_accuracy"].std(ddof=1))
        assert row["validation"] == pytest.approx(own["val_accuracy"].mean())
        assert (row["n"], row["failed"], row["dataset"]) == (2, 0, name[5:-7])
    assert list(table["lr"].unique()) == [0.1]
    assert table.attrs["out"] == str(out)
    assert all("at least 3 seeds" in reasons[0] for reasons in table.attrs["not_ranked_because"].values())
    written = pd.read_csv(out / "grid.csv")
    pd.testing.assert_series_equal(written["mean"], table.reset_index()["mean"])
    assert list(read_grid(out)) == names
    page = (out / "report.html").read_text()
    assert "Grid of 2 comparisons on two and other" in page
    assert eq.write_report([out], tmp_path / "again.html").read_text() == page


def test_a_folder_with_other_things_is_never_a_grid(data: str, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for how in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(eq.RunFolderError, match="other things than the comparisons of a grid"):
            eq.compare(data, METHODS, seeds=1, out=tmp_path, vary={"lr": [0.1]}, **QUICK, **how)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
