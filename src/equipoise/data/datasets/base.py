"""The base of all named datasets."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import ClassVar

from equipoise.data.format.prepared import PreparedDataset


class Dataset(ABC):
    """A dataset known by name: a subclass in a module of this package, or named in an entry point.

    Attributes:
        name: unique name.
        description: one line.
        modalities: names, in order.
        licence: terms of use.
        source: where the data come from.
        citation: publication to cite.
        extra: the extra of Equipoise with the required packages, or None.
        package: the installed package that holds the data; empty without one.
    """

    name: ClassVar[str]
    description: ClassVar[str] = ""
    modalities: ClassVar[tuple[str, ...]] = ()
    licence: ClassVar[str] = ""
    source: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    extra: ClassVar[str | None] = None
    package: ClassVar[str] = ""

    @property
    def origin(self) -> str:
        """Source and citation, as stored in the prepared dataset."""
        return f"{self.source}; {self.citation}"

    @abstractmethod
    def available(self) -> bool:
        """Return whether `build` finds its source on this machine, without reading data."""

    def how_to_get(self) -> str:
        """Return one line on how to make the dataset available."""
        return f"pip install 'equipoise[{self.extra}]'" if self.extra else f"see {self.source}"

    @abstractmethod
    def source_version(self) -> str:
        """Return a key of the source data, for instance their hash; it is part of the key of the cache.

        Raises:
            EquipoiseError: the source is missing.
        """

    @abstractmethod
    def build(self, folder: str | os.PathLike[str]) -> PreparedDataset:
        """Write the dataset in the prepared format into `folder`, which does not exist yet.

        Raises:
            EquipoiseError: the source is missing or invalid.
        """
