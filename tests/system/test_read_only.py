"""Folders that may only be read: what cannot be written is named in one line, and reading works."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import equipoise as eq
import synthetic
from commands import command
from equipoise import cli
from equipoise.cache import remember
from equipoise.data import load_dataset
from equipoise.types import RunFolderError
from evidence import add_row
from media_files import MEDIA, plan_of_media
from small_disks import read_only

SETTINGS = ["--epochs", "1", "--diagnose-every", "0"]


@contextmanager
def only_to_read(path: Path) -> Iterator[None]:
    with read_only(path) as done:
        if not done:
            pytest.skip("nothing can be mounted here")
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write(tmp_path_factory.mktemp("data") / "two").path


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eq.fit(data, epochs=1, diagnose_every=0, out=tmp_path_factory.mktemp("run") / "a").run_dir


def test_where_nothing_can_be_written(
    data: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder itself, and one below it that does not exist yet."""
    place = tmp_path / "place"
    place.mkdir()
    plan_of_media(tmp_path / "in")
    prepare = ["prepare", "table", "--source", tmp_path / "in" / "list.csv", "--workers", "1", *MEDIA]
    commands: dict[str, list[object]] = {
        "train": ["train", "--data", data, *SETTINGS],
        "compare": ["compare", "--data", data, "--methods", "joint", "--seeds", "1", *SETTINGS],
        "tune": ["tune", "--data", data, "--methods", "joint", "--trials", "1", "--epochs", "1"],
        "prepare": prepare,
        "report": ["report", finished],
        "diagnose": ["diagnose", finished],
    }
    with only_to_read(place):
        for name, words in commands.items():
            for out in (place / "new", place / "further" / "below"):
                file = out.with_suffix(".html") if name in ("report", "diagnose") else out
                said = command(capsys, *words, "--out", file)
                assert said.code == 2, said
                assert str(place) in said.line
                assert "choose" in said.line
                assert "Errno" not in said.line
                moment = f"read-only {out.relative_to(place)}"
                row = {"said": said.line, "kept": "nothing was begun", "went_on": True}
                add_row(part="adversity", what=name, moment=moment, **row)
    assert not any(place.iterdir())


def test_a_run_that_may_only_be_read(
    data: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with only_to_read(finished):
        assert eq.load_run(finished).test
        assert command(capsys, "report", finished, "--out", tmp_path / "page.html").code == 0
        for words in (["report", finished], ["diagnose", finished]):
            said = command(capsys, *words)
            assert said.code == 2
            assert f"{finished} cannot be written; choose another place: --out FILE" in said.line
        said = command(capsys, "diagnose", finished, "--test", "--out", tmp_path / "t.html")
        assert said.code == 1
        assert f"cannot use {finished / 'metrics.jsonl'} (Read-only file system)" in said.line
        row = {"said": said.line, "kept": "the finished run", "went_on": False}
        add_row(part="adversity", what="diagnose --test", moment="read-only run", **row)
        overwrite = command(capsys, "train", "--data", data, *SETTINGS, "--out", finished, "--overwrite")
        assert overwrite.code == 2
    assert eq.load_run(finished).test


def test_a_dataset_that_may_only_be_read(data: Path, tmp_path: Path) -> None:
    with only_to_read(data):
        eq.fit(data, epochs=1, diagnose_every=0, out=tmp_path / "run")


@pytest.mark.matrix
def test_sources_that_may_only_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_of_media(tmp_path / "in")
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path / "cache"))
    words = ["prepare", "table", "--source", tmp_path / "in" / "list.csv", "--workers", "1", *MEDIA]
    with only_to_read(tmp_path / "in"), only_to_read(tmp_path / "cache"):
        said = command(capsys, *words, "--out", tmp_path / "set")
    assert said.code == 0, said
    assert "warning" in said.err
    assert f"--data {tmp_path / 'set'}" in said.err
    add_row(
        part="adversity",
        what="prepare",
        moment="read-only source and cache",
        said=said.err,
        kept="",
        went_on=True,
    )


def test_a_cache_that_may_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path))
    pytest.importorskip("multiviewstacking")
    with only_to_read(tmp_path):
        with pytest.raises(RunFolderError) as told:
            load_dataset("htad")
        with pytest.warns(eq.EquipoiseWarning, match="Read-only file system"):
            remember("htad", tmp_path / "htad")
    said = (
        f"cannot write the cache {tmp_path / 'datasets'} (Read-only file system); name another folder in EQUI"
    )
    assert str(told.value).startswith(said)
    add_row(
        part="adversity", what="train", moment="read-only cache", said=str(told.value), kept="", went_on=False
    )


def test_what_the_system_refuses_is_not_unexpected() -> None:
    refused = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/data/a.csv")
    assert (
        cli._unexpected(refused)
        == "cannot use /data/a.csv (Permission denied); check its permissions and disk."
    )
    assert cli._unexpected(KeyError("a")).startswith("unexpected KeyError: 'a'")
