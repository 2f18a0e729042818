"""VGGSound: everyday sounds whose source is visible."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from equipoise.data.datasets.web_clips import ListedClips, Media, WebClips
from equipoise.data.prepare.clips import Clip
from equipoise.data.prepare.finding import FileNames, check_source
from equipoise.data.prepare.lists import NameList, check_once, chosen_classes, read_list
from equipoise.types import DataError

_COLUMNS: Final = ("youtube id", "start seconds", "label", "split")
_SECONDS: Final = 10.0


class _Row(NamedTuple):
    """A row of the published list."""

    video: str
    start: int
    label: str
    split: str


@dataclass(frozen=True, kw_only=True)
class VGGSound(WebClips):
    """VGGSound: about 200,000 clips of 10 s from YouTube, 309 classes.

    Attributes:
        list_file: the published list; by default vggsound.csv in the source folder.
        classes: names of the classes to use; by default all.
        layout: `clips` for videos with sound, `frames` for sound files and folders of images, `auto` for the
            layout with more of the listed clips.
    """

    name = "vggsound"
    description = "VGGSound: sounds and what makes them, clips of 10 s, 309 classes"
    licence = "list CC BY 4.0; videos under the terms of YouTube"
    source = "https://www.robots.ox.ac.uk/~vgg/data/vggsound"
    citation = "Chen et al., VGGSound: A Large-scale Audio-Visual Dataset, ICASSP 2020"
    expected = "vggsound.csv, and ID_000030.mp4 at any depth (ID and second of the list)"
    size = "hundreds of GB"

    list_file: str = ""
    classes: tuple[str, ...] = ()
    layout: Media = "auto"

    def listed_clips(self, source: Path) -> ListedClips:
        """Read the published list; see `WebClips.listed_clips`."""
        check_source(source, [] if self.list_file else ["vggsound.csv"], self.expected)
        path = Path(self.list_file).expanduser() if self.list_file else source / "vggsound.csv"
        published = read_list(path, _COLUMNS)
        rows = _rows(published)
        classes = chosen_classes(self.classes, sorted({row.label for row in rows}), "VGGSound")
        taken = [row for row in rows if row.label in set(classes)]
        clips = [
            Clip(f"{row.video}_{row.start:06d}", row.label, {}, row.split, row.video, seconds=_SECONDS)
            for row in taken
        ]
        return ListedClips(
            lists=[published],
            clips=clips,
            names=[FileNames(_file_names(row.video, row.start), row.split) for row in taken],
            classes=classes,
            folder=source,
            layout=self.layout,
            facts={"rows_of_other_classes": len(rows) - len(taken)},
            remedy="remove them from the train rows",
        )


def _rows(published: NameList) -> list[_Row]:
    rows = []
    for video, start, label, split in published.rows:
        if not start.isdecimal() or split not in ("train", "val", "test"):
            raise DataError(
                f"{published.path} has the row {','.join((video, start, label, split))!r}; expected a whole "
                "second, and train or test at the end."
            )
        rows.append(_Row(video, int(start), label, split))
    check_once([published], lambda row: f"{row[0]}_{int(row[1])}")
    return rows


def _file_names(video: str, start: int) -> tuple[str, ...]:
    return f"{video}_{start:06d}", f"{video}_{start}", f"{video}_{start:06d}_{start + round(_SECONDS):06d}"
