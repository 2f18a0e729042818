"""Kinetics-Sounds: actions that are seen and heard."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from equipoise.data.datasets.web_clips import ListedClips, Media, WebClips
from equipoise.data.format.folder import listed
from equipoise.data.prepare.clips import Clip
from equipoise.data.prepare.finding import FileNames, check_source
from equipoise.data.prepare.lists import NameList, check_classes, check_once, read_list
from equipoise.types import DataError, UsageError

_COLUMNS: Final = ("id", "seconds", "label")
_YOUTUBE: Final = re.compile(r"[\w-]{11}(?=_|$)")
_START: Final = re.compile(r"([\w-]{11})_(\d{1,5})")


@dataclass(frozen=True, kw_only=True)
class KineticsSounds(WebClips):
    """Kinetics-Sounds: clips of 10 s from YouTube, 31 to 34 actions; the lists differ between papers.

    Attributes:
        train_list: file with lines `id,seconds,label`; label is the number or the name of a class.
        test_list: the same for the test split.
        val_list: the same for validation; without it, a part of train is used.
        class_names: file with one class name per line, in order of the class numbers; by default the numbers
            are the names.
        layout: `clips` for videos with sound, `frames` for sound files and folders of images, `auto` for the
            layout with more of the listed clips.
    """

    name = "kinetics-sounds"
    description = "Kinetics-Sounds: actions seen and heard, clips of 10 s"
    licence = "annotations of Kinetics CC BY 4.0; videos under the terms of YouTube"
    source = "https://github.com/cvdfoundation/kinetics-dataset"
    citation = (
        "Arandjelovic and Zisserman, Look, Listen and Learn, ICCV 2017; Kay et al., The Kinetics Human "
        "Action Video Dataset, 2017"
    )
    bibtex = ("arandjelovic2017look", "kay2017kinetics")
    expected = "ID.mp4 at any depth, or ID.wav and a folder ID of pictures; lists by option"
    size = "tens of GB, as parts of Kinetics-400"

    train_list: str = ""
    test_list: str = ""
    val_list: str = ""
    class_names: str = ""
    layout: Media = "auto"

    def listed_clips(self, source: Path) -> ListedClips:
        """Read the lists named by the options; see `WebClips.listed_clips`."""
        check_source(source, [], self.expected)
        lists = self._lists()
        clips = [
            Clip(name, label, {}, one.split, youtube_id(name), seconds=_seconds(one, name, seconds))
            for one in lists
            for name, seconds, label in one.rows
        ]
        classes, labels = _classes(lists, self.class_names)
        return ListedClips(
            lists=lists,
            clips=[replace(clip, label=label) for clip, label in zip(clips, labels, strict=True)],
            names=[FileNames(_file_names(clip.id, clip.seconds), clip.split) for clip in clips],
            classes=classes,
            folder=source,
            layout=self.layout,
            remedy="remove them from the train list",
        )

    def _lists(self) -> list[NameList]:
        if not (self.train_list and self.test_list):
            raise UsageError(
                "Kinetics-Sounds has no official lists; give --train-list and --test-list with "
                "lines 'id,seconds,label'."
            )
        given = {"train": self.train_list, "val": self.val_list, "test": self.test_list}
        lists = [
            read_list(Path(path).expanduser(), _COLUMNS, header=_COLUMNS, split=split)
            for split, path in given.items()
            if path
        ]
        check_once(lists)
        return lists


def youtube_id(name: str) -> str:
    """Return the YouTube id of a clip: its first 11 characters if they are one, else the whole name."""
    found = _YOUTUBE.match(name)
    return found.group() if found else name


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


def _file_names(name: str, seconds: float | None) -> tuple[str, ...]:
    """Return the possible file names of a clip: as listed, or with begin and end as in Kinetics."""
    start = _START.fullmatch(name)
    if start is None or seconds is None:
        return (name,)
    begin = int(start[2])
    return name, f"{start[1]}_{begin:06d}_{begin + round(seconds):06d}"


def _classes(lists: Sequence[NameList], file: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the class names, and the class of each row of the lists."""
    labels = [label for one in lists for _, _, label in one.rows]
    numbers = all(label.isdecimal() for label in labels)
    if not file:
        return tuple(sorted(set(labels), key=int if numbers else str)), labels
    where = " and ".join(str(one.path) for one in lists)
    given = read_list(Path(file).expanduser(), ("name",), separator="\t")
    check_once([given])
    names = tuple(given.names)
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
    return names, labels
