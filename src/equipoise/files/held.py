"""What a file of a record holds: an entry that is missing is an error that names the file and the entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import yaml
from yaml.representer import SafeRepresenter

from equipoise.types import RunFolderError


class Held(dict[str, Any]):
    """A mapping that was read from a file, as are those in it.

    Args:
        values: what was read.
        place: the file, or a line of it.
        remedy: what to do where an entry is missing.
        within: name of the entry that this mapping is, if it is one.

    Raises:
        RunFolderError: an entry is asked for by its name, and missing. Records of some versions have fewer,
            and a record without seals may have been edited.
    """

    def __init__(self, values: Mapping[str, Any], place: str, remedy: str, within: str = "") -> None:
        super().__init__({key: _held(value, place, remedy, str(key)) for key, value in values.items()})
        self._place, self._remedy, self._within = place, remedy, within

    def __missing__(self, key: str) -> NoReturn:
        within = f" in {self._within!r}" if self._within else ""
        raise RunFolderError(f"{self._place} has no {key!r}{within}. {self._remedy}")

    def __or__(self, other: Mapping[str, Any]) -> Held:  # type: ignore[override]
        return Held({**self, **other}, self._place, self._remedy, self._within)

    def __ror__(self, other: Mapping[str, Any]) -> Held:  # type: ignore[override]
        return Held({**other, **self}, self._place, self._remedy, self._within)


# Written to YAML as the plain mapping that it is; JSON does so by itself.
yaml.SafeDumper.add_representer(Held, SafeRepresenter.represent_dict)


def _held(value: Any, place: str, remedy: str, name: str) -> Any:
    if isinstance(value, dict):
        return Held(value, place, remedy, name)
    if isinstance(value, list):
        return [_held(one, place, remedy, name) for one in value]
    return value
