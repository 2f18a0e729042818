"""The preparation: equal bytes with any number of workers and interruptions, no incomplete files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from equipoise.data import open_dataset
from equipoise.data.prepare.clips import ArrayPreparation, Clip, Lost
from equipoise.data.prepare.engine import prepare
from equipoise.data.prepare.media.files import MediaError
from equipoise.data.prepare.summary import LostSamplesError
from equipoise.types import DataError, RunFolderError, UsageError
from processes import alive
from readers_of_tests import numbers, plan_of_numbers

SUPPORT = Path(__file__).parents[2] / "support"


def _bytes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_stored_arrays_equal_the_files(tmp_path: Path) -> None:
    done = prepare(numbers(tmp_path / "in", 20), tmp_path / "out", workers=1)
    dataset = open_dataset(tmp_path / "out")
    assert np.array_equal(dataset.array("x"), np.arange(20)[:, None] + np.arange(4.0)[None])
    assert dataset.ids.tolist() == [f"n{row}" for row in range(20)]
    assert dataset.classes == ("a", "b", "c")
    assert dataset.target.tolist() == [row % 3 for row in range(20)]
    dataset.verify()
    assert dataset.preparation["readers"]["x"]["reader"] == "NumberReader"
    assert dataset.preparation["versions"]["numpy"] == np.__version__
    assert done.summary.counts["a"] == {"train": 5, "test": 2}
    assert (done.summary.total, done.summary.read, done.summary.notes) == (20, 20, ("a note",))
    assert [file.name for file in tmp_path.iterdir()].count("out") == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in", "out"]


def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path) -> None:
    plan = numbers(tmp_path / "in", 40)
    for workers in (1, 2):
        prepare(plan, tmp_path / f"out{workers}", workers=workers)
    one = _bytes(tmp_path / "out1")
    assert one == _bytes(tmp_path / "out2")


SCRIPT = """
import signal
import sys
from pathlib import Path
from readers_of_tests import plan_of_numbers
from equipoise.data.prepare.engine import prepare
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits that it is ignored
    root = Path(sys.argv[1])
    plan = plan_of_numbers(root / "in", 60, seconds=0.02, log=str(root / "log"))
    prepare(plan, root / "out", workers=int(sys.argv[2]))
"""


def _started(root: Path, workers: int) -> subprocess.Popen[bytes]:
    paths = [str(SUPPORT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    (root / "script.py").write_text(SCRIPT)
    words = [sys.executable, str(root / "script.py"), str(root), str(workers)]
    return subprocess.Popen(words, env=environment, start_new_session=True, stderr=subprocess.PIPE)


def _wait_for_rows(root: Path, process: subprocess.Popen[bytes], rows: int) -> None:
    journal = root / ".out.preparing" / "journal.jsonl"
    for _ in range(600):
        if journal.exists() and journal.read_bytes().count(b"\n") >= rows:
            return
        assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
        time.sleep(0.05)
    raise AssertionError("nothing was prepared in 30 seconds")


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.matrix), 2])
def test_a_kill_loses_only_the_rows_in_progress(tmp_path: Path, workers: int) -> None:
    log = tmp_path / "log"
    numbers(tmp_path / "in", 60)
    process = _started(tmp_path, workers)
    _wait_for_rows(tmp_path, process, 16)
    process.kill()  # the workers notice
    process.wait()
    deadline = time.monotonic() + 10
    while alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive(process.pid) == []
    assert not (tmp_path / "out").exists()
    journal = tmp_path / ".out.preparing" / "journal.jsonl"
    known = journal.read_bytes().count(b"\n")
    with journal.open("ab") as file:
        file.write(b'{"row": 59, "sta')  # an incomplete line
    log.unlink()
    plan = plan_of_numbers(tmp_path / "in", 60, seconds=0.02, log=str(log))
    done = prepare(plan, tmp_path / "out", workers=1)
    assert 16 <= known < 60
    assert done.summary.read == len(log.read_text().splitlines()) == 60 - known
    prepare(plan, tmp_path / "unbroken", workers=1)
    assert _bytes(tmp_path / "out") == _bytes(tmp_path / "unbroken")


def test_finished_work_is_not_repeated(tmp_path: Path) -> None:
    plan = numbers(tmp_path / "in", 200, words={7: "rubbish", 8: "rubbish", 9: "rubbish"})
    with pytest.raises(DataError, match="3 of 200 samples cannot be prepared"):
        prepare(plan, tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()
    (tmp_path / "in" / "7.txt").write_text("7")
    done = prepare(plan, tmp_path / "out", workers=1)
    assert done.summary.read == 3  # only lost samples are read again
    assert len(done.dataset) == 198
    assert [one.id for one in done.summary.lost] == ["n8", "n9"]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    plan = numbers(tmp_path / "in", 50, words={7: "rubbish"})
    with pytest.raises(DataError):
        prepare(plan, tmp_path / "out", workers=1)
    (tmp_path / "in" / "7.txt").write_text("7")
    (tmp_path / "in" / "3.txt").write_text("333")
    done = prepare(plan, tmp_path / "out", workers=1)
    assert done.summary.read == 2
    assert done.dataset.array("x")[3, 0] == 333


def test_what_a_kill_leaves_behind_is_not_the_dataset_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the last move and the removal of its work, whose files are linked to the dataset."""
    plan, rmtree = numbers(tmp_path / "in", 50), shutil.rmtree

    def killed(path: Path, **how: object) -> None:
        if str(path).endswith(".preparing") and (tmp_path / "out").exists():
            raise KeyboardInterrupt
        rmtree(path, **how)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("equipoise.data.prepare.engine.shutil.rmtree", killed)
        prepare(plan, tmp_path / "out", workers=1)
    (tmp_path / "in" / "3.txt").write_text("333")
    (tmp_path / "in" / "7.txt").write_text("rubbish")
    with pytest.raises(DataError):
        prepare(plan, tmp_path / "out", workers=1, overwrite=True)
    dataset = open_dataset(tmp_path / "out")
    dataset.verify()
    assert dataset.array("x")[3, 0] == 3
    (tmp_path / "in" / "7.txt").write_text("7")
    assert prepare(plan, tmp_path / "out", workers=1, overwrite=True).dataset.array("x")[3, 0] == 333


def test_rows_missing_on_disk_are_read_again(tmp_path: Path) -> None:
    plan = numbers(tmp_path / "in", 50, words={7: "rubbish"})
    with pytest.raises(DataError):
        prepare(plan, tmp_path / "out", workers=1)
    rows = np.load(tmp_path / ".out.preparing" / "00_x.npy", mmap_mode="r+")
    rows[20] = 0
    rows.flush()
    (tmp_path / "in" / "7.txt").write_text("7")
    assert prepare(plan, tmp_path / "out", workers=1).summary.read == 2
    assert open_dataset(tmp_path / "out").array("x")[20, 0] == 20


def test_another_plan_starts_anew(tmp_path: Path) -> None:
    plan = numbers(tmp_path / "in", 50, words={7: "rubbish"})
    with pytest.raises(DataError):
        prepare(plan, tmp_path / "out", workers=1)
    wider = numbers(tmp_path / "in", 50, width=5)
    assert prepare(wider, tmp_path / "out", workers=1).summary.read == 50


def test_lost_samples_are_named_with_reason_and_remedy(tmp_path: Path) -> None:
    plan = numbers(tmp_path / "in", 30, words={1: "rubbish", 2: "", 5: "nan"})
    (tmp_path / "in" / "9.txt").unlink()
    with pytest.raises(LostSamplesError) as caught:
        prepare(plan, tmp_path / "out", workers=1)
    message = str(caught.value)
    for words in ("4 of 30", "1 missing", "1 empty", "holds no number; write one", "--allow-missing"):
        assert words in message
    assert "\n" not in message
    assert sorted(one.id for one in caught.value.lost) == ["n1", "n2", "n5", "n9"]
    done = prepare(plan, tmp_path / "out", workers=1, allow_missing=True)
    kept = [row for row in range(30) if row not in (1, 2, 5, 9)]
    assert done.dataset.ids.tolist() == [f"n{row}" for row in kept]
    assert done.dataset.array("x")[:, 0].tolist() == kept
    done.dataset.verify()
    reasons = {one["id"]: one["reason"] for one in done.dataset.preparation["lost"]}
    assert reasons == {"n1": "unreadable", "n2": "empty", "n5": "unreadable", "n9": "missing"}


def test_one_per_cent_of_the_samples_may_be_lost(tmp_path: Path) -> None:
    done = prepare(numbers(tmp_path / "in", 100, words={50: "rubbish"}), tmp_path / "out", workers=1)
    assert len(done.dataset) == 99


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.matrix), 2])
def test_a_crashing_decoder_loses_only_its_sample(tmp_path: Path, workers: int) -> None:
    plan = numbers(tmp_path / "in", 40, words={11: "crash"})
    done = prepare(plan, tmp_path / "out", workers=workers, isolated=True, allow_missing=True)
    assert [(one.id, one.reason) for one in done.summary.lost] == [("n11", "crash")]
    assert len(done.dataset) == 39
    done.dataset.verify()


@pytest.mark.parametrize(
    ("workers", "word", "kind", "message"),
    [
        (1, "extra", UsageError, "equipoise[media]"),
        (2, "bug", DataError, "'n3' failed unexpectedly (ZeroDivisionError"),
    ],
)
def test_an_error_outside_of_files_is_not_a_loss(
    tmp_path: Path, workers: int, word: str, kind: type[Exception], message: str
) -> None:
    plan = numbers(tmp_path / "in", 20, words={3: word})
    with pytest.raises(kind) as caught:
        prepare(plan, tmp_path / "out", workers=workers, allow_missing=True)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_empty_class_is_always_an_error(tmp_path: Path) -> None:
    plan = numbers(tmp_path / "in", 9, words=dict.fromkeys((1, 4, 7), "rubbish"))
    with pytest.raises(DataError, match="1 classes have no sample \\('b'\\)"):
        prepare(plan, tmp_path / "out", workers=1, allow_missing=True)
    with pytest.raises(DataError, match="none of 9 samples"):
        nothing = numbers(tmp_path / "in", 9, words=dict.fromkeys(range(9), "rubbish"))
        prepare(nothing, tmp_path / "out", workers=1, allow_missing=True)


def test_mistakes_are_reported_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = numbers(tmp_path / "in", 12)
    with pytest.raises(DataError, match="'n0'"):
        prepare(replace(plan, clips=[*plan.clips, plan.clips[0]]), tmp_path / "out", workers=1)
    with pytest.raises(DataError, match="no sample of 'numbers' was found"):
        prepare(replace(plan, clips=[]), tmp_path / "out", workers=1)
    with pytest.raises(UsageError, match="workers is 0"):
        prepare(plan, tmp_path / "out", workers=0)
    odd = [*plan.clips[:-1], replace(plan.clips[-1], split=None)]
    with pytest.raises(DataError, match="1 samples have no split"):
        prepare(replace(plan, clips=odd), tmp_path / "out", workers=1)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="not empty"):
        prepare(plan, tmp_path / "taken", workers=1)
    with FileLock(tmp_path / ".out.preparing.lock"), pytest.raises(RunFolderError, match="another process"):
        prepare(plan, tmp_path / "out", workers=1)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
    with pytest.raises(RunFolderError, match="GiB free"):
        prepare(plan, tmp_path / "new", workers=1)
    assert not (tmp_path / "new").exists()


def test_an_interrupt_keeps_finished_work(tmp_path: Path) -> None:
    numbers(tmp_path / "in", 60)
    process = _started(tmp_path, 2)
    _wait_for_rows(tmp_path, process, 8)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)
    assert process.returncode != 0
    assert not (tmp_path / "out").exists()
    assert (tmp_path / ".out.preparing" / "journal.jsonl").read_bytes().endswith(b"\n")


def test_a_numeric_target(tmp_path: Path) -> None:
    plan = numbers(tmp_path / "in", 12)
    clips = [replace(clip, label=row / 7) for row, clip in enumerate(plan.clips)]
    done = prepare(replace(plan, clips=clips, classes=None), tmp_path / "out", workers=1)
    assert done.dataset.task == "regression"
    assert np.array_equal(done.dataset.target, np.arange(12) / 7)
    assert done.summary.counts == {"all": {"train": 9, "test": 3}}


def test_arrays_need_no_decoding(tmp_path: Path) -> None:
    features = np.arange(24, dtype=np.float32).reshape(6, 4)
    arguments = {"inputs": {"a": features}, "target": [0, 1, 0, 1, 0, 1], "classes": ["no", "yes"]}
    lost = Lost.of(Clip("z", "no", {}), MediaError("z.bin", "empty", "has zero length", "get it again"))
    plan = ArrayPreparation("arrays", arguments, [lost], {"zeros": 3})
    with pytest.raises(DataError, match="1 of 7 samples"):
        prepare(plan, tmp_path / "out")
    done = prepare(plan, tmp_path / "out", allow_missing=True)
    assert done.dataset.name == "arrays"
    assert done.dataset.preparation["facts"] == {"zeros": 3}
    assert done.summary.counts == {"no": {"all": 3}, "yes": {"all": 3}}
    assert [one["id"] for one in done.dataset.preparation["lost"]] == ["z"]
