"""A training that is interrupted and resumed must equal an uninterrupted one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import equipoise as eq
from equipoise.training.finished import FitResult
from hand_run import same


class Killed(Exception):
    """Raised to end a training after an epoch."""


def fit_with_and_without_break(
    data: Path, method: str, folder: Path, *, killed_after: int, **settings: Any
) -> FitResult:
    """Train twice, once with an interruption; compare the results and return the uninterrupted one.

    Args:
        data: prepared dataset.
        method: name.
        folder: of the interrupted run.
        killed_after: the epoch, counted from 1, after which it is interrupted.
        settings: arguments of `equipoise.fit`.
    """
    settings = {"checkpoint_every": 1, "diagnose_every": 0} | settings

    def kill(epoch: int, _: dict[str, float]) -> None:
        if epoch == killed_after:
            raise Killed

    whole = eq.fit(data, method, **settings)
    with pytest.raises(Killed):
        eq.fit(data, method, out=folder, on_epoch=kill, **settings)
    resumed = eq.fit(data, method, out=folder, resume=True, **settings)
    assert same(dict(whole.model.state_dict()), dict(resumed.model.state_dict()))
    assert whole.test == resumed.test
    for passes in ("forward_samples", "backward_samples"):
        assert whole.summary[passes] == resumed.summary[passes]
    return whole
