"""A tuning whose disk is full stops in one line, and goes on as if it had not once there is room."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import synthetic
from commands import command
from equipoise.experiments.compare.tuned import read_tuned
from evidence import add_row
from moments import before_change
from small_disks import SmallDisk, small_disk

studies = pytest.importorskip("equipoise.experiments.tune.studies")
FULL = (
    # before which change the disk fills up, what is left, and for which file there is no room then
    ("out/.tuned.yaml", 0, "tuned.yaml"),
    ("out/.tuned.yaml", 4096, "trials.db"),
    ("joint-seed1000-trial0/metrics.jsonl", 0, "metrics.jsonl"),
    ("joint-seed1000-trial1", 0, "config.yaml"),
    ("out/trials/reserve", 0, "reserve"),
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 8 * 2**20) as found:
        if found is None:
            pytest.skip("no file system can be mounted here")
        yield found
        studies.storage_at.cache_clear()  # its file is open here, and in processes that are about to end
        gc.collect()
        for child in multiprocessing.active_children():
            child.join(10)


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.matrix)])
def test_a_tuning_stops_and_is_resumed(
    disk: SmallDisk, tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: str
) -> None:
    data = synthetic.write(tmp_path / "two").path
    words = ["tune", "--data", data, "--methods", "joint", "ogm", "--trials", "2", "--epochs", "2"]
    words += ["--batch-size", "32", "--workers", workers, "--out"]
    assert command(capsys, *words, tmp_path / "whole").code == 0
    out = disk.path / "out"
    # Only what this process does can be waited for.
    for moment, left, file in FULL if workers == "1" else (*FULL[:2], FULL[-1]):
        with before_change(disk.path, moment, partial(disk.leave, left)):
            said = command(capsys, *words, out, "--resume")
        disk.empty()
        assert said.code == 1
        assert "no space left in " in said.line
        assert f"for {file}" in said.line
        assert "run the same command again, with --resume" in said.line
        assert disk.files() <= {"out", "out/tuned.yaml", "out/trials.db"}
        kept = "the trials that had ended"
        add_row(part="adversity", what="tune", moment=file, said=said.line, kept=kept, went_on=True)
    assert command(capsys, *words, out, "--resume").code == 0
    found, expected = read_tuned(out), read_tuned(tmp_path / "whole")
    assert found.methods == expected.methods
    assert [one.failed for one in found.methods.values()] == [0, 0]
