"""A dataset is written completely or not at all, and only a dataset is ever replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import equipoise.data.format.writing as writing
from equipoise.data import PreparedDataset, open_dataset
from equipoise.types import EquipoiseError, RunFolderError

Write = Callable[..., PreparedDataset]


def test_an_existing_folder_is_not_changed(tmp_path: Path, write: Write) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.tex").write_text("all my work")
    with pytest.raises(RunFolderError, match=r"not empty; choose another folder, or replace a dataset"):
        write()
    with pytest.raises(RunFolderError, match="holds no dataset that overwrite=True may replace"):
        write(overwrite=True)
    (tmp_path / "set" / "dataset.json").write_text('{"format": "something else"}')
    with pytest.raises(RunFolderError, match="holds no dataset that overwrite=True may replace"):
        write(overwrite=True)
    assert (tmp_path / "set" / "thesis.tex").read_text() == "all my work"
    assert len(list(tmp_path.iterdir())) == 1


def test_overwrite_refuses_a_dataset_with_other_files(write: Write) -> None:
    folder = write().path
    (folder / "runs").mkdir()
    with pytest.raises(RunFolderError, match=r"other files than those of a dataset \('runs'\)"):
        write(overwrite=True)
    open_dataset(folder).verify()


def test_overwrite_replaces_a_dataset_even_with_its_own_arrays(tmp_path: Path, write: Write) -> None:
    old = write()
    with pytest.raises(RunFolderError, match="overwrite=True"):
        write()
    new = write(inputs={"a": old.array("a"), "c": old.array("b")}, overwrite=True)
    new.verify()
    assert list(new.modalities) == ["a", "c"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert new.content_hashes["c"].tolist() == old.content_hashes["b"].tolist()


def test_an_empty_folder_may_be_used(tmp_path: Path, write: Write) -> None:
    (tmp_path / "set").mkdir()
    write().verify()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_file_of_the_same_name(tmp_path: Path, write: Write) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match="is a file; choose"):
        write(folder=tmp_path / "file")
    with pytest.raises(RunFolderError, match="cannot write"):
        write(folder=tmp_path / "file" / "below" / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_unwritable_folder(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(RunFolderError, match=r"Permission denied.*choose a folder"):
        write()


FAILURES = ["_write_array", "open_dataset", "install", "dataset_fingerprint"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), RuntimeError("bug")])
@pytest.mark.parametrize("at", FAILURES)
def test_a_failure_midway_leaves_no_files(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch, at: str, error: BaseException
) -> None:
    calls = 0
    real = getattr(writing, at)

    def fail(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if at != "_write_array" or calls == 2:  # the first array is on disk already
            raise error
        return real(*arguments)

    monkeypatch.setattr(writing, at, fail)
    with pytest.raises(RunFolderError if isinstance(error, OSError) else type(error)):
        write(folder=tmp_path / "new" / "parents" / "set")
    assert calls
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at", [*FAILURES, "rename"])
def test_a_failure_midway_keeps_the_old_dataset(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    old = write()
    before = {path.name: path.read_bytes() for path in old.path.iterdir()}

    def fail(*_: Any) -> Any:
        raise OSError("no more")

    if at == "rename":  # the old dataset has been moved away, and the new one cannot replace it
        real = Path.rename
        monkeypatch.setattr(
            Path, "rename", lambda path, to: (fail if path.suffix == ".part" else real)(path, to)
        )
    else:
        monkeypatch.setattr(writing, at, fail)
    with pytest.raises(RunFolderError, match="no more"):
        write(inputs={"z": np.ones((60, 1))}, overwrite=True)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert {path.name: path.read_bytes() for path in old.path.iterdir()} == before
    open_dataset(old.path).verify()


def test_invalid_data_do_not_change_an_existing_dataset(tmp_path: Path, write: Write) -> None:
    old = write()
    with pytest.raises(EquipoiseError):
        write(inputs={"a": np.full((60, 2), np.nan)}, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    open_dataset(old.path).verify()
