"""A dataset that somebody has downloaded and `equipoise prepare` turns into the prepared format."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from equipoise.data.datasets.base import Dataset
from equipoise.data.format.prepared import PreparedDataset, open_dataset
from equipoise.data.prepare.clips import ArrayPreparation, Preparation
from equipoise.data.prepare.places import place_of
from equipoise.typed_options import check_types
from equipoise.types import DataError, UnknownNameError


@dataclass(frozen=True, kw_only=True)
class SourceDataset(Dataset):
    """Base of the datasets that are prepared from a folder of files.

    A subclass is a frozen dataclass: its fields are the options of `equipoise prepare NAME`, with defaults
    and a docstring whose section `Attributes` says what each is.

    Attributes:
        expected: the layout of the source folder, in one line.
        size: about how much there is to download, in words.
        extra: by default the extra that decodes media.
    """

    expected: ClassVar[str] = ""
    size: ClassVar[str] = ""
    extra: ClassVar[str | None] = "media"

    @abstractmethod
    def plan(self, source: Path) -> Preparation | ArrayPreparation:
        """Find out what there is to prepare, without decoding media.

        Args:
            source: the folder (or file) that the user has downloaded.

        Raises:
            DataError: it does not have the expected layout, or a list does not fit it.
            UsageError: options that do not go together.
            MissingExtraError: a package that is needed to read the source is not installed.
        """

    @classmethod
    def with_options(cls, options: Mapping[str, Any]) -> Self:
        """Build the dataset with some of its options.

        Raises:
            UnknownNameError: an option does not exist.
            UsageError: a value has the wrong type or is impossible.
        """
        known = [option.name for option in fields(cls)]
        for name in options:
            if name not in known:
                raise UnknownNameError(f"option of {cls.name!r}", name, known)
        check_types(cls, options, f"of {cls.name!r}")
        return cls(**options)

    def options(self) -> dict[str, Any]:
        """Return the options as plain values."""
        return asdict(self)

    def available(self) -> bool:
        """Tell whether the dataset was prepared on this machine."""
        return self.place() is not None

    def how_to_get(self) -> str:
        """Say how to make the dataset available."""
        return f"equipoise prepare {self.name} --source DIR, DIR with {self.expected}; see {self.source}"

    def source_version(self) -> str:
        """Return the fingerprint of the prepared dataset."""
        return self.prepared().fingerprint

    def build(self, folder: str | os.PathLike[str]) -> PreparedDataset:
        """Return the dataset where it was prepared; `folder` is left alone."""
        return self.prepared()

    def place(self) -> Path | None:
        """Return the folder in which the dataset was prepared last on this machine, or None."""
        return place_of(self.name)

    def prepared(self) -> PreparedDataset:
        """Open the dataset where it was prepared.

        Raises:
            DataError: it was not, or is no longer there.
        """
        place = self.place()
        if place is None:
            raise DataError(
                f"the dataset {self.name!r} is not prepared on this machine; call: {self.how_to_get()}."
            )
        return open_dataset(place)
