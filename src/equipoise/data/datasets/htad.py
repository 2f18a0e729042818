"""HTAD: seven home tasks, recorded by a microphone and a wrist accelerometer."""

from __future__ import annotations

import importlib.util
import os
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pandas as pd

from equipoise.data.datasets.from_source import Dataset
from equipoise.data.format.prepared import PreparedDataset
from equipoise.data.format.writing import write_dataset
from equipoise.types import DataError, MissingExtraError

COLUMNS = {"audio": ("v1_", 36), "accelerometer": ("v2_", 16)}
"""Modality to prefix and number of its columns."""


class HTAD(Dataset):
    """Home-Tasks Activities Dataset: 1386 samples, 7 activities, no subject ids.

    `audio` holds 36 mel-frequency cepstral coefficients, `accelerometer` 16 statistics of a wrist
    accelerometer.
    """

    name = "htad"
    description = "home tasks: 36 audio MFCCs and 16 wrist-accelerometer features, 7 activities"
    modalities = tuple(COLUMNS)
    licence = "MIT (as distributed in the package multiviewstacking)"
    source = "https://pypi.org/project/multiviewstacking"
    citation = (
        "Garcia-Ceja et al., HTAD: A Home-Tasks Activities Dataset with Wrist-Accelerometer and Audio "
        "Features, MultiMedia Modeling (MMM) 2021"
    )
    bibtex = ("garciaceja2021htad",)
    extra = "demo"
    package = "multiviewstacking"

    def available(self) -> bool:
        """Return whether the package with the table is installed."""
        return _find_table() is not None

    def source_version(self) -> str:
        """Return a hash of the table."""
        return blake2b(_table().read_bytes(), digest_size=8).hexdigest()

    def build(self, folder: str | os.PathLike[str]) -> PreparedDataset:
        """Write HTAD in the prepared format; classes are sorted by name."""
        table = pd.read_csv(_table())
        inputs = {}
        for modality, (prefix, count) in COLUMNS.items():
            columns = [name for name in table.columns if name.startswith(prefix)]
            if len(columns) != count or "class" not in table.columns:
                raise DataError(
                    f"{_table()} has {len(columns)} columns {prefix}*, expected {count} and a column "
                    f"'class'; install a known version: {self.how_to_get()}."
                )
            inputs[modality] = table[columns].to_numpy(np.float32)
        classes, target = np.unique(table["class"].to_numpy(str), return_inverse=True)
        return write_dataset(
            folder,
            inputs,
            target,
            classes=classes.tolist(),
            name=self.name,
            licence=self.licence,
            source=self.origin,
        )


def _find_table() -> Path | None:
    """Find the table in the package without importing it, because the import takes seconds."""
    spec = importlib.util.find_spec(HTAD.package)
    for location in spec.submodule_search_locations or () if spec else ():
        table = Path(location) / "data" / "htad.csv"
        if table.is_file():
            return table
    return None


def _table() -> Path:
    table = _find_table()
    if table is None:
        raise MissingExtraError(HTAD.package, "demo", "the dataset 'htad'")
    return table
