"""A training that breaks off and is gone on with: it must end like one that nothing interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import equipoise as eq
from equipoise.training.fit import FitResult
from hand_run import same


class Killed(Exception):
    """What ends a training behind an epoch."""


def fit_with_and_without_break(
    data: Path, method: str, folder: Path, *, killed_behind: int, **settings: Any
) -> FitResult:
    """Train twice, once with a break; compare the results and return that of the unbroken training.

    Args:
        data: prepared dataset.
        method: name.
        folder: of the run that breaks off.
        killed_behind: epoch, counted from 1, behind which it does.
        settings: of `equipoise.fit`.
    """
    settings = {"checkpoint_every": 1, "diagnose_every": 0} | settings

    def kill(epoch: int, _: dict[str, float]) -> None:
        if epoch == killed_behind:
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
