"""Methods, datasets and encoders by name, from modules of the package and entry points of others."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from equipoise.types import ByName, EquipoiseError

T = TypeVar("T")


class Registry(ByName[type[T]], Generic[T]):
    """Classes of one kind by their attribute `name`, imported on first access.

    Args:
        kind: name of the kind in messages, for instance `"method"`.
        base: base class of the entries.
        package: dotted name of the package whose modules define the built-in entries.
        group: entry-point group through which other packages add entries.
    """

    def __init__(self, kind: str, base: type[T], package: str, group: str) -> None:
        self.kind, self.group, self._base, self._package = kind, group, base, package
        self._loaded: dict[str, type[T]] | None = None

    def _entries(self) -> dict[str, type[T]]:
        if self._loaded is None:
            found: dict[str, type[T]] = {}
            package = importlib.import_module(self._package)
            for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
                module = importlib.import_module(f"{self._package}.{info.name}")
                for value in vars(module).values():
                    if self._is_entry(value) and value.__module__ == module.__name__:
                        self._add(found, value)
            for point in entry_points(group=self.group):
                self._add(found, point.load())
            self._loaded = dict(sorted(found.items()))
        return self._loaded

    def _is_entry(self, value: object) -> bool:
        return isinstance(value, type) and issubclass(value, self._base) and bool(vars(value).get("name"))

    def _add(self, found: dict[str, type[T]], entry: type[T]) -> None:
        if not self._is_entry(entry):
            raise EquipoiseError(
                f"an entry point of the group {self.group!r} is {entry!r}; "
                f"expected a class derived from {self._base.__name__} with a 'name'."
            )
        name: str = entry.name  # type: ignore[attr-defined]
        if name in found:
            raise EquipoiseError(
                f"two {self.kind}s have the name {name!r}: {found[name]!r} and {entry!r}; rename one."
            )
        found[name] = entry
