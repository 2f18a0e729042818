"""Files that are made to do harm are opened as a user would: nothing runs, nothing leaves its folder.

They are listed in `tests/support/hostile`, each with what it tries.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from equipoise.types import EquipoiseError, EquipoiseWarning
from evidence import add_row
from hostile import arrays, media, pickles, tensors, texts
from hostile.case import Command, Hostile, Place
from limits import Late, limited
from mutations import HARMFUL, ROOM
from watched import watched

CASES: list[Hostile] = [*pickles.CASES, *tensors.CASES, *arrays.CASES, *media.CASES, *texts.CASES]
pytestmark = pytest.mark.hostile


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """What the user was given, which is also the current folder, and what lies beside it."""
    given, outside = tmp_path / "given", tmp_path / "outside"
    given.mkdir()
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    np.save(outside / "secret.npy", np.arange(4.0))
    monkeypatch.chdir(given)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        yield Place(given, outside, outside / "mark", server.getsockname()[1])
        with contextlib.suppress(BlockingIOError):
            server.accept()
            pytest.fail("a connection was made")


def everything(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder, with their content."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_there_are_as_many_as_were_promised() -> None:
    assert len({str(case) for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.matrix] * case.slow, id=str(case)) for case in CASES],
)
def test_nothing_runs_and_nothing_leaves_its_folder(
    case: Hostile, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in case.needs:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    said, failed = "", "it did not end"
    try:
        said = opened(case, place, capsys)
        failed = ""
    except (AssertionError, Late) as error:
        failed = str(error).partition("\n")[0]
        raise
    finally:
        shown = said.replace(str(place.given), "FOLDER").replace(str(place.outside), "OUTSIDE")
        shown = re.sub("0x[0-9a-f]{6,}", "0x...", shown)
        add_row(kind=case.kind, tries=case.tries, said=shown, failed=failed)


def opened(case: Hostile, place: Place, capsys: pytest.CaptureFixture[str]) -> str:
    """Open a file as a user would; return the line that was said, or nothing where it was read.

    Raises:
        AssertionError: it did harm, said something else than it should, or took too much memory.
        Late: it took too long.
    """
    path = case.write(place)
    before = everything(place.outside)
    with limited(str(case)) as taken, watched(place.given) as done:
        said = words_of(case, path, capsys)
    assert not done, f"it did {done}"
    assert not place.mark.exists(), "it ran"
    assert everything(place.outside) == before, "it changed files outside its folder"
    need = 2 * sum(file.stat().st_size for file in place.given.rglob("*") if file.is_file())
    # A command imports what it needs.
    room = 4 * ROOM if isinstance(case.read, Command) else ROOM
    assert taken.bytes <= 2 * need + room, f"it takes {taken.bytes:,} bytes"
    assert "\n" not in said, f"it says several lines: {said}"
    assert said.isprintable(), f"it says {said!r}"
    assert not HARMFUL.search(said), f"it says {said}"
    assert bool(said) == bool(case.says), f"it says {said!r}"
    says = case.says.replace("OUTSIDE", str(place.outside))
    assert re.search(says, said), f"it says {said!r}, expected {case.says!r}"
    return said


def words_of(case: Hostile, path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a reader or command says of a file."""
    capsys.readouterr()
    with warnings.catch_warnings():
        shown = warnings.showwarning
        warnings.simplefilter("ignore", EquipoiseWarning)
        try:
            case.read(path)
        except EquipoiseError as error:
            return str(error)
        except SystemExit as ended:
            code = ended.code
        else:
            return ""
        finally:
            warnings.showwarning = shown
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
    assert code in (0, None, 1, 2), f"it ends with {code}: {lines}"
    assert not any("unexpected" in line for line in lines), lines
    return "\n".join(lines) if code else ""
