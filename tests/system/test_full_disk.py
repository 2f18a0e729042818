"""A full disk is named in one line, leaves no half file, and costs nothing once there is room again."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import equipoise as eq
import synthetic
from commands import Said, command
from equipoise.cache import remember
from equipoise.data import open_dataset
from equipoise.data.prepare.engine import prepare
from equipoise.files.whole import append_line, no_space, replaced, reserve, write_atomically
from equipoise.training.record.record import METRICS, RunRecord
from equipoise.types import NoSpaceError
from evidence import add_row
from media_files import MEDIA, plan_of_media
from moments import before_change
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
    add_row(
        part="adversity", what="train", moment=file, said=str(told.value), kept="the run so far", went_on=True
    )


def filled_up(
    disk: SmallDisk, capsys: pytest.CaptureFixture[str], file: str, *words: object, left: int = 0
) -> Said:
    """Run a command during which the disk fills up, right before it begins to write the `file`."""
    with before_change(disk.path, file, partial(disk.leave, left)):
        said = command(capsys, *words)
    disk.empty()
    assert said.code == 1
    assert "no space left in " in said.line
    assert "free some there, and run the same command again" in said.line
    assert not [name for name in disk.files() if name.endswith(".part")]
    return said


COMPARE = (
    ".config.yaml",
    "ogm-seed0/.predictions",
    "joint-seed1/.config.yaml",
    ".summary.json",
    ".report.html",
)


def test_a_comparison_stops_and_is_resumed(
    data: Path, disk: SmallDisk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", "--data", data, "--seeds", "2", "--epochs", "2", "--workers", "1"]
    words += ["--methods", "joint", "ogm", "--out"]
    assert command(capsys, *words, tmp_path / "whole").code == 0
    out = disk.path / "out"
    finished: set[Path] = set()
    for file in COMPARE:  # each time it goes on from where it stopped
        said = filled_up(disk, capsys, file, *words, out, "--resume")
        assert {path for path in out.rglob("result.json") if eq.load_run(path.parent)} >= finished
        finished = set(out.rglob("result.json"))
        kept = f"{len(finished)} finished runs"
        add_row(part="adversity", what="compare", moment=file, said=said.line, kept=kept, went_on=True)
    assert len(finished) == 4
    assert command(capsys, *words, out, "--resume").code == 0
    tables = [pd.read_csv(folder / "results.csv") for folder in (tmp_path / "whole", out)]
    timed = ["train_seconds", "method_seconds"]
    pd.testing.assert_frame_equal(*(table.drop(columns=timed) for table in tables))
    assert set(tables[0]["status"]) == {"ok"}


PREPARE = ("01_sound.npy", "plan.json", "journal.jsonl", "final/index.csv", "final/dataset.json")


def test_a_preparation_goes_on(
    disk: SmallDisk, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path / "cache"))
    plan, whole = plan_of_media(tmp_path / "in"), tmp_path / "whole"
    prepare(plan, whole, workers=1)
    out = disk.path / "new" / "set"
    for file in PREPARE:
        with pytest.raises(NoSpaceError) as told, before_change(disk.path, file, partial(disk.leave, 0)):
            prepare(plan, out, workers=1)
        disk.empty()
        assert f"no space left in {disk.path}" in str(told.value)
        assert "\n" not in str(told.value)
        assert not [name for name in disk.files() if name.endswith(".part")]
        assert not out.exists()
        read = (disk.path / "new" / ".set.preparing" / "journal.jsonl").exists()
        kept = "the samples read before" if read else "nothing was begun"
        add_row(part="adversity", what="prepare", moment=file, said=str(told.value), kept=kept, went_on=True)
    done = prepare(plan, out, workers=1)
    assert done.summary.read == 0  # the work of the last attempts
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in whole.iterdir()
    }
    assert disk.files() == {"new", "new/set", *(f"new/set/{path.name}" for path in whole.iterdir())}


@pytest.mark.matrix
@pytest.mark.parametrize("file", PREPARE)
def test_several_workers_of_a_preparation(
    disk: SmallDisk,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    file: str,
) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path / "cache"))
    plan_of_media(tmp_path / "in")
    words = ["prepare", "table", "--source", tmp_path / "in" / "list.csv", "--workers", "2", *MEDIA, "--out"]
    said = filled_up(disk, capsys, file, *words, disk.path / "set")
    assert command(capsys, *words, disk.path / "set").code == 0
    assert command(capsys, *words, tmp_path / "whole").code == 0
    for path in (tmp_path / "whole").iterdir():
        assert (disk.path / "set" / path.name).read_bytes() == path.read_bytes()
    kept = "the samples read before"
    add_row(part="adversity", what="prepare, 2 workers", moment=file, said=said.line, kept=kept, went_on=True)


def test_another_dataset_stays_until_the_new_one_is_whole(disk: SmallDisk, tmp_path: Path) -> None:
    before = synthetic.write(disk.path / "set")
    disk.leave(4096)
    with pytest.raises(NoSpaceError, match=f"no space left in {disk.path}"):
        synthetic.write(disk.path / "other")
    plan = plan_of_media(tmp_path / "in")
    with pytest.raises(NoSpaceError):
        prepare(plan, disk.path / "set", workers=1, overwrite=True)
    disk.empty()
    open_dataset(before.path).verify()
    assert not [name for name in disk.files() if name.endswith(".part") or "other" in name]


def test_a_prepared_dataset_that_cannot_be_remembered(
    disk: SmallDisk, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is whole, and used by its path; the same command would find its folder in the way."""
    monkeypatch.setenv("EQUIPOISE_CACHE", str(disk.path / "cache"))
    disk.leave(0)
    with pytest.warns(eq.EquipoiseWarning, match="no space left") as told:
        remember("fsdd", tmp_path / "set")
    assert str(tmp_path / "set") in str(told[0].message)


REPORT = [
    pytest.param(".page.html", 4096, id="page"),
    *(
        pytest.param(file, left, marks=pytest.mark.matrix)
        for file, left in (
            (".page.html", 0),
            (".page.html", 2**18),
            (".learning.svg", 0),
            (".curves.svg", 4096),
        )
    ),
]


@pytest.mark.parametrize(("file", "left"), REPORT)
def test_a_report_is_written_again(
    disk: SmallDisk, whole: eq.FitResult, capsys: pytest.CaptureFixture[str], file: str, left: int
) -> None:
    page = disk.path / "new" / "page.html"
    words: list[object] = ["report", whole.run_dir, "--out", page, "--overwrite"]
    if file.endswith("svg"):
        words += ["--figures", disk.path / "new" / "figures", "--formats", "svg"]
    page.parent.mkdir()
    page.write_text("the last one")
    said = filled_up(disk, capsys, file, *words, left=left)
    if file == ".page.html":
        assert page.read_text() == "the last one"
    assert {name.rpartition(".")[2] for name in disk.files() if "." in name} <= {"html", "svg"}
    assert command(capsys, *words).code == 0
    moment = f"{file}, {left} bytes left"
    add_row(
        part="adversity", what="report", moment=moment, said=said.line, kept="the last page", went_on=True
    )


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
