"""Tuning: equal trials, on validation alone, the same ones again with the same seed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml

import equipoise as eq
import synthetic
from equipoise.data.format.run_data import RunData
from equipoise.experiments.tune import compute as compute_module
from equipoise.experiments.tune import tune as tune_module
from equipoise.experiments.tune.trial import Ended, next_trial
from equipoise.methods import METHODS
from equipoise.methods.core.search import Choice, Uniform, Whole, space
from equipoise.training.fit import prepared
from equipoise.training.settings import Settings

QUICK: dict[str, Any] = {"epochs": 3, "batch_size": 32, "workers": 1}
TRIALS = 7
"""Enough for two trials by the estimator, after the defaults and those drawn at random."""


def trials_in(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the trials of each method: state, values, and the figures reported on the way."""
    found = {}
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'trials.db'}")
    for summary in optuna.get_all_study_summaries(storage):
        study = optuna.load_study(study_name=summary.study_name, storage=storage)
        found[summary.study_name.split(" ")[-1]] = [
            (trial.state.name, trial.params, trial.value, trial.intermediate_values)
            for trial in study.trials
            if trial.state.name != "FAIL" or "cause" in trial.user_attrs
        ]
    return found


@pytest.fixture(scope="module")
def tuned(data: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    out = tmp_path_factory.mktemp("tuned") / "out"
    return out, eq.tune(data, ["joint", "ogm"], trials=TRIALS, out=out, **QUICK)


def test_every_method_has_the_same_trials_and_epochs(tuned: tuple[Path, pd.DataFrame]) -> None:
    out, table = tuned
    assert list(table.index) == ["joint", "ogm"]
    assert (table[["finished", "pruned", "failed"]].sum(axis=1) == TRIALS).all()
    for trials in trials_in(out).values():
        assert len(trials) == TRIALS
        for state, _, _, reported in trials:
            assert len(reported) == 3 if state == "COMPLETE" else len(reported) < 3
    assert {path.name for path in out.iterdir()} == {"tuned.yaml", "trials.db"}


def test_the_winner_is_the_best_finished_trial_and_the_first_has_the_defaults(
    tuned: tuple[Path, pd.DataFrame], data: str
) -> None:
    out, table = tuned
    recipe = Settings.from_options(data).budget
    for method, trials in trials_in(out).items():
        state, params, value, _ = trials[0]
        assert state == "COMPLETE"
        assert params["lr"] == pytest.approx(recipe.lr)
        assert params["weight_decay"] == pytest.approx(recipe.weight_decay)
        assert table.loc[method, "default"] == value
        best = max(value for state, _, value, _ in trials if state == "COMPLETE")
        assert table.loc[method, "best"] == best >= value
        winner = next(params for state, params, value, _ in trials if value == best and state == "COMPLETE")
        assert table.loc[method, "lr"] == winner["lr"]
    assert trials_in(out)["ogm"][0][1]["alpha"] == 0.8
    assert set(table.loc["ogm", "options"]) == {"alpha"}


def test_the_figure_is_that_of_a_run_with_these_settings(tuned: tuple[Path, pd.DataFrame], data: str) -> None:
    out, _ = tuned
    params, value = next((p, v) for state, p, v, _ in trials_in(out)["ogm"][1:] if state == "COMPLETE")
    alone = eq.fit(
        data,
        "ogm",
        seed=1000,
        epochs=3,
        batch_size=32,
        lr=params["lr"],
        weight_decay=params["weight_decay"],
        method_options={"alpha": params["alpha"]},
    )
    assert alone.validation["accuracy"] == value


def test_the_record_says_what_was_done(tuned: tuple[Path, pd.DataFrame], data: str) -> None:
    values = yaml.safe_load((tuned[0] / "tuned.yaml").read_text())
    assert values["trials"] == TRIALS
    assert values["seeds"] == [1000]
    assert values["figure"] == "accuracy"
    assert values["data_fingerprint"] == eq.load_dataset(data).fingerprint
    assert values["settings"]["epochs"] == 3
    assert "alpha" in values["methods"]["ogm"]["searched"]
    assert "alpha" not in values["methods"]["joint"]["searched"]


def test_the_same_seed_gives_the_same_trials_with_any_number_of_workers(
    tuned: tuple[Path, pd.DataFrame], data: str, tmp_path: Path
) -> None:
    eq.tune(data, ["joint", "ogm"], trials=3, out=tmp_path / "out", **(QUICK | {"workers": 2}))
    first = {method: trials[:3] for method, trials in trials_in(tuned[0]).items()}
    assert trials_in(tmp_path / "out") == first
    eq.tune(data, ["joint"], trials=2, seed=7, out=tmp_path / "other", **QUICK)
    other = trials_in(tmp_path / "other")["joint"]
    assert other[0][1] == trials_in(tuned[0])["joint"][0][1]
    assert other[1][1] != trials_in(tuned[0])["joint"][1][1]


class Killed(BaseException):
    """The end of a process in a trial."""


def test_resumed_equals_uninterrupted(
    tuned: tuple[Path, pd.DataFrame], data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, left = tmp_path / "out", iter([2, 4])

    def interrupt(after: int) -> None:
        """Let training die in the second epoch of a trial."""
        trained = 0

        def dying(*arguments: Any, on_epoch: Any, **how: Any) -> Any:
            nonlocal trained
            trained += 1

            def told(epoch: int, scores: dict[str, float]) -> None:
                on_epoch(epoch, scores)
                if trained > after and epoch == 1:
                    raise Killed

            return prepared(*arguments, on_epoch=told, **how)

        monkeypatch.setattr("equipoise.experiments.tune.trial.prepared", dying)

    for after in left:
        interrupt(after)
        with pytest.raises(Killed):
            eq.tune(data, ["joint", "ogm"], trials=TRIALS, out=out, resume=True, **QUICK)
    monkeypatch.undo()
    again = eq.tune(data, ["joint", "ogm"], trials=TRIALS, out=out, resume=True, **QUICK)
    assert trials_in(out) == trials_in(tuned[0])
    pd.testing.assert_frame_equal(again, tuned[1])


def test_a_finished_tuning_is_read_and_methods_can_be_added(
    tuned: tuple[Path, pd.DataFrame], data: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = eq.tune(data, ["joint"], trials=2, out=out, **QUICK)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a trial was computed again")

    with monkeypatch.context() as patch:
        patch.setattr("equipoise.experiments.tune.trial.prepared", never)
        pd.testing.assert_frame_equal(
            eq.tune(data, ["joint"], trials=2, out=out, resume=True, **QUICK), first
        )
    both = eq.tune(data, ["multi-loss"], trials=2, out=out, resume=True, **QUICK)
    assert set(both.index) == {"joint", "multi-loss"}
    assert both.loc["joint", "best"] == first.loc["joint", "best"]


def test_a_trial_whose_process_dies_again_and_again_is_a_failed_one(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(settings: Settings, *arguments: Any, **how: Any) -> Any:
        if settings.budget.lr != pytest.approx(0.1):  # all but the defaults
            raise Killed
        return prepared(settings, *arguments, **how)

    monkeypatch.setattr("equipoise.experiments.tune.trial.prepared", dying)
    for _ in range(2):
        with pytest.raises(Killed):
            eq.tune(data, ["joint"], trials=2, out=tmp_path / "out", resume=True, lr=0.1, **QUICK)
    table = eq.tune(data, ["joint"], trials=2, out=tmp_path / "out", resume=True, lr=0.1, **QUICK)
    assert list(table.loc["joint", ["finished", "failed"]]) == [1, 1]
    causes = yaml.safe_load((tmp_path / "out" / "tuned.yaml").read_text())["methods"]["joint"]["causes"]
    assert causes == {1: "its process ended, repeatedly"}


def test_a_diverged_trial_counts_with_its_cause(data: str, tmp_path: Path) -> None:
    # Ten times this rate diverges, a tenth of it trains.
    table = eq.tune(data, ["joint"], trials=6, lr=1e7, out=tmp_path / "out", **(QUICK | {"clip_norm": 1e30}))
    assert table.loc["joint", ["finished", "pruned", "failed"]].sum() == 6
    held = yaml.safe_load((tmp_path / "out" / "tuned.yaml").read_text())["methods"]["joint"]
    assert held["failed"] == len(held["causes"]) > 0
    assert all("the training loss is" in cause for cause in held["causes"].values())


def test_trials_below_the_median_are_stopped_early(data: str, tmp_path: Path) -> None:
    options = QUICK | {"epochs": 6, "select": "loss"}
    table = eq.tune(data, ["joint"], trials=9, out=tmp_path / "out", **options)
    assert table.loc["joint", "pruned"] > 0
    trials = trials_in(tmp_path / "out")["joint"]
    for place, (state, _, _, reported) in enumerate(trials):
        if state == "PRUNED":
            last = max(reported)
            before = [r[last] for s, _, _, r in trials[:place] if s == "COMPLETE"]
            assert len(before) >= 5
            assert last >= 3
            assert reported[last] > np.median(before)  # of losses


def test_several_seeds_count_by_their_mean(data: str, tmp_path: Path) -> None:
    table = eq.tune(data, ["joint"], trials=1, seed=[5, 6], out=tmp_path / "out", **QUICK)
    alone = [
        eq.fit(data, "joint", seed=seed, epochs=3, batch_size=32).validation["accuracy"] for seed in (5, 6)
    ]
    assert table.loc["joint", "best"] == pytest.approx(math.fsum(alone) / 2)


def test_an_error_is_minimised(data: str, tmp_path: Path) -> None:
    eq.tune(data, ["joint"], trials=4, select="loss", out=tmp_path / "out", **QUICK)
    held = yaml.safe_load((tmp_path / "out" / "tuned.yaml").read_text())["methods"]["joint"]
    values = [value for state, _, value, _ in trials_in(tmp_path / "out")["joint"] if state == "COMPLETE"]
    assert held["best"] == min(values)


# The test split --------------------------------------------------------------------------------------------


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
    from equipoise.training.assembly import prepare_data

    _, served = prepare_data(settings)
    served.close_test()
    with pytest.raises(eq.UsageError, match="is closed: settings are chosen by this run"):
        served.open_test()


def test_splits_that_depend_on_the_seed_are_refused(data: str, tmp_path: Path) -> None:
    with pytest.raises(eq.UsageError, match="would test on samples by which the settings were chosen"):
        eq.tune(data, ["joint"], trials=1, split_seed="run", out=tmp_path / "out", **QUICK)
    assert not (tmp_path / "out").exists()


# What is searched ------------------------------------------------------------------------------------------


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


# Folders, storage, wrong use -------------------------------------------------------------------------------


def test_two_folders_share_the_trials_of_a_storage(data: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    first = eq.tune(data, ["joint"], trials=3, storage=url, out=tmp_path / "a", **QUICK)
    seen: list[Ended] = []

    class Noting:
        def planned(self, trials: int, done: int) -> None:
            assert (trials, done) == (3, 3)

        def ended(self, trial: Ended) -> None:
            seen.append(trial)

    settings = Settings.from_options(data, epochs=3, batch_size=32)
    other = tune_module.tune_methods(
        settings, ["joint"], tmp_path / "b", trials=3, storage=url, workers=1, observer=Noting()
    )
    assert not seen
    assert other.tuned.methods["joint"].best == first.loc["joint", "best"]
    assert not (tmp_path / "b" / "trials.db").exists()


def test_a_trial_in_progress_elsewhere_leaves_the_method_open(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"

    def computed(tuning: Any, method: str, parts: Any) -> Ended | None:
        study = compute_module.studies.open_study(tuning, method)
        if len(study.trials) == 1:  # another machine takes the second trial
            study.ask()
        return next_trial(tuning, method, parts)

    with monkeypatch.context() as patch:
        patch.setattr(compute_module, "next_trial", computed)
        table = eq.tune(data, ["joint"], trials=2, storage=url, out=tmp_path / "out", **QUICK)
    assert len(table) == 0
    assert "in progress elsewhere" in table.attrs["missing"]["joint"]
    with pytest.raises(eq.UsageError, match="no tuned settings for joint"):
        eq.compare(methods=["joint"], tuned=tmp_path / "out", seeds=1, workers=1)


def test_a_password_is_not_recorded(tmp_path: Path) -> None:
    from equipoise.experiments.tune.folder import shown_url, storage_url

    url = "postgresql://me:secret@host/name"
    assert storage_url(tmp_path, url) == url
    assert shown_url(url) == "postgresql://host/name"


def test_existing_folders(data: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    eq.tune(data, ["joint"], trials=1, out=out, **QUICK)
    with pytest.raises(eq.RunFolderError, match="holds a tuning already"):
        eq.tune(data, ["joint"], trials=1, out=out, **QUICK)
    with pytest.raises(eq.RunFolderError, match=r"another tuning: trials 1 \(requested: 2\); epochs 3"):
        eq.tune(data, ["joint"], trials=2, out=out, resume=True, **(QUICK | {"epochs": 2}))
    eq.tune(data, ["joint"], trials=2, out=out, overwrite=True, **QUICK)
    assert len(trials_in(out)["joint"]) == 2
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    for how in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(eq.RunFolderError, match="is in the way"):
            eq.tune(data, ["joint"], trials=1, out=tmp_path / "thesis", **how, **QUICK)
    with pytest.raises(eq.RunFolderError, match="is in the way"):
        eq.fit(data, overwrite=True, epochs=1, out=out)
    with pytest.raises(eq.RunFolderError, match="is in the way"):
        eq.compare(data, ["joint"], overwrite=True, epochs=1, out=out)


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ({"trials": 0}, "trials is 0; expected a whole number of at least 1"),
        ({"trials": 1.5}, "trials is 1.5"),
        ({"methods": []}, "no method was given"),
        ({"methods": ["ogn"]}, "did you mean ogm"),
        ({"seed": []}, "no seed was given"),
        ({"storage": "trials"}, "expected the URL of a database"),
        ({"storage": "nosuch://host/name"}, "cannot open the database of the trials"),
        ({"storage": "sqlite:////tmp/x.db", "overwrite": True}, "on which other machines may be working"),
        ({"method_options": {"ogm": {"alpha": 1}}}, "'ogm' is set, which is not compared"),
        ({"lrr": 1}, "did you mean lr"),
    ],
)
def test_wrong_use(arguments: dict[str, Any], wrong: str, data: str, tmp_path: Path) -> None:
    given = {"methods": ["joint"], "trials": 1, "out": tmp_path / "out", **QUICK, **arguments}
    with pytest.raises(eq.UsageError, match=wrong):
        eq.tune(data, **given)
