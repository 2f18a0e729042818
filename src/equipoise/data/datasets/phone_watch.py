"""Phone and watch: activities of people who carry a smartphone and wear a smartwatch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from equipoise.data.datasets.from_source import SourceDataset
from equipoise.data.prepare.clips import ArrayPreparation
from equipoise.data.prepare.finding import find_file
from equipoise.data.prepare.media.archives import read_archive
from equipoise.types import UsageError

ARCHIVE: Final = "sp_sw_har_1s_windows.npz"
SENSORS: Final = ("phone_acc", "phone_gyro", "watch_acc", "watch_gyro")
STEPS: Final = 50


@dataclass(frozen=True, kw_only=True)
class PhoneWatch(SourceDataset):
    """Activities of 23 people: accelerometer and gyroscope of a phone and of a watch, in windows of a second.

    Attributes:
        every: takes every n-th window. A window begins 12 steps (0.24 s) after the one before: 1 takes all of
            them, and from 5 on they do not overlap.
    """

    name = "phone-watch"
    description = "activities: accelerometer and gyroscope of phone and watch, 23 people, 5 classes"
    modalities = SENSORS
    licence = "CC BY 4.0"
    source = "https://doi.org/10.5281/zenodo.8398688"
    citation = (
        "Matey-Sanz, Casteleyn, Granell, Dataset of inertial measurements of smartphones and smartwatches "
        "for human activity recognition, Data in Brief 51, 109809, 2023"
    )
    bibtex = ("mateysanz2023dataset",)
    expected = f"{ARCHIVE}, an archive of windows"
    size = "21 MB"
    extra = None

    every: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.every < 1:
            raise UsageError(f"every is {self.every}; expected at least 1.")

    def plan(self, source: Path) -> ArrayPreparation:
        """Read the windows; see `SourceDataset.plan`."""
        path = find_file(source, ARCHIVE, self.expected)
        axes = {"y": ("N",), "g": ("N",)} | dict.fromkeys(SENSORS, ("N", STEPS, 3))
        arrays = read_archive(path, axes, "the archive of windows")
        rows = np.arange(0, len(arrays["y"]), self.every)
        people = arrays["g"][rows].tolist()
        return ArrayPreparation(
            name=self.name,
            arguments={
                "inputs": {name: arrays[name][rows] for name in SENSORS},
                "target": [activity.lower().replace("_", " ") for activity in arrays["y"][rows].tolist()],
                "group": people,
                "ids": [f"{person}-{row:05d}" for person, row in zip(people, rows.tolist(), strict=True)],
                "licence": self.licence,
                "source": self.origin,
            },
            facts={"file": path.name, "windows": len(arrays["y"]), "every": self.every},
        )
