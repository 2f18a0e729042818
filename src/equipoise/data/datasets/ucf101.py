"""UCF-101: human actions in clips of web videos, as RGB frames and optical flow."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from equipoise.data.datasets.from_source import SourceDataset
from equipoise.data.format.folder import check_folder, listed
from equipoise.data.prepare.clips import Clip, ModalityReader, Preparation
from equipoise.data.prepare.finding import FoundMedia, check_source, find_media
from equipoise.data.prepare.lists import NameList, check_once, chosen_classes, read_list, sharing
from equipoise.data.prepare.media.flow import FlowMethod
from equipoise.data.prepare.readers.audio_video import FramesReader
from equipoise.data.prepare.readers.flow import (
    DIRECTIONS,
    FlowFoldersReader,
    FlowImagesReader,
    FlowReader,
)
from equipoise.types import DataError, PathError, UsageError

LISTS: Final = "ucfTrainTestlist"
CLASS_LIST: Final = "classInd.txt"
_NAME: Final = re.compile(r"v_(\w+)_g(\d+)_c(\d+)")


@dataclass(frozen=True, kw_only=True)
class UCF101(SourceDataset):
    """UCF-101: 13,320 clips of 101 human actions, RGB frames and optical flow.

    Attributes:
        fold: one of the three official splits; validation is taken from its train part, by group.
        lists: folder of the official lists (`trainlist01.txt`, `testlist01.txt`, `classInd.txt`); by default
            `ucfTrainTestlist` in or next to the source.
        classes: names of the classes to use; by default all.
        frames: number of RGB frames of a clip.
        moments: number of moments of flow; motion needs more of them than pictures do.
        pixels: side of a frame.
        flow: `compute` it from the video, read stored `images`, or `none`.
        flow_method: `tvl1`, `dis`, `farneback`, or `auto` for TV-L1 if OpenCV's contrib modules are
            installed, else DIS.
        flow_root: folder of the stored images: `<video>/flow_x_0001.jpg`, or `u/<video>/` and
            `v/<video>/`.
        stack: number of consecutive flows of a moment, along the channels.
    """

    name = "ucf101"
    description = "UCF-101: human actions, RGB and optical flow, 13320 clips, 101 classes"
    modalities = ("rgb", "flow")
    licence = "none stated; videos from the web, for research"
    source = "https://www.crcv.ucf.edu/data/UCF101.php"
    citation = (
        "Soomro, Zamir, Shah, UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild, "
        "CRCV-TR-12-01, 2012"
    )
    bibtex = ("soomro2012ucf101",)
    expected = "UCF-101/<Class>/v_<Class>_g01_c01.avi and ucfTrainTestlist/trainlist01.txt"
    size = "6.5 GB, and 0.1 MB of lists"

    fold: Literal[1, 2, 3] = 1
    lists: str | None = None
    classes: tuple[str, ...] = ()
    frames: int = 3
    moments: int = 12
    pixels: int = 224
    flow: Literal["compute", "images", "none"] = "compute"
    flow_method: FlowMethod = "auto"
    flow_root: str | None = None
    stack: int = 1

    def plan(self, source: Path) -> Preparation:
        """List the clips; see `SourceDataset.plan`."""
        flow_root = self._checked_flow_root()
        folder = self._lists_folder(source)
        lists = [_read_list(folder / f"{split}list{self.fold:02d}.txt", split) for split in ("train", "test")]
        check_once(lists)
        listed_names = [name for one in lists for name in one.names]
        order = _class_order(folder, listed_names)
        wanted = [order.get(name.lower(), name) for name in self.classes]
        kept = chosen_classes(wanted, order.values(), "UCF-101")
        found = _found(source, flow_root)
        clips = [
            self._clip(name, str(one.split), order, found, flow_root)
            for one in lists
            for name in one.names
            if order[_parts(name)[0].lower()] in kept
        ]
        _check_some_there(clips, found, self.expected)
        unlisted = sorted((set(found.video) or set(found.frames)) - {name.lower() for name in listed_names})
        shared, notes = sharing(clips, "groups", "compare your lists with the official ones")
        facts = {
            "fold": self.fold,
            "flow": self.flow,
            "lists": [one.describe() for one in lists],
            "shared_groups": shared,
            "clips_in_no_list": len(unlisted),
        }
        if unlisted:
            notes.append(f"{len(unlisted)} clips are in no list and are not used ({listed(unlisted)}).")
        return self.preparation(clips, self._readers(flow_root), kept, facts, notes)

    def _checked_flow_root(self) -> Path | None:
        if (self.flow == "images") != (self.flow_root is not None):
            raise UsageError(
                f"flow is {self.flow!r} and flow_root is {self.flow_root!r}; stored flow needs both "
                "flow 'images' and the folder of the images."
            )
        if self.flow_root is None:
            return None
        root = Path(self.flow_root).expanduser()
        check_folder(root, "a folder of flow images")
        return root

    def _lists_folder(self, source: Path) -> Path:
        check_source(source, [], self.expected)
        if self.lists is not None:
            places = [Path(self.lists).expanduser()]
        else:
            places = [source / LISTS, source, source.absolute().parent / LISTS]
        wanted = f"trainlist{self.fold:02d}.txt"
        for place in places:
            if (place / wanted).exists():
                return place
        raise PathError(
            f"{wanted} is not in {' or '.join(map(str, places))}; download the official lists "
            f"(UCF101TrainTestSplits-RecognitionTask.zip from {self.source}) and name their folder with "
            "--lists."
        )

    def _clip(
        self, name: str, split: str, order: Mapping[str, str], found: FoundMedia, flow_root: Path | None
    ) -> Clip:
        label, group = _parts(name)
        known = order[label.lower()]
        video = found.pick("video", [name.lower()]) or found.pick("frames", [name.lower()])
        files = {"video": video or found.folder / known / f"{name}.avi"}
        if flow_root is not None:
            files |= _flow_folders(flow_root, name)
        return Clip(id=name, label=known, files=files, split=split, group=f"{known}_g{group}")

    def _readers(self, flow_root: Path | None) -> dict[str, ModalityReader]:
        readers: dict[str, ModalityReader] = {"rgb": FramesReader(count=self.frames, size=self.pixels)}
        count, stack, size = self.moments, self.stack, self.pixels
        if self.flow == "compute":
            readers["flow"] = FlowReader(count=count, stack=stack, size=size, method=self.flow_method)
        elif flow_root is not None:
            reader = FlowFoldersReader if _in_two_folders(flow_root) else FlowImagesReader
            readers["flow"] = reader(count=count, stack=stack, size=size)
        return readers


def _read_list(path: Path, split: str) -> NameList:
    """Read an official list: `Class/v_Class_g01_c01.avi`, in train lists followed by a class number."""
    given = read_list(path, ("video",), separator="\t", split=split)
    names = [Path(line.split()[0]).stem for line in given.names]
    for line, name in zip(given.names, names, strict=True):
        if not _NAME.fullmatch(name):
            raise DataError(
                f"{path} has the line {line[:80]!r}; expected a video such as "
                "'ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi'."
            )
    return replace(given, rows=tuple((name,) for name in names))


def _class_order(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return class names by their lower-case form, in the order of `classInd.txt` or of the alphabet.

    The dataset and its derivatives write HandstandPushups with different capitals.
    """
    used = {_parts(name)[0].lower(): _parts(name)[0] for name in sorted(names)}
    file = folder / CLASS_LIST
    if not file.exists():
        return dict(sorted(used.items()))
    rows = [line.split() for line in read_list(file, ("number name",), separator="\t").names]
    if any(len(row) != 2 for row in rows):
        raise DataError(f"{file} has lines that are not 'number name'; download the official lists again.")
    order = {name.lower(): name for _, name in rows}
    strange = sorted(set(used) - set(order))
    if strange:
        raise DataError(
            f"the lists in {folder} hold the classes {listed(strange)}, which {CLASS_LIST} lacks; "
            "download the official lists again."
        )
    return {key: name for key, name in order.items() if key in used}


def _parts(name: str) -> tuple[str, str]:
    """Return the class and the number of the group."""
    match = _NAME.fullmatch(name)
    assert match is not None, f"{name} was checked when its list was read"
    return match[1], match[2]


def _found(source: Path, flow_root: Path | None) -> FoundMedia:
    """Find videos and folders of frames, without those of flow, by lower-case name."""
    media = find_media(source)
    shut = None if flow_root is None else flow_root.resolve()
    frames = {
        name: [path for path in paths if path.parent.name not in DIRECTIONS and not _inside(path, shut)]
        for name, paths in media.frames.items()
    }
    both: list[dict[str, list[Path]]] = []
    for kind in (media.video, frames):
        merged: dict[str, list[Path]] = {}
        for name, paths in kind.items():
            if _NAME.fullmatch(name) and paths:
                merged.setdefault(name.lower(), []).extend(paths)
        both.append(merged)
    return replace(media, video=both[0], frames=both[1])


def _inside(path: Path, folder: Path | None) -> bool:
    return folder is not None and path.resolve().is_relative_to(folder)


def _check_some_there(clips: Sequence[Clip], found: FoundMedia, expected: str) -> None:
    names = {clip.id.lower() for clip in clips}
    if not names & (set(found.video) | set(found.frames)):
        raise PathError(
            f"{found.folder} holds none of the {len(clips)} listed clips, such as {clips[0].id!r}; it "
            f"contains {found.summary()} with such names: expected {expected}."
        )


def _in_two_folders(root: Path) -> bool:
    return all((root / one).is_dir() for one in DIRECTIONS)


def _flow_folders(root: Path, name: str) -> dict[str, Path]:
    """Return the folders of a clip's flow; as those of videos, in any capitals."""
    places = {f"flow_{one}": root / one for one in DIRECTIONS} if _in_two_folders(root) else {"flow": root}
    return {role: _in_lower_case(place).get(name.lower(), place / name) for role, place in places.items()}


@lru_cache(maxsize=4)
def _in_lower_case(folder: Path) -> Mapping[str, Path]:
    return {path.name.lower(): path for path in sorted(folder.iterdir())}
