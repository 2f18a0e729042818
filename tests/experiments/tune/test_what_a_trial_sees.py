"""What a trial may see and search: never the test split, and no option that is set."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import equipoise as eq
import synthetic
from equipoise.data.format.run_data import RunData
from equipoise.methods import METHODS
from equipoise.methods.core.search import Choice, Uniform, Whole, space
from equipoise.training.assembly import prepare_data
from equipoise.training.settings import Settings
from tuned_trials import QUICK, trials_in


def test_no_trial_opens_the_test_split(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(_: RunData) -> None:
        raise AssertionError("the test split was opened")

    monkeypatch.setattr(RunData, "open_test", opened)
    table = eq.tune(data, ["umt"], trials=2, out=tmp_path / "out", **QUICK)
    assert set(table.index) == {"umt", "unimodal:audio", "unimodal:video"}
    assert (table["failed"] == 0).all()


def test_test_samples_change_nothing(tmp_path: Path) -> None:
    found = []
    split = np.array(["train"] * 90 + ["val"] * 30 + ["test"] * 30)
    for name, factor in (("one", 1.0), ("other", 1e6)):
        inputs, target = synthetic.samples(synthetic.VECTORS, 150)
        for values in inputs.values():
            values[split == "test"] *= factor
        eq.write_dataset(tmp_path / name, inputs, target, split=list(split))
        eq.tune(tmp_path / name, ["joint"], trials=3, out=tmp_path / f"{name}-tuned", **QUICK)
        found.append(trials_in(tmp_path / f"{name}-tuned"))
    # Not their names: the data, and so their fingerprints, are different.
    assert list(found[0].values()) == list(found[1].values())


def test_a_closed_test_split_stays_closed(data: str) -> None:
    settings = Settings.from_options(data, epochs=1)
    _, served = prepare_data(settings)
    served.close_test()
    with pytest.raises(eq.UsageError, match="is closed: settings are chosen by this run"):
        served.open_test()


def test_splits_that_depend_on_the_seed_are_refused(data: str, tmp_path: Path) -> None:
    with pytest.raises(eq.UsageError, match="would test on samples by which the settings were chosen"):
        eq.tune(data, ["joint"], trials=1, split_seed="run", out=tmp_path / "out", **QUICK)
    assert not (tmp_path / "out").exists()


def test_set_options_are_not_searched_and_kept(data: str, tmp_path: Path) -> None:
    given = {"pmr": {"alpha": 2.0, "ema": 0.5}}
    table = eq.tune(data, ["pmr"], trials=2, method_options=given, out=tmp_path / "out", **QUICK)
    assert table.loc["pmr", "options"].keys() == {"alpha", "ema", "mu"}
    assert table.loc["pmr", "options"]["alpha"] == 2.0
    assert all("alpha" not in params for _, params, _, _ in trials_in(tmp_path / "out")["pmr"])


def test_a_weight_decay_of_zero_is_kept(data: str, tmp_path: Path) -> None:
    table = eq.tune(data, ["joint"], trials=2, weight_decay=0.0, out=tmp_path / "out", **QUICK)
    assert math.isnan(table.loc["joint", "weight_decay"])
    assert set(trials_in(tmp_path / "out")["joint"][1][1]) == {"lr"}


def test_the_options_of_a_combination(data: str, tmp_path: Path) -> None:
    table = eq.tune(data, ["ogm+multi-loss"], trials=2, out=tmp_path / "out", **QUICK)
    assert set(table.loc["ogm+multi-loss", "options"]) == {"ogm.alpha", "multi-loss.weight"}
    assert (table["failed"] == 0).all()


def test_choices_and_whole_numbers(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched = space(
        per_epochs=Whole(0, 8),
        weights=Choice(("paper", "hard")),
        mu=Uniform(0.0, 0.1),
        alpha=Choice((1.0, 2.0)),
    )
    monkeypatch.setattr(METHODS["pmr"], "search_space", searched)
    eq.tune(data, ["pmr"], trials=5, out=tmp_path / "out", **QUICK)
    drawn = [params for _, params, _, _ in trials_in(tmp_path / "out")["pmr"]]
    for params in drawn:
        assert all(params[name] in allowed for name, allowed in searched.items())
    for name in searched:
        assert len({params[name] for params in drawn}) > 1
