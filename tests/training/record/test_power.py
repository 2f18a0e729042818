"""A kill at any change on the disk loses no run, and what is confirmed is on the disk before it is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import equipoise as eq
import killed_at
from equipoise.training.record.reading import RecordReader

SOME = (3, 16, 31, 47)
"""Numbers of changes right before which a run is killed; they are in checkpoints, events and the end."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize(
    "moments", [pytest.param(SOME, id="some"), pytest.param(range(1, 60), id="all", marks=pytest.mark.matrix)]
)
def test_a_run_killed_at_any_change_is_resumed(data: str, tmp_path: Path, moments: Any) -> None:
    words = [sys.executable, killed_at.__file__, data, str(tmp_path), "0", *map(str, moments)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    count, *lines = ended.stdout.split("\n")[:-1]
    whole, result = (tmp_path / "0" / "model.safetensors").read_bytes(), RecordReader(tmp_path / "0").result()
    for line in lines:
        moment, killed, _, resumed = map(int, line.split())
        folder = tmp_path / str(moment)
        assert (resumed, ended.stderr if moment <= int(count) else "") == (0, ""), moment
        assert killed == (9 if moment <= int(count) else 0), moment
        assert (folder / "model.safetensors").read_bytes() == whole, moment
        assert RecordReader(folder).result()["test"] == result["test"], moment
        names = {path.name for path in folder.iterdir()}
        assert names == {path.name for path in (tmp_path / "0").iterdir()}, moment


def test_what_is_confirmed_is_on_the_disk_first(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []
    rename, remove = Path.replace, Path.unlink

    def name(path: Path) -> str:
        parts = str(path).split(f".{os.getpid()}.part")[0].removeprefix(str(tmp_path / "run")).lstrip("/.")
        return parts or "run"

    def sync(descriptor: int) -> None:
        done.append(("sync", name(Path(f"/proc/self/fd/{descriptor}").readlink())))

    def replace(path: Path, target: Path) -> Path:
        done.append(("name", Path(target).name))
        return rename(path, target)

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.exists():
            done.append(("remove", path.name))
        remove(path, missing_ok=missing_ok)

    def add(path: Path, *arguments: Any, **named: Any) -> Any:
        if arguments[:1] == ("a+b",):
            done.append(("add", name(path)))
        return opened(path, *arguments, **named)

    opened = Path.open
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc")
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(Path, "unlink", unlink)
    monkeypatch.setattr(Path, "open", add)
    settings = {"epochs": 3, "batch_size": 32, "checkpoint_every": 1, "trace": True, "diagnose_every": 1}
    eq.fit(data, out=tmp_path / "run", **settings)
    events = ("metrics.jsonl", "diagnosis.jsonl", "snapshots/index.jsonl")
    for place, change in enumerate(done):
        before = done[:place]
        if change == ("name", "checkpoint.pt"):
            for event in events:
                assert last(before, ("sync", event)) > last(before, ("add", event)), event
            assert last(before, ("sync", "checkpoint.pt")) > last(before, ("name", "checkpoint.pt"))
        if change[0] == "name" and change[1].endswith(".safetensors"):
            assert any(kind == "sync" and one.endswith(change[1]) for kind, one in before)
        if change == ("name", "result.json"):
            for event in events[:2]:
                assert last(before, ("sync", event)) > last(before, ("add", event)), event
            for file in ("model.safetensors", "inputs.safetensors", "predictions.npz", "trace.jsonl"):
                assert ("sync", file) in before[: last(before, ("name", file))], file
                assert last(before, ("sync", "run")) > last(before, ("name", file)), file
            assert ("sync", "result.json") in before
        if change[0] == "remove" and change[1].startswith("checkpoint"):
            assert last(before, ("sync", "run")) > last(before, ("name", "result.json")) > 0
    assert done.count(("name", "checkpoint.pt")) == 2
    assert ("remove", "checkpoint-before.pt") in done


def last(done: list[tuple[str, str]], change: tuple[str, str]) -> int:
    """Return the place of the last such change; -1 where there is none."""
    return max((place for place, one in enumerate(done) if one == change), default=-1)
