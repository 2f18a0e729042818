"""The bases of named datasets: of all, and of those that `equipoise prepare` makes from downloaded files."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

from equipoise.cache import place_of
from equipoise.data.format.prepared import PreparedDataset, open_dataset
from equipoise.data.prepare.clips import ArrayPreparation, Clip, ModalityReader, Preparation
from equipoise.data.prepare.readers.recorded import as_recorded
from equipoise.typed_options import from_options
from equipoise.types import PathError, UsageError, how_to_add


class Dataset(ABC):
    """A dataset known by name: a subclass in a module of this package, or named in an entry point.

    Attributes:
        name: unique name.
        description: one line.
        modalities: names, in order.
        licence: terms of use.
        source: where the data come from.
        citation: publication to cite.
        bibtex: keys of it in `report/bibliography.bib`, or whole BibTeX entries.
        extra: the extra of Equipoise with the required packages, or None.
        package: the installed package that holds the data; empty without one.
    """

    name: ClassVar[str]
    description: ClassVar[str] = ""
    modalities: ClassVar[tuple[str, ...]] = ()
    licence: ClassVar[str] = ""
    source: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    bibtex: ClassVar[tuple[str, ...]] = ()
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
        return how_to_add(self.extra) if self.extra else f"see {self.source}"

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


@dataclass(frozen=True, kw_only=True)
class SourceDataset(Dataset):
    """Base of the datasets that are prepared from a folder of files.

    A subclass is a frozen dataclass. Its fields are the options of `equipoise prepare NAME`; the section
    `Attributes` of its docstring explains them.

    Attributes:
        expected: the layout of the source folder, in one line.
        size: approximate download size, in words.
        extra: by default the extra that decodes media.

    Raises:
        UsageError: an option is not one of its choices.
    """

    expected: ClassVar[str] = ""
    size: ClassVar[str] = ""
    extra: ClassVar[str | None] = "media"

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is Literal and getattr(self, name) not in get_args(kind):
                choices = " or ".join(map(repr, get_args(kind)))
                raise UsageError(f"{name} is {getattr(self, name)!r}; expected {choices}.")

    @abstractmethod
    def plan(self, source: Path) -> Preparation | ArrayPreparation:
        """List the samples to prepare, without decoding media.

        Args:
            source: the folder (or file) that the user has downloaded.

        Raises:
            PathError, DataError: the source has another layout, or does not match a list.
            UsageError: options contradict each other.
            MissingExtraError: a package that reads the source is not installed.
        """

    def planned(self, source: Path) -> Preparation | ArrayPreparation:
        """Return `plan(source)`, with name and options of the dataset for the record."""
        return replace(self.plan(source), made_by={"name": self.name, "options": self.options()})

    def new_samples(
        self, source: Path, recorded: Mapping[str, Mapping[str, Any]]
    ) -> Preparation | ArrayPreparation:
        """List samples that are to be predicted, in a source of the layout that `plan` expects.

        They need no label where the layout can do without; those without have the label `UNLABELLED`.

        Args:
            source: folder or file.
            recorded: modality to the description of its reader in the record of the preparation of the
                training data. All these modalities are read, and no other.

        Raises:
            EquipoiseError: see `plan`, or a reader cannot be made from its description.
        """
        plan = self.plan(source)
        if isinstance(plan, ArrayPreparation):
            return plan
        return replace(plan, readers=as_recorded(recorded, plan.readers))

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Return the dataset with options as `options()` returned them, read from a file.

        Raises:
            UnknownNameError, UsageError: there is no such option, or it has another type.
        """
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
        return from_options(cls, given, f"of {cls.name!r}")

    def preparation(
        self,
        clips: Sequence[Clip],
        readers: Mapping[str, ModalityReader],
        classes: tuple[str, ...],
        facts: Mapping[str, Any],
        notes: Iterable[str],
    ) -> Preparation:
        """Return the preparation of these clips, with name, licence and origin of the dataset."""
        return Preparation(self.name, clips, readers, classes, self.licence, self.origin, facts, tuple(notes))

    def options(self) -> dict[str, Any]:
        """Return the options as plain values."""
        return asdict(self)

    def available(self) -> bool:
        """Return whether the dataset was prepared on this machine."""
        return self.place() is not None

    def how_to_get(self) -> str:
        """Return the command that prepares the dataset."""
        return f"equipoise prepare {self.name} --source DIR, DIR with {self.expected}; see {self.source}"

    def source_version(self) -> str:
        """Return the fingerprint of the prepared dataset."""
        return self.prepared().fingerprint

    def build(self, folder: str | os.PathLike[str]) -> PreparedDataset:
        """Return the prepared dataset from where it is; `folder` is not used."""
        return self.prepared()

    def place(self) -> Path | None:
        """Return the folder in which the dataset was last prepared on this machine, or None."""
        return place_of(self.name)

    def prepared(self) -> PreparedDataset:
        """Open the dataset where it was prepared.

        Raises:
            PathError: it was not prepared, or no longer exists.
        """
        place = self.place()
        if place is None:
            raise PathError(
                f"the dataset {self.name!r} is not prepared on this machine; call: {self.how_to_get()}."
            )
        return open_dataset(place)
