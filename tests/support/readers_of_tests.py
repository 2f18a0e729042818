"""Readers for tests of the preparation; in a separate module, because worker processes import them."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.data.format.modality import Layout
from equipoise.data.prepare.clips import Clip, ModalityReader, Preparation
from equipoise.data.prepare.media.files import MediaError, check_media
from equipoise.types import MissingExtraError


@dataclass(frozen=True)
class NumberReader(ModalityReader):
    """Fills an array with the number in a text file; some words cause an error or another effect.

    Attributes:
        width: width of the array.
        seconds: duration of reading.
        log: file that gets a line for each reading.
    """

    width: int = 4
    seconds: float = 0.0
    log: str = ""

    @property
    def layout(self) -> Layout:
        return Layout((self.width,), "float32", "vector")

    def read(self, clip: Clip) -> NDArray[Any]:
        file = clip.files["x"]
        check_media(file)
        if self.log:
            with Path(self.log).open("a") as log:
                log.write(f"{clip.id}\n")
        time.sleep(self.seconds)
        word = file.read_text()
        if word == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if word == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "memory":
            raise MemoryError("Unable to allocate 3.91 GiB for an array")
        if word == "bug":
            raise ZeroDivisionError("three apples for nobody")
        if word == "extra":
            raise MissingExtraError("nobody", "media", "reading nothing")
        if word == "nan":
            return np.full(self.width, np.nan, np.float32)
        try:
            return np.arange(self.width, dtype=np.float32) + float(word)
        except ValueError:
            raise MediaError(file, "unreadable", "holds no number", "write one") from None


def numbers(folder: Path, count: int, *, words: dict[int, str] | None = None, **options: Any) -> Preparation:
    """Write `count` files and plan to prepare them: three classes, every fourth sample for the test."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in range(count):
        (folder / f"{row}.txt").write_text((words or {}).get(row, str(row)))
    return plan_of_numbers(folder, count, **options)


def plan_of_numbers(folder: Path, count: int, **options: Any) -> Preparation:
    """Plan to prepare the files written by `numbers`."""
    clips = [
        Clip(f"n{row}", "abc"[row % 3], {"x": folder / f"{row}.txt"}, "test" if row % 4 == 3 else "train")
        for row in range(count)
    ]
    return Preparation("numbers", clips, {"x": NumberReader(**options)}, ("a", "b", "c"), notes=("a note",))
