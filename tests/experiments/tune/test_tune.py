"""Tuning: equal trials for every method, the same ones again with the same seed, also after interruptions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import deadly
import equipoise as eq
from equipoise.experiments.tune import compute
from equipoise.training.fit import prepared
from equipoise.training.settings import Settings
from lost_pools import Killed, LostPool
from tuned_trials import QUICK, trials_in

TRIALS = 7
"""Enough for one trial by the estimator and the pruner, after the defaults and those drawn at random."""


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


def test_methods_go_on_when_the_pool_is_lost_between_two_trials(
    tuned: tuple[Path, pd.DataFrame], data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(settings: Settings, *arguments: Any, **how: Any) -> Any:
        if settings.method == "joint" and settings.budget.lr != Settings.from_options(data).budget.lr:
            raise Killed
        return prepared(settings, *arguments, **how)

    monkeypatch.setattr(compute, "Workers", LostPool)
    monkeypatch.setattr("equipoise.experiments.tune.trial.prepared", dying)
    with pytest.warns(eq.EquipoiseWarning, match="exit code 9; what was in progress is tried again"):
        table = eq.tune(data, ["joint", "ogm"], trials=2, out=tmp_path / "out", **(QUICK | {"workers": 2}))
    assert list(table.loc["joint", ["finished", "failed"]]) == [1, 1]
    assert trials_in(tmp_path / "out")["ogm"] == trials_in(tuned[0])["ogm"][:2]


@pytest.mark.matrix
def test_a_dying_process_costs_no_other_method_a_trial(
    tuned: tuple[Path, pd.DataFrame], data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "next_trial", deadly.next_trial)
    with pytest.warns(eq.EquipoiseWarning, match="exit code 9; what was in progress is tried again"):
        table = eq.tune(data, ["joint", "ogm"], trials=3, out=tmp_path / "out", **(QUICK | {"workers": 2}))
    assert list(table.loc["joint", ["finished", "failed"]]) == [3, 0]
    assert list(table.loc["ogm", ["finished", "failed"]]) == [2, 1]
    methods = yaml.safe_load((tmp_path / "out" / "tuned.yaml").read_text())["methods"]
    assert methods["ogm"]["causes"] == {0: "its process ended, repeatedly"}
    assert trials_in(tmp_path / "out")["joint"] == trials_in(tuned[0])["joint"][:3]


def test_a_trial_that_the_user_interrupts_again_and_again_is_repeated(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    for _ in range(3):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("equipoise.experiments.tune.trial.prepared", interrupted)
            eq.tune(data, ["joint"], trials=1, out=tmp_path / "out", resume=True, **QUICK)
    table = eq.tune(data, ["joint"], trials=1, out=tmp_path / "out", resume=True, **QUICK)
    assert list(table.loc["joint", ["finished", "failed"]]) == [1, 0]


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
