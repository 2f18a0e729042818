"""What is said of a package that cannot be imported is its true cause."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import equipoise
from equipoise.files.extras import needing
from equipoise.types import BrokenPackageError, MachineLimitError, MissingExtraError

SRC = Path(equipoise.__file__).parent


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        (None, MissingExtraError, r"sound needs the package 'py-sonorous': pip install 'equipoise\[media\]'"),
        ("import no_such_part", BrokenPackageError, r"cannot be imported \(No module named 'no_such_part'\)"),
        ("from os import no_such_name", BrokenPackageError, "force-reinstall py-sonorous"),
        ("raise OSError('sndfile library not found')", BrokenPackageError, "sndfile library not found"),
        ("1 +", BrokenPackageError, "invalid syntax"),
        ("raise OSError(24, 'Too many open files', 'a.py')", MachineLimitError, "cannot open a.py: too many"),
        ("raise ImportError('a.so: Cannot allocate memory')", MachineLimitError, "not enough memory"),
    ],
)
def test_missing_broken_and_beyond_the_machine(
    content: str | None, kind: type[Exception], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "sonorous.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sonorous", raising=False)
    with pytest.raises(kind, match=said), needing("py-sonorous", "media", "sound", module="sonorous"):
        import sonorous  # noqa: F401


def test_a_package_without_one_of_its_own_parts_is_broken() -> None:
    with pytest.raises(BrokenPackageError), needing("email", "media", "mail"):
        import email.no_such_part  # noqa: F401


def test_no_other_place_guesses_why_an_import_fails() -> None:
    """`except ImportError` would call a package missing that is damaged, or cannot be opened."""
    allowed = {
        "files/extras.py",
        "files/limits.py",  # Windows has no `resource`
        "files/parquet_trial.py",
        "models/custom.py",  # a module of the user, whose name is compared
    }
    guessing = {
        str(path.relative_to(SRC))
        for path in SRC.rglob("*.py")
        if re.search(r"except.*(ImportError|ModuleNotFoundError)", path.read_text())
    }
    assert guessing  # the sources are where they are looked for
    assert guessing <= allowed
