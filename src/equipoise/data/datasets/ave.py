"""AVE: events that are seen and heard at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NamedTuple

from equipoise.data.datasets.from_source import SourceDataset
from equipoise.data.datasets.kinetics_sounds import videos_of
from equipoise.data.prepare.clips import Clip, Preparation
from equipoise.data.prepare.finding import check_source, find_media, locate
from equipoise.data.prepare.lists import NameList, check_splits, read_list, shared_groups, sharing_notes
from equipoise.data.prepare.recipes import Recipe, check_choice, clip_readers
from equipoise.types import DataError

_COLUMNS: Final = ("category", "videoid", "quality", "starttime", "endtime")
_LISTS: Final = {"train": "trainSet.txt", "val": "valSet.txt", "test": "testSet.txt"}
_ANNOTATIONS: Final = "Annotations.txt"
_MEDIA: Final = "AVE"


class _Event(NamedTuple):
    """A line of a list, with the split of that list."""

    label: str
    video: str
    start: float
    stop: float
    split: str


@dataclass(frozen=True, kw_only=True)
class AVE(SourceDataset):
    """Audio-Visual Event dataset: videos of 10 s with 4143 annotated events, 28 classes.

    Attributes:
        part: `video` takes the whole 10 s, as in published classification; `event` the seconds in which
            the event is seen and heard.
        recipe: of the sound: `fbank` for 128 mel bins x 1024 steps of 10 ms, `stft` for 257 x 454.
        frames: pictures of a clip.
        pick: `even` takes them from the middles of equal parts, `second` one each second from the start.
        pixels: side of a picture.
    """

    name: ClassVar[str] = "ave"
    description: ClassVar[str] = "AVE: audio-visual events, videos of 10 s, 28 classes"
    modalities: ClassVar[tuple[str, ...]] = ("audio", "video")
    licence: ClassVar[str] = "none stated for the annotations; videos under the terms of YouTube"
    source: ClassVar[str] = "https://github.com/YapengTian/AVE-ECCV18"
    citation: ClassVar[str] = (
        "Tian et al., Audio-Visual Event Localization in Unconstrained Videos, ECCV 2018"
    )
    expected: ClassVar[str] = "trainSet.txt, valSet.txt, testSet.txt, Annotations.txt and AVE/VIDEO_ID.mp4"
    size: ClassVar[str] = "several GB (AVE_Dataset.zip)"

    part: Literal["video", "event"] = "video"
    recipe: Recipe = "fbank"
    frames: int = 3
    pick: Literal["even", "second"] = "even"
    pixels: int = 224

    def plan(self, source: Path) -> Preparation:
        """List the clips; see `SourceDataset.plan`."""
        readers = clip_readers(self.recipe, self.frames, self.pixels, self.pick)
        check_choice("part", self.part, ("video", "event"))
        check_source(source, [_MEDIA, *_LISTS.values()], self.expected)
        lists = [_read(source / file, split) for split, file in _LISTS.items()]
        events = [event for one in lists for event in _events(one)]
        samples = self._samples(events)
        _, files = locate(find_media(source / _MEDIA), [((event.video,), None) for event in samples], "clips")
        clips = self._clips(samples, files)
        classes = tuple(sorted({event.label for event in events}))
        check_splits(classes, [(event.split, event.label) for event in samples], _LISTS)
        shared = shared_groups(videos_of(clips))
        facts, notes = _comparison(source, events)
        if len(samples) < len(events):
            notes.append(
                f"{len(events) - len(samples)} lines repeat a video with its class in one split and make no "
                "sample of their own."
            )
        remedy = "take their lines out of trainSet.txt or valSet.txt"
        return Preparation(
            name=self.name,
            clips=clips,
            readers=readers,
            classes=classes,
            licence=self.licence,
            source=f"{self.source}; {self.citation}",
            facts={
                "part": self.part,
                "recipe": self.recipe,
                "lists": [one.describe() for one in lists],
                "lines": len(events),
                "repeated_lines": len(events) - len(samples),
                "shared_videos": {splits: len(both) for splits, both in shared.items()},
                **facts,
            },
            notes=(*notes, *sharing_notes(shared, "videos of YouTube", remedy)),
        )

    def _samples(self, events: Sequence[_Event]) -> list[_Event]:
        """Drop lines that would give a split the same sample again."""
        if self.part == "event":
            return list(dict.fromkeys(events))
        return list({(event.video, event.label, event.split): event for event in reversed(events)}.values())[
            ::-1
        ]

    def _clips(self, samples: Sequence[_Event], files: Sequence[dict[str, Path]]) -> list[Clip]:
        clips = []
        seen: Counter[str] = Counter()
        for event, paths in zip(samples, files, strict=True):
            seen[event.video] += 1
            times = seen[event.video]
            whole = self.part == "video" or event.stop <= event.start
            clips.append(
                Clip(
                    id=event.video if times == 1 else f"{event.video}+{times}",
                    label=event.label,
                    files=paths,
                    split=event.split,
                    group=event.video,
                    start=0.0 if whole else event.start,
                    seconds=None if whole else event.stop - event.start,
                )
            )
        return clips


def _read(path: Path, split: str | None) -> NameList:
    return read_list(path, _COLUMNS, separator="&", header=_COLUMNS, split=split)


def _events(one: NameList) -> list[_Event]:
    events = []
    for label, video, _, start, stop in one.rows:
        try:
            events.append(_Event(label, video, float(start), float(stop), str(one.split)))
        except ValueError:
            raise DataError(
                f"{one.path} has the line {'&'.join((label, video, '...', start, stop))!r}; expected "
                "Category&VideoID&Quality&StartTime&EndTime."
            ) from None
    return events


def _comparison(source: Path, events: Sequence[_Event]) -> tuple[dict[str, Any], list[str]]:
    """Compare the lists with all annotations, and count events without length."""
    facts: dict[str, Any] = {}
    notes = []
    empty = sum(event.stop <= event.start for event in events)
    if empty:
        facts["events_without_length"] = empty
        notes.append(f"{empty} events begin and end in the same second; they stand for their whole video.")
    if (source / _ANNOTATIONS).is_file():
        annotated = {(event.label, event.video) for event in _events(_read(source / _ANNOTATIONS, None))}
        used = {(event.label, event.video) for event in events}
        facts["annotated_in_no_list"] = len(annotated - used)
        facts["listed_but_not_annotated"] = len(used - annotated)
        if annotated ^ used:
            notes.append(
                f"{len(annotated - used)} annotated events stand in no list, and {len(used - annotated)} "
                f"listed ones are not in {_ANNOTATIONS}."
            )
    return facts, notes
