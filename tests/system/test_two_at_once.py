"""Two processes on one folder: one wins, the other says one line, and nothing is mixed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import equipoise as eq
import synthetic
from commands import Said, command
from equipoise.data import open_dataset
from equipoise.data.prepare.engine import prepare
from equipoise.types import RunFolderError
from evidence import add_row
from media_files import plan_of_media
from moments import before_change

SETTINGS = ["--epochs", "2", "--checkpoint-every", "1", "--diagnose-every", "0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write(tmp_path_factory.mktemp("data") / "two").path


COMMANDS = {
    # the command, and the file before which the second one starts
    "train": (["train", *SETTINGS], "checkpoint.pt"),
    "compare": (
        ["compare", "--methods", "joint", "--seeds", "1", "--workers", "1", *SETTINGS],
        "joint-seed0/met",
    ),
    "tune": (
        ["tune", "--methods", "joint", "--trials", "1", "--epochs", "1", "--workers", "1"],
        "metrics.jsonl",
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_second_of_two_commands(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    words, file = COMMANDS[name]
    out, seconds = tmp_path / "out", list[Said]()
    given = [*words, "--data", data, "--out", out]

    def second() -> None:
        held = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for how in ([], ["--resume"], ["--overwrite"]):
            seconds.append(command(capsys, *given, *how))
        assert held == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    with before_change(out, file, second):
        first = command(capsys, *given)
    assert first.code == 0, first
    assert [said.code for said in seconds] == [2, 1, 1]
    assert "already; resume it, overwrite it" in seconds[0].line
    for said in seconds[1:]:
        assert (
            f"another process is writing into {out}; wait for it to end, or choose another folder."
            in said.line
        )
    row = {"said": seconds[1].line, "kept": "the first one", "went_on": True}
    add_row(part="adversity", what=name, moment="started twice", **row)


def test_the_second_of_two_preparations(tmp_path: Path) -> None:
    plan, out, told = plan_of_media(tmp_path / "in"), tmp_path / "place" / "set", list[str]()

    def second() -> None:
        for overwrite in (False, True):
            with pytest.raises(RunFolderError) as error:
                prepare(plan, out, workers=1, overwrite=overwrite)
            told.append(str(error.value))

    with before_change(out.parent, "journal.jsonl", second):
        prepare(plan, out, workers=1)
    assert told == [f"another process is preparing {out}; wait until it ends."] * 2
    open_dataset(out).verify()
    add_row(
        part="adversity", what="prepare", moment="started twice", said=told[0], kept="the first", went_on=True
    )


def test_two_reports_are_both_whole(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to mix: each is written under another name, and the last one stays."""
    run = eq.fit(data, epochs=1, diagnose_every=0, out=tmp_path / "run").run_dir
    page, seconds = tmp_path / "new" / "page.html", list[Said]()
    words = ["report", run, "--out", page]
    with before_change(page.parent, ".page.html", lambda: seconds.append(command(capsys, *words))):
        assert command(capsys, *words).code == 0
    assert seconds[0].code == 0
    assert page.read_text().rstrip().endswith("</html>")
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]
    add_row(part="adversity", what="report", moment="started twice", said="", kept="both", went_on=True)


@pytest.mark.matrix
@pytest.mark.parametrize("name", ["train", "compare"])
def test_two_processes_that_start_together(data: Path, tmp_path: Path, name: str) -> None:
    words = [*COMMANDS[name][0], "--data", str(data), "--out", str(tmp_path / "out"), "--resume"]
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "equipoise", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 0], [0, 1])  # the second may have come when the first one had ended
    if codes == [0, 1]:
        (loser,) = [text for text, process in zip(said, both, strict=True) if process.returncode]
        assert "another process is writing into" in loser
        assert "Traceback" not in loser
        add_row(
            part="adversity", what=name, moment="two processes", said=loser.strip(), kept="one", went_on=True
        )
