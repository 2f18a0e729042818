"""Re-learning in two processes: one diagnosis, equal to that of one process, and equal weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import equipoise as eq
from processes import in_two_processes
from two_processes import TwoStreams, fail, loaders, watch, work

# The processes work in float64, too.
pytestmark = pytest.mark.usefixtures("float64")


def spawned(folder: Path, **options: Any) -> list[dict[str, Any]]:
    in_two_processes(work, folder, options)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def alone(found: dict[str, Any]) -> dict[str, Any]:
    """The measurement of one process with the weights of the two."""
    model = TwoStreams()
    model.load_state_dict(found["initial"])
    relearn = eq.DiagnoseRelearn({"audio": model.audio, "video": model.video}, every=1, count=1)
    model.load_state_dict(found["before"])
    return relearn.step(1, model, *loaders(shared=False)).to_dict()


def equal_weights(found: list[dict[str, Any]]) -> bool:
    names = [name for name, _ in TwoStreams().named_parameters()]
    return all(torch.equal(found[0]["end"][name], found[1]["end"][name]) for name in names)


def test_two_processes_decide_like_one(tmp_path: Path) -> None:
    found = spawned(tmp_path)
    assert found[0]["state"] == found[1]["state"]
    assert equal_weights(found)
    expected = alone(found[0])
    for name, state in found[0]["state"].items():
        assert state["applied"] > 0
        for key in ("train_score", "val_score", "gap", "applied"):
            assert state[key] == pytest.approx(expected[name][key], abs=1e-10)


@pytest.mark.parametrize("options", [{"early": True}, {"target": "redraw"}], ids=["early", "redraw"])
def test_weights_are_equal_where_the_processes_would_diverge(tmp_path: Path, options: dict[str, Any]) -> None:
    assert equal_weights(spawned(tmp_path, **options))


def test_an_error_in_one_process_is_raised_in_both(tmp_path: Path) -> None:
    in_two_processes(fail, tmp_path)


@pytest.mark.matrix
def test_two_processes_are_watched_like_one_and_train_as_without(tmp_path: Path) -> None:
    in_two_processes(watch, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert len(first) == 3
    assert first == second
    model = TwoStreams()
    end = torch.load(tmp_path / "end0.pt", weights_only=True)
    model.load_state_dict({name: value for name, value in end.items() if name != "stream"})
    alone = eq.Monitor({"audio": model.audio, "video": model.video})
    alone.step(2, model, *loaders(shared=False))
    for name, state in alone.history[0]["modalities"].items():
        for key in ("train_score", "val_score", "gap", "applied"):
            assert first[-1][name][key] == pytest.approx(state[key], abs=1e-10)
