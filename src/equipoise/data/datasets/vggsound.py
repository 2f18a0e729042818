"""VGGSound: sounds of everyday life whose source is in the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

from equipoise.data.datasets.from_source import SourceDataset
from equipoise.data.datasets.kinetics_sounds import videos_of
from equipoise.data.prepare.clips import Clip, Preparation
from equipoise.data.prepare.finding import check_source, find_media, locate
from equipoise.data.prepare.lists import (
    NameList,
    check_once,
    check_splits,
    read_list,
    shared_groups,
    sharing_notes,
)
from equipoise.data.prepare.recipes import Media, Recipe, check_choice, clip_readers
from equipoise.types import DataError, UnknownNameError

_COLUMNS: Final = ("youtube id", "start seconds", "label", "split")
_SECONDS: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class VGGSound(SourceDataset):
    """VGGSound: about 200,000 clips of 10 s from YouTube, 309 classes.

    Attributes:
        list_file: the published list; by default vggsound.csv in the source folder.
        classes: names of the classes to take; by default all.
        recipe: of the sound: `fbank` for 128 mel bins x 1024 steps of 10 ms, `stft` for 257 x 454.
        frames: pictures of a clip.
        pick: `even` takes them from the middles of equal parts, `second` one each second from the start.
        pixels: side of a picture.
        layout: `clips` for videos with sound, `frames` for sound files and folders of pictures, `auto` for
            whichever holds more of the listed clips.
    """

    name: ClassVar[str] = "vggsound"
    description: ClassVar[str] = "VGGSound: sounds and what makes them, clips of 10 s, 309 classes"
    modalities: ClassVar[tuple[str, ...]] = ("audio", "video")
    licence: ClassVar[str] = "list CC BY 4.0; videos under the terms of YouTube"
    source: ClassVar[str] = "https://www.robots.ox.ac.uk/~vgg/data/vggsound"
    citation: ClassVar[str] = "Chen et al., VGGSound: A Large-scale Audio-Visual Dataset, ICASSP 2020"
    expected: ClassVar[str] = "vggsound.csv, and ID_000030.mp4 at any depth (ID and second of the list)"
    size: ClassVar[str] = "hundreds of GB"

    list_file: str = ""
    classes: tuple[str, ...] = ()
    recipe: Recipe = "fbank"
    frames: int = 3
    pick: Literal["even", "second"] = "even"
    pixels: int = 224
    layout: Media = "auto"

    def plan(self, source: Path) -> Preparation:
        """List the clips; see `SourceDataset.plan`."""
        readers = clip_readers(self.recipe, self.frames, self.pixels, self.pick)
        check_choice("layout", self.layout, ("auto", "clips", "frames"))
        check_source(source, [] if self.list_file else ["vggsound.csv"], self.expected)
        path = Path(self.list_file).expanduser() if self.list_file else source / "vggsound.csv"
        published = read_list(path, _COLUMNS)
        rows = _rows(published)
        classes = self._classes(published)
        wanted = set(classes)
        taken = [row for row in rows if row[2] in wanted]
        labels = [(split, label) for _, _, label, split in taken]
        check_splits(classes, labels, {split: f"{path} as {split}" for split, _ in labels})
        layout, clips = self._clips(source, taken)
        shared = shared_groups(videos_of(clips))
        return Preparation(
            name=self.name,
            clips=clips,
            readers=readers,
            classes=classes,
            licence=self.licence,
            source=f"{self.source}; {self.citation}",
            facts={
                "recipe": self.recipe,
                "layout": layout,
                "lists": [published.describe()],
                "rows_of_other_classes": len(rows) - len(taken),
                "shared_videos": {splits: len(both) for splits, both in shared.items()},
            },
            notes=tuple(sharing_notes(shared, "videos of YouTube", "take them out of the train rows")),
        )

    def _clips(self, source: Path, rows: Sequence[tuple[str, int, str, str]]) -> tuple[str, list[Clip]]:
        layout, files = locate(
            find_media(source),
            [(_file_names(video, start), split) for video, start, _, split in rows],
            self.layout,
        )
        return layout, [
            Clip(
                id=f"{video}_{start:06d}",
                label=label,
                files=paths,
                split=split,
                group=video,
                seconds=_SECONDS if layout == "clips" else None,
            )
            for (video, start, label, split), paths in zip(rows, files, strict=True)
        ]

    def _classes(self, published: NameList) -> tuple[str, ...]:
        known = sorted({row[2] for row in published.rows})
        for name in self.classes:
            if name not in known:
                raise UnknownNameError("class of VGGSound", name, known)
        return tuple(sorted(set(self.classes))) if self.classes else tuple(known)


def _rows(published: NameList) -> list[tuple[str, int, str, str]]:
    """Return video, second, label and split of each row."""
    rows = []
    for video, start, label, split in published.rows:
        if not start.isdecimal() or split not in ("train", "val", "test"):
            raise DataError(
                f"{published.path} has the row {','.join((video, start, label, split))!r}; expected a whole "
                "second, and train or test at the end."
            )
        rows.append((video, int(start), label, split))
    check_once([(published, [f"{video}_{start}" for video, start, _, _ in rows])])
    return rows


def _file_names(video: str, start: int) -> Sequence[str]:
    return f"{video}_{start:06d}", f"{video}_{start}", f"{video}_{start:06d}_{start + round(_SECONDS):06d}"
