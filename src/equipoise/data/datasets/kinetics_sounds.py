"""Kinetics-Sounds: actions that are seen and heard."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NamedTuple

from equipoise.data.datasets.from_source import SourceDataset
from equipoise.data.format.layout import SPLIT_NAMES, listed
from equipoise.data.prepare.clips import Clip, Preparation
from equipoise.data.prepare.finding import check_source, find_media, locate
from equipoise.data.prepare.lists import (
    NameList,
    check_classes,
    check_once,
    check_splits,
    read_list,
    shared_groups,
    sharing_notes,
)
from equipoise.data.prepare.recipes import Media, Recipe, check_choice, clip_readers
from equipoise.types import DataError, UsageError

_COLUMNS: Final = ("id", "seconds", "label")
_YOUTUBE: Final = re.compile(r"[\w-]{11}(?=_|$)")
_START: Final = re.compile(r"([\w-]{11})_(\d{1,5})")


class _Row(NamedTuple):
    """A line of a list."""

    source: NameList
    name: str
    seconds: float
    label: str


@dataclass(frozen=True, kw_only=True)
class KineticsSounds(SourceDataset):
    """Kinetics-Sounds: clips of 10 s from YouTube, 31 to 34 actions; every paper has a list of its own.

    Attributes:
        train_list: file with lines `id,seconds,label`; label is the number of a class, or its name.
        test_list: the same for the test.
        val_list: the same for validation; without it a part of train is taken when the data are used.
        class_names: file with the name of class 0, 1, ... on each line; by default the numbers are names.
        recipe: of the sound: `fbank` for 128 mel bins x 1024 steps of 10 ms, `stft` for 257 x 454.
        frames: pictures of a clip.
        pick: `even` takes them from the middles of equal parts, `second` one each second from the start.
        pixels: side of a picture.
        layout: `clips` for videos with sound, `frames` for sound files and folders of pictures, `auto` for
            whichever holds more of the listed clips.
    """

    name: ClassVar[str] = "kinetics-sounds"
    description: ClassVar[str] = "Kinetics-Sounds: actions seen and heard, clips of 10 s"
    modalities: ClassVar[tuple[str, ...]] = ("audio", "video")
    licence: ClassVar[str] = "annotations of Kinetics CC BY 4.0; videos under the terms of YouTube"
    source: ClassVar[str] = "https://github.com/cvdfoundation/kinetics-dataset"
    citation: ClassVar[str] = (
        "Arandjelovic and Zisserman, Look, Listen and Learn, ICCV 2017; Kay et al., The Kinetics Human "
        "Action Video Dataset, 2017"
    )
    expected: ClassVar[str] = "ID.mp4 at any depth, or ID.wav and a folder ID of pictures; lists by option"
    size: ClassVar[str] = "tens of GB, as parts of Kinetics-400"

    train_list: str = ""
    test_list: str = ""
    val_list: str = ""
    class_names: str = ""
    recipe: Recipe = "fbank"
    frames: int = 3
    pick: Literal["even", "second"] = "even"
    pixels: int = 224
    layout: Media = "auto"

    def plan(self, source: Path) -> Preparation:
        """List the clips; see `SourceDataset.plan`."""
        readers = clip_readers(self.recipe, self.frames, self.pixels, self.pick)
        check_choice("layout", self.layout, ("auto", "clips", "frames"))
        check_source(source, [], self.expected)
        lists = self._lists()
        rows = [
            _Row(one, name, _seconds(one, name, seconds), label)
            for one in lists
            for name, seconds, label in one.rows
        ]
        classes, labels = _classes(rows, self.class_names)
        layout, files = locate(
            find_media(source),
            [(_file_names(row.name, row.seconds), row.source.split) for row in rows],
            self.layout,
        )
        clips = [
            Clip(
                id=row.name,
                label=label,
                files=paths,
                split=row.source.split,
                group=youtube_id(row.name),
                seconds=row.seconds if layout == "clips" else None,
            )
            for row, label, paths in zip(rows, labels, files, strict=True)
        ]
        shared = shared_groups(videos_of(clips))
        return Preparation(
            name=self.name,
            clips=clips,
            readers=readers,
            classes=classes,
            licence=self.licence,
            source=f"{self.source}; {self.citation}",
            facts=self._facts(layout, lists, shared),
            notes=tuple(sharing_notes(shared, "videos of YouTube", "take them out of the train list")),
        )

    def _lists(self) -> list[NameList]:
        if not (self.train_list and self.test_list):
            raise UsageError(
                "Kinetics-Sounds comes without lists of its own; give --train-list and --test-list with "
                "lines 'id,seconds,label'."
            )
        given = {"train": self.train_list, "val": self.val_list, "test": self.test_list}
        lists = [
            read_list(Path(path).expanduser(), _COLUMNS, header=_COLUMNS, split=split)
            for split, path in given.items()
            if path
        ]
        check_once([(one, [name for name, _, _ in one.rows]) for one in lists])
        return lists

    def _facts(self, layout: str, lists: Sequence[NameList], shared: dict[str, list[str]]) -> dict[str, Any]:
        return {
            "recipe": self.recipe,
            "layout": layout,
            "lists": [one.describe() for one in lists],
            "shared_videos": {splits: len(both) for splits, both in shared.items()},
        }


def youtube_id(name: str) -> str:
    """Return the id of the video that a clip is from: its first 11 characters, else the whole name."""
    found = _YOUTUBE.match(name)
    return found.group() if found else name


def videos_of(clips: Sequence[Clip]) -> dict[str, list[str]]:
    """Return the videos of each split's clips."""
    return {
        split: [str(clip.group) for clip in clips if clip.split == split]
        for split in SPLIT_NAMES
        if any(clip.split == split for clip in clips)
    }


def _seconds(one: NameList, name: str, seconds: str) -> float:
    try:
        length = float(seconds)
    except ValueError:
        length = 0.0
    if not 0 < length < float("inf"):
        raise DataError(
            f"{one.path} gives {name!r} the length {seconds!r}; expected lines 'id,seconds,label' with "
            "seconds above 0."
        )
    return length


def _file_names(name: str, seconds: float) -> list[str]:
    """Return how the file of a clip may be named: as listed, or with begin and end as in Kinetics."""
    start = _START.fullmatch(name)
    if start is None:
        return [name]
    begin = int(start[2])
    return [name, f"{start[1]}_{begin:06d}_{begin + round(seconds):06d}"]


def _classes(rows: Sequence[_Row], file: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the names of the classes, and of the class of each row."""
    labels = [row.label for row in rows]
    numbers = all(label.isdecimal() for label in labels)
    lists = {str(row.source.split): str(row.source.path) for row in rows}
    where = " and ".join(lists.values())
    splits = [str(row.source.split) for row in rows]
    if not file:
        names = tuple(sorted(set(labels), key=int if numbers else str))
        check_splits(names, zip(splits, labels, strict=True), lists)
        return names, labels
    given = read_list(Path(file).expanduser(), ("name",), separator="\t")
    names = tuple(name for (name,) in given.rows)
    check_once([(given, names)])
    if numbers:
        beyond = sorted({label for label in labels if int(label) >= len(names)}, key=int)
        if beyond:
            raise DataError(
                f"{where} use the classes {listed(beyond)}, but {file} names {len(names)}, counted from 0; "
                "give the names that belong to these lists."
            )
        labels = [names[int(label)] for label in labels]
    elif set(labels) - set(names):
        lacking = sorted(set(labels) - set(names))
        raise DataError(f"{where} use the classes {listed(lacking)}, which {file} lacks; add them to it.")
    check_classes(names, labels, where)
    check_splits(names, zip(splits, labels, strict=True), lists)
    return names, labels
