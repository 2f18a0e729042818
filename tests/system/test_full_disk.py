"""A full disk is named in one line, leaves no half file, and costs nothing once there is room again."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import equipoise as eq
import synthetic
from equipoise.cli import main
from equipoise.files.whole import append_line, no_space, replaced, reserve, write_atomically
from equipoise.training.record.record import METRICS, RunRecord
from equipoise.types import NoSpaceError
from small_disks import SmallDisk, small_disk

SETTINGS: dict[str, Any] = {
    "method": "diagnose-relearn",
    "method_options": {"epochs": [1]},
    "epochs": 4,
    "batch_size": 32,
    "checkpoint_every": 1,
    "diagnose_every": 1,
}
LAST = SETTINGS["epochs"] - 1
WEIGHTS = 144 * 1024
MOMENTS = {
    # name of the file for which there is no room: the epoch after which the disk fills up, and what is left
    "config.yaml": (None, 0),
    "metrics.jsonl": (None, 4096),
    "diagnosis.jsonl": (0, 0),
    "checkpoint.pt": (1, 4096 * 5),
    "predictions.npz": (LAST, 0),
    "inputs.safetensors": (LAST, 4096),
    "model.safetensors": (LAST, 4096 * 4),
    "result.json": (LAST, WEIGHTS + 4096 * 2),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write(tmp_path_factory.mktemp("data") / "two").path


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 8 * 2**20) as found:
        if found is None:
            pytest.skip("no file system can be mounted here")
        yield found


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> eq.FitResult:
    return eq.fit(data, out=tmp_path_factory.mktemp("whole") / "run", **SETTINGS)


@pytest.mark.parametrize("file", MOMENTS)
def test_a_run_is_resumed_once_there_is_room(
    data: Path, disk: SmallDisk, whole: eq.FitResult, file: str
) -> None:
    out, (moment, left) = disk.path / "runs" / "one", MOMENTS[file]

    def fill(epoch: int, _: object) -> None:
        if epoch == moment:
            disk.leave(left)

    if moment is None:
        disk.leave(left)
    with pytest.raises(eq.RunFolderError, match=f"no space left in {out} for {file}; free some") as told:
        eq.fit(data, out=out, on_epoch=fill, **SETTINGS)
    assert "\n" not in str(told.value)
    assert "--resume" in str(told.value)
    assert not [name for name in disk.files() if name.endswith((".part", ".lock"))]
    assert "runs/one/result.json" not in disk.files()
    if moment is None and not left:
        assert disk.files() == set()
    disk.empty()
    again = eq.fit(data, out=out, resume=True, **SETTINGS)
    assert again.test == whole.test
    for name in ("model.safetensors", "predictions.npz"):
        assert (out / name).read_bytes() == (whole.run_dir / name).read_bytes()
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.run_dir.iterdir()}


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*words])
    return int(ended.value.code or 0)


def test_a_comparison_stops_and_is_resumed(
    data: Path, disk: SmallDisk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def words(out: Path) -> list[str]:
        common = ["--seeds", "2", "--epochs", "2", "--workers", "1", "--methods", "joint", "ogm"]
        return ["compare", "--data", str(data), *common, "--out", str(out)]

    assert run(*words(tmp_path / "whole")) == 0
    out = disk.path / "out"
    for left in (0, 4096 * 3, WEIGHTS + 4096 * 8, WEIGHTS * 2):
        disk.leave(left)
        capsys.readouterr()
        assert run(*words(out), "--resume") == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("equipoise:")]
        assert "no space left in " in line
        left_over = [name for name in disk.files() if name.endswith((".part", ".lock"))]
        assert not [name for name in left_over if "floors" not in name]  # its lock always stays
    disk.empty()
    assert run(*words(out), "--resume") == 0
    tables = [pd.read_csv(folder / "results.csv") for folder in (tmp_path / "whole", out)]
    timed = ["train_seconds", "method_seconds"]
    pd.testing.assert_frame_equal(*(table.drop(columns=timed) for table in tables))
    assert set(tables[0]["status"]) == {"ok"}


def test_a_report_and_a_dataset_name_the_full_disk(
    disk: SmallDisk, whole: eq.FitResult, capsys: pytest.CaptureFixture[str]
) -> None:
    disk.leave(4096)
    assert run("report", str(whole.run_dir), "--out", str(disk.path / "new" / "page.html")) == 1
    assert f"no space left in {disk.path / 'new'} for page.html; free some" in capsys.readouterr().err
    with pytest.raises(NoSpaceError, match=f"no space left in {disk.path}"):
        synthetic.write(disk.path / "set")
    assert not [name for name in disk.files() if "." in name]
    disk.empty()
    assert run("report", str(whole.run_dir), "--out", str(disk.path / "new" / "page.html")) == 0
    synthetic.write(disk.path / "set")


def test_a_mapped_file_has_its_room_before_it_is_filled(disk: SmallDisk) -> None:
    file = disk.path / "array"
    file.touch()
    with file.open("r+b") as opened:
        opened.truncate(2**24)  # a file with holes is larger than its disk
    with pytest.raises(NoSpaceError, match="for array"):
        reserve(file)


def test_an_event_is_added_whole_or_not_at_all(disk: SmallDisk) -> None:
    record = RunRecord(disk.path)
    record.append(METRICS, {"event": "start"})
    disk.leave(4096)
    before = record.path(METRICS).read_bytes()
    with pytest.raises(NoSpaceError):
        record.append(METRICS, {"event": "x" * 10_000})
    assert record.path(METRICS).read_bytes() == before
    disk.empty()
    record.append(METRICS, {"event": "epoch"})
    assert [event["event"] for event in record.events(METRICS)] == ["start", "epoch"]


LIMITED = """
import resource, sys
import equipoise as eq
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))  # a checkpoint has more
eq.fit(sys.argv[1], out=sys.argv[2], epochs=3, batch_size=32, checkpoint_every=1, diagnose_every=0)
"""


def test_the_largest_file_that_a_user_may_write(data: Path, tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] in (resource.RLIM_INFINITY, 2**63 - 1)
    out = tmp_path / "run"
    command = [sys.executable, "-c", LIMITED, str(data), str(out)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"NoSpaceError: no space left in {out} for checkpoint.pt (file too large)" in ended.stderr
    assert sorted(path.name for path in out.iterdir()) == ["config.yaml", METRICS]
    settings = {"epochs": 3, "batch_size": 32, "checkpoint_every": 1, "diagnose_every": 0}
    assert eq.fit(data, out=out, resume=True, **settings).best_epoch >= 0


def test_errors_that_a_full_disk_has_caused(tmp_path: Path) -> None:
    """Where no file system can be mounted, the same is tested with errors that are raised by hand."""

    class SafetensorError(Exception):
        pass

    path = tmp_path / "a.txt"
    write_atomically(path, "old")
    for code, why in ((errno.ENOSPC, "for a.txt; free"), (errno.EDQUOT, "for a.txt (disk quota exceeded)")):
        with pytest.raises(NoSpaceError) as told, replaced(path) as partial:
            partial.write_text("half")
            raise OSError(code, "full")
        assert why in str(told.value)
        with pytest.raises(NoSpaceError), replaced(path):
            try:
                raise OSError(code, "full")
            except OSError:
                raise RuntimeError("unexpected pos 640 vs 598")  # as torch does  # noqa: B904
        with pytest.raises(NoSpaceError), replaced(path):
            raise SafetensorError(f"I/O error: full (os error {code})")
    with pytest.raises(PermissionError), replaced(path):
        raise PermissionError(errno.EACCES, "not yours")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert no_space(ValueError("os error 28"), path) is None
    append_line(path, "new")  # "old" was half a line
    assert path.read_text() == "new\n"
