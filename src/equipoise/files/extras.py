"""Packages of optional extras: what to say of one that is missing, and of one that cannot be imported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from equipoise.files.limits import check_machine
from equipoise.files.untrusted import first_line
from equipoise.types import BrokenPackageError, EquipoiseError, MissingExtraError


@contextmanager
def needing(package: str, extra: str, need: str, module: str | None = None) -> Iterator[None]:
    """Say what is wrong where a block cannot import a package.

    Args:
        package: its name for pip.
        extra: the extra that installs it.
        need: what it is needed for.
        module: the name by which it is imported, if that is another one.

    Raises:
        MissingExtraError: it is not installed.
        BrokenPackageError: it is installed, and something of it is missing or damaged.
        MachineLimitError: the process cannot open its files, or has no memory for it.
    """
    try:
        yield
    except EquipoiseError:
        raise
    except Exception as error:  # a damaged package can raise any error
        if isinstance(error, ModuleNotFoundError) and error.name == (module or package):
            raise MissingExtraError(package, extra, need) from error
        check_machine(error)
        raise BrokenPackageError(package, need, first_line(error)) from error
