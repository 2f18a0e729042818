"""A clock that is set back: nothing depends on the order of times, and no duration is negative."""

from __future__ import annotations

import json
import os
import re
import time
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import equipoise as eq
import synthetic
from commands import command
from equipoise.data.prepare.engine import prepare
from evidence import add_row
from media_files import plan_of_media
from moments import before_change

SRC = Path(eq.__file__).parent
YEAR = 365 * 24 * 3600


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return synthetic.write(tmp_path / "two").path


@pytest.fixture
def backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each look at the clock be an hour before the last one; what measures durations goes on."""
    start, looks = time.time(), count()
    monkeypatch.setattr(time, "time", lambda: start - 3600 * next(looks))
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * (start - 3600 * next(looks))))


def from_the_future(folder: Path) -> None:
    """Date the files as if the clock had been a year ahead when they were written, the first ones most."""
    for place, path in enumerate(sorted(folder.rglob("*"))):
        os.utime(path, (time.time() + YEAR - place, time.time() + YEAR - place))


def negative(value: Any) -> list[Any]:
    """Return the durations below 0 in a value of JSON."""
    if isinstance(value, dict):
        own = [
            one for key, one in value.items() if "seconds" in key and isinstance(one, int | float) and one < 0
        ]
        return own + [found for one in value.values() for found in negative(one)]
    return [found for one in value for found in negative(one)] if isinstance(value, list) else []


def stop() -> None:
    raise KeyboardInterrupt


def test_a_training_and_its_comparison(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], backwards: None
) -> None:
    words = ["compare", "--data", data, "--methods", "joint", "ogm", "--seeds", "1", "--workers", "1"]
    words += ["--epochs", "3", "--checkpoint-every", "1", "--out"]
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert command(capsys, *words, whole).code == 0
    with before_change(out, "joint-seed0/.predictions", stop):
        assert command(capsys, *words, out).code == 130
    from_the_future(out)
    said = command(capsys, *words, out, "--resume")
    assert said.code == 0, said
    assert not re.search(r"-\d+(\.\d+)? ?(s|min|h)\b", said.out + said.err)
    tables = [
        pd.read_csv(folder / "results.csv").drop(columns=["train_seconds", "method_seconds"])
        for folder in (whole, out)
    ]
    pd.testing.assert_frame_equal(*tables)
    from_the_future(out)
    assert command(capsys, *words, out, "--resume").code == 0  # its seals hold
    for path in out.rglob("*.json"):
        assert negative(json.loads(path.read_text())) == []
    for path in out.rglob("*.jsonl"):
        assert negative([json.loads(line) for line in path.read_text().splitlines()]) == []
    add_row(
        part="adversity",
        what="compare",
        moment="clock set back",
        said="",
        kept="the checkpoint",
        went_on=True,
    )


def test_a_preparation(tmp_path: Path, backwards: None) -> None:
    plan = plan_of_media(tmp_path / "in")
    from_the_future(tmp_path / "in")
    place = tmp_path / "place"
    prepare(plan, tmp_path / "whole", workers=1)
    with pytest.raises(KeyboardInterrupt), before_change(place, "final/index.csv", stop):
        prepare(plan, place / "set", workers=1)
    from_the_future(place)
    done = prepare(plan, place / "set", workers=1)
    assert done.summary.read == 0
    assert done.summary.seconds >= 0
    for path in (tmp_path / "whole").iterdir():
        assert (place / "set" / path.name).read_bytes() == path.read_bytes()
    add_row(
        part="adversity",
        what="prepare",
        moment="clock set back",
        said="",
        kept="the samples read",
        went_on=True,
    )


def test_only_what_is_shown_reads_the_clock() -> None:
    """`cli/views/grid_view.py` shows at which time of day a grid will have ended."""
    clock = re.compile(r"\b(time\.time(_ns)?|(datetime|date)\.(now|utcnow|today))\(")
    readers = {str(path.relative_to(SRC)) for path in SRC.rglob("*.py") if clock.search(path.read_text())}
    assert readers == {"cli/views/grid_view.py"}
