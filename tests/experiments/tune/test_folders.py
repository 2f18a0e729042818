"""Folders and storages of tunings, and wrong use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import equipoise as eq
from equipoise.experiments.tune import compute as compute_module
from equipoise.experiments.tune import tune as tune_module
from equipoise.experiments.tune.folder import shown_url, storage_url
from equipoise.experiments.tune.trial import Ended, next_trial
from equipoise.training.record.locks import locked
from equipoise.training.settings import Settings
from tuned_trials import QUICK, trials_in


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


def test_a_tuning_that_is_being_written_is_left_alone(data: str, tmp_path: Path) -> None:
    eq.tune(data, ["joint"], trials=1, out=tmp_path / "out", **QUICK)
    with locked(tmp_path / "out"):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(eq.RunFolderError, match="another process is writing into"):
            eq.tune(data, ["joint"], trials=1, out=tmp_path / "out", overwrite=True, **QUICK)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
