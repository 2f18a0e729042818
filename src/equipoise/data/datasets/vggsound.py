"""VGGSound: everyday sounds whose source is visible."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from equipoise.data.datasets.web_clips import ListedClips, Media, WebClips
from equipoise.data.prepare.clips import Clip
from equipoise.data.prepare.finding import FileNames, check_source
from equipoise.data.prepare.lists import NameList, check_once, chosen_classes, read_list
from equipoise.types import DataError

_COLUMNS: Final = ("youtube id", "start seconds", "label", "split")
_SECONDS: Final = 10.0


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
    bibtex = ("chen2020vggsound",)
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
        _check_rows(published)
        classes = chosen_classes(self.classes, sorted({row[2] for row in published.rows}), "VGGSound")
        chosen = set(classes)
        rows = [row for row in published.rows if row[2] in chosen]
        return ListedClips(
            lists=[published],
            clips=[
                Clip(f"{video}_{int(start):06d}", label, {}, split, video, seconds=_SECONDS)
                for video, start, label, split in rows
            ],
            names=[FileNames(_file_names(video, int(start)), split) for video, start, _, split in rows],
            classes=classes,
            folder=source,
            layout=self.layout,
            facts={"rows_of_other_classes": len(published.rows) - len(rows)},
            remedy="remove them from the train rows",
        )


def _check_rows(published: NameList) -> None:
    for row in published.rows:
        _, start, _, split = row
        if not start.isdecimal() or split not in ("train", "val", "test"):
            raise DataError(
                f"{published.path} has the row {','.join(row)!r}; expected a whole second, and train or test "
                "at the end."
            )
    check_once([published], lambda row: f"{row[0]}_{int(row[1])}")


def _file_names(video: str, start: int) -> tuple[str, ...]:
    return f"{video}_{start:06d}", f"{video}_{start}", f"{video}_{start:06d}_{start + round(_SECONDS):06d}"
