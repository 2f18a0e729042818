"""The list of the dependencies names every package, each under a licence that Equipoise may use."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_INSTALLED = {"ray", "bench", "wandb", "mlflow"}
"""Extras that the tests run without."""


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dependencies", ROOT / "benchmarks" / "dependencies.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def direct(text: str) -> list[str]:
    """Return the rows about packages that pyproject.toml names: three cells."""
    return re.findall(r"^\| (?!package)[^|]+ \| [^|]+ \| [^|]+ \|$", text, flags=re.M)


def test_the_page_is_up_to_date_and_every_licence_is_compatible(program: ModuleType) -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    # Which packages those need in turn depends on the version of Python and the platform.
    assert direct(page) == direct(program.page()), "run make dependencies"


def test_every_package_of_every_extra_is_on_the_page() -> None:
    extras = PROJECT["optional-dependencies"]
    expected = PROJECT["dependencies"] + [
        line for extra, lines in extras.items() if extra not in NOT_INSTALLED for line in lines
    ]
    rows = direct((ROOT / "docs" / "dependencies.md").read_text())
    assert sorted(row.split(" | ")[0].removeprefix("| ") for row in rows) == sorted(
        canonicalize_name(Requirement(line).name) for line in expected
    )


def test_the_packages_that_others_need_are_found(program: ModuleType) -> None:
    # cyclopts needs rich, and rich needs pygments.
    assert {"cyclopts", "rich", "pygments"} <= program.brought(["cyclopts"])
    assert "pytest" not in program.brought(["cyclopts"])


def test_an_unknown_licence_is_an_error(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    without = {text: name for text, name in program.COMPATIBLE.items() if name != "MIT"}
    monkeypatch.setattr(program, "COMPATIBLE", without)
    with pytest.raises(SystemExit, match=r"not known to be compatible.*'rich': 'MIT"):
        program.licences({"rich", "numpy"})


def test_every_package_is_pinned(program: ModuleType) -> None:
    pins = {
        canonicalize_name(line.split("==")[0])
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    names = [name for extra in (*program.USERS, *program.DEVELOPERS) for name in program.named(extra)]
    # setuptools comes with some versions of Python and torch, and is not chosen by Equipoise.
    assert program.brought(names) - pins <= {"setuptools"}
