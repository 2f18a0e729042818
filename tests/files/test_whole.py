"""Files are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.files.whole import replaced, write_atomically
from equipoise.training.record.record import CHECKPOINT, RunRecord


def test_an_error_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "a.txt"
    write_atomically(file, "old")
    with pytest.raises(KeyboardInterrupt), replaced(file) as partial:
        partial.write_text("half")
        assert partial != file
        raise KeyboardInterrupt
    assert [path.name for path in file.parent.iterdir()] == ["a.txt"]
    assert file.read_text() == "old"
    write_atomically(file, "new")
    assert file.read_text() == "new"


@pytest.mark.parametrize("end", [RunRecord.tidy, RunRecord.clear])
def test_what_a_killed_process_leaves_is_removed_with_the_checkpoint(tmp_path: Path, end) -> None:
    (tmp_path / ".checkpoint.pt.123.part").write_bytes(b"half")
    (tmp_path / CHECKPOINT).write_bytes(b"whole")
    (tmp_path / "notes.txt").write_text("mine")
    end(RunRecord(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
