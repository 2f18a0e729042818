"""A record without seals from which something was taken is shown, or refused with the file and the entry."""

from __future__ import annotations

import copy
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from equipoise.report.pages.comparison import comparison_page
from equipoise.report.pages.run import run_page
from equipoise.report.records import gather, read_comparison
from equipoise.types import EquipoiseError, EquipoiseWarning, RunFolderError

EARLIER = Path(__file__).parents[1] / "support" / "earlier"
DEEPEST = 3


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two runs without seals."""
    found = [Path(shutil.copytree(EARLIER / "run", tmp_path / name)) for name in ("one", "two")]
    result = json.loads((found[1] / "result.json").read_text())
    (found[1] / "result.json").write_text(json.dumps(result | {"seed": 1}))
    return found


def shown(folders: list[Path]) -> None:
    """Make the pages of runs, without their pictures."""
    run_page(folders[0])
    comparison, runs = gather(folders)
    comparison_page(comparison, runs)


def places(value: Any, within: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to each entry of a value."""
    if len(within) < DEEPEST:
        entries = value.items() if isinstance(value, dict) else []
        for key, inner in entries:
            yield (*within, key)
            yield from places(inner, (*within, key))


def without(value: dict[str, Any], place: tuple[Any, ...]) -> dict[str, Any]:
    found = inner = copy.deepcopy(value)
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    return found


def refusals(value: dict[str, Any], write: Any, show: Any) -> dict[tuple[Any, ...], str]:
    """Return what is said where an entry is missing, by its place; other errors than ours are raised."""
    said = {}
    for place in places(value):
        write(without(value, place))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", EquipoiseWarning)
                show()
        except EquipoiseError as error:
            said[place] = str(error)
        except Exception as error:
            raise AssertionError(f"without {place}: {type(error).__name__}: {error}") from error
    write(value)
    return said


@pytest.mark.parametrize(
    "place",
    [("environment", "device"), ("environment",), ("model",), ("dataset",), ("init_fingerprint",)],
    ids="/".join,
)
def test_what_is_missing_is_named(place: tuple[str, ...], folders: list[Path]) -> None:
    file = folders[0] / "result.json"
    file.write_text(json.dumps(without(json.loads(file.read_text()), place)))
    with pytest.raises(RunFolderError) as told:
        shown(folders)
    within = f" in {place[0]!r}" if len(place) > 1 else ""
    assert str(told.value).startswith(f"{file} has no {place[-1]!r}{within}. Restore it from a copy, or")


@pytest.mark.matrix
def test_a_result_without_an_entry(folders: list[Path]) -> None:
    file = folders[0] / "result.json"
    result = json.loads(file.read_text())
    shown(folders)
    said = refusals(result, lambda value: file.write_text(json.dumps(value)), lambda: shown(folders))
    assert len(said) > 8
    for place, text in said.items():
        assert str(file) in text
        assert repr(place[-1]) in text


@pytest.mark.matrix
@pytest.mark.parametrize("name", ["metrics.jsonl", "diagnosis.jsonl"])
def test_an_event_without_an_entry(name: str, folders: list[Path]) -> None:
    file = folders[0] / name
    lines = file.read_text().splitlines()
    first = {json.loads(line)["event"]: number for number, line in reversed(list(enumerate(lines)))}
    for number in first.values():

        def write(value: dict[str, Any], number: int = number) -> None:
            file.write_text("\n".join([*lines[:number], json.dumps(value), *lines[number + 1 :], ""]))

        refusals(json.loads(lines[number]), write, lambda: shown(folders))


def test_a_summary_without_an_entry(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(EARLIER / "comparison", tmp_path / "comparison"))
    file = folder / "summary.json"
    summary = json.loads(file.read_text())

    def show() -> None:
        comparison_page(read_comparison(folder), [])

    refusals(summary, lambda value: file.write_text(json.dumps(value)), show)


def test_an_entry_is_asked_for_in_a_copy(folders: list[Path]) -> None:
    (run,) = gather(folders[:1])[1]
    for held in (run.result | {"x": 1}, {"x": 1} | run.result, copy.deepcopy(run.result)):
        with pytest.raises(RunFolderError, match=r"result.json has no 'missing'"):
            held["missing"]
