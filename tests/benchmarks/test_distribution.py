"""What `make dist` accepts as a wheel and a source archive, and what it refuses."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
INFO = "equipoise-0.1.0.dist-info"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("distribution", ROOT / "benchmarks" / "distribution.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def tracked() -> list[str]:
    """The files of a repository: this one's package, and one file of each other kind."""
    package = [
        path for path in (ROOT / "src").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    return [path.relative_to(ROOT).as_posix() for path in package] + [
        "README.md",
        "tests/test_a.py",
        ".ci/run",
    ]


@pytest.fixture
def wheel(program: ModuleType, tracked: list[str]) -> list[str]:
    package = [name.removeprefix("src/") for name in tracked if name.startswith("src/equipoise/")]
    return [*package, *(f"{INFO}/{name}" for name in program.METADATA)]


def test_a_right_wheel_has_no_faults(program: ModuleType, wheel: list[str], tracked: list[str]) -> None:
    assert program.wheel_faults(wheel, tracked) == []


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("tests/test_a.py", "tests/test_a.py does not belong there"),
        ("docs/index.md", "docs/index.md does not belong there"),
        ("equipoise/notes.txt", "equipoise/notes.txt does not belong there"),
        (f"{INFO}/top_level.txt", "the metadata differ by top_level.txt"),
    ],
)
def test_more_in_a_wheel_is_a_fault(
    name: str, fault: str, program: ModuleType, wheel: list[str], tracked: list[str]
) -> None:
    assert program.wheel_faults([*wheel, name], tracked) == [fault]


@pytest.mark.parametrize(
    "name", ["py.typed", "__init__.pyi", "report/bibliography.bib", "training/recipes/paper.yaml"]
)
def test_less_in_a_wheel_is_a_fault(
    name: str, program: ModuleType, wheel: list[str], tracked: list[str]
) -> None:
    left = [one for one in wheel if one != f"equipoise/{name}"]
    assert program.wheel_faults(left, tracked) == [f"equipoise/{name} is missing"]


def test_a_licence_that_is_missing_is_a_fault(
    program: ModuleType, wheel: list[str], tracked: list[str]
) -> None:
    left = [one for one in wheel if not one.endswith("LICENSE")]
    assert program.wheel_faults(left, tracked) == ["the metadata differ by licenses/LICENSE"]


def test_a_file_that_nobody_expects_in_the_package_is_a_fault(
    program: ModuleType, wheel: list[str], tracked: list[str]
) -> None:
    faults = program.wheel_faults([*wheel, "equipoise/data.npz"], [*tracked, "src/equipoise/data.npz"])
    assert faults == ["equipoise/data.npz is of no known kind"]


def test_a_source_archive_holds_what_the_repository_does(program: ModuleType, tracked: list[str]) -> None:
    right = [*(name for name in tracked if name != ".ci/run"), "PKG-INFO"]
    assert program.archive_faults(right, tracked) == []
    assert program.archive_faults([*right, "runs/a/result.json"], tracked) == [
        "runs/a/result.json does not belong there"
    ]
    assert program.archive_faults([name for name in right if name != "tests/test_a.py"], tracked) == [
        "tests/test_a.py is missing"
    ]


def test_the_quick_tests_exist(program: ModuleType) -> None:
    assert [name for name in program.QUICK if not (ROOT / "tests" / name).exists()] == []


def test_a_python_is_found_by_its_version(program: ModuleType) -> None:
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert program.interpreter(own) is not None
    assert program.interpreter("3.99") is None
    assert program.try_out("3.99", Path("no.whl"), Path("no.tar.gz")) == "Python 3.99: not on this machine"
