"""What a named dataset has to say about itself."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import ClassVar

from equipoise.data.format.prepared import PreparedDataset


class Dataset(ABC):
    """A dataset known by name; derive from it in a module of this package, or name yours in an entry point.

    Attributes:
        name: by which it is found.
        description: one line.
        modalities: names, in order.
        licence: terms of use.
        source: where the data come from.
        citation: what to cite.
        extra: the extra of Equipoise that brings what it needs, or None.
    """

    name: ClassVar[str]
    description: ClassVar[str] = ""
    modalities: ClassVar[tuple[str, ...]] = ()
    licence: ClassVar[str] = ""
    source: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    extra: ClassVar[str | None] = None

    @abstractmethod
    def available(self) -> bool:
        """Tell whether `build` finds what it needs on this machine, without reading data."""

    def how_to_get(self) -> str:
        """Say in one line how to make the dataset available."""
        return f"pip install 'equipoise[{self.extra}]'" if self.extra else f"see {self.source}"

    @abstractmethod
    def source_version(self) -> str:
        """Return what changes whenever the source data change, for instance their hash; it keys the cache.

        Raises:
            EquipoiseError: the source is not there.
        """

    @abstractmethod
    def build(self, folder: str | os.PathLike[str]) -> PreparedDataset:
        """Write the dataset in the prepared format into `folder`, which does not exist yet.

        Raises:
            EquipoiseError: the source is not there, or is not what it should be.
        """
