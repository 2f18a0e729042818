"""AVE: events that are both seen and heard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from equipoise.data.datasets.web_clips import ListedClips, WebClips
from equipoise.data.prepare.clips import Clip
from equipoise.data.prepare.finding import FileNames, check_source
from equipoise.data.prepare.lists import NameList, read_list
from equipoise.types import DataError

_COLUMNS: Final = ("category", "videoid", "quality", "starttime", "endtime")
_LISTS: Final = {"train": "trainSet.txt", "val": "valSet.txt", "test": "testSet.txt"}
_ANNOTATIONS: Final = "Annotations.txt"
_MEDIA: Final = "AVE"


class _Event(NamedTuple):
    """A line of a list, and the split of this list."""

    label: str
    video: str
    start: float
    stop: float
    split: str


@dataclass(frozen=True, kw_only=True)
class AVE(WebClips):
    """Audio-Visual Event dataset: videos of 10 s with 4143 annotated events, 28 classes.

    Attributes:
        part: `video` uses the whole 10 s, as in published classification; `event` the seconds in which
            the event is seen and heard.
    """

    name = "ave"
    description = "AVE: audio-visual events, videos of 10 s, 28 classes"
    licence = "none stated for the annotations; videos under the terms of YouTube"
    source = "https://github.com/YapengTian/AVE-ECCV18"
    citation = "Tian et al., Audio-Visual Event Localization in Unconstrained Videos, ECCV 2018"
    bibtex = ("tian2018audiovisual",)
    expected = "trainSet.txt, valSet.txt, testSet.txt, Annotations.txt and AVE/VIDEO_ID.mp4"
    size = "several GB (AVE_Dataset.zip)"

    part: Literal["video", "event"] = "video"

    def listed_clips(self, source: Path) -> ListedClips:
        """Read the three lists; see `WebClips.listed_clips`."""
        check_source(source, [_MEDIA, *_LISTS.values()], self.expected)
        lists = [_read(source / file, split) for split, file in _LISTS.items()]
        events = [event for one in lists for event in _events(one)]
        samples = self._samples(events)
        facts, notes = _comparison(source, events)
        repeated = len(events) - len(samples)
        if repeated:
            notes.append(f"{repeated} lines repeat a video with its class in the same split and are ignored.")
        return ListedClips(
            lists=lists,
            clips=self._clips(samples),
            names=[FileNames((event.video,)) for event in samples],
            classes=tuple(sorted({event.label for event in events})),
            folder=source / _MEDIA,
            facts={"part": self.part, "lines": len(events), "repeated_lines": repeated, **facts},
            notes=notes,
            remedy="remove their lines from trainSet.txt or valSet.txt",
        )

    def _samples(self, events: Sequence[_Event]) -> list[_Event]:
        """Remove lines that would repeat a sample within a split."""
        first: dict[Any, _Event] = {}
        for event in events:
            key = event if self.part == "event" else (event.video, event.label, event.split)
            first.setdefault(key, event)
        return list(first.values())

    def _clips(self, samples: Sequence[_Event]) -> list[Clip]:
        clips = []
        seen: Counter[str] = Counter()
        for event in samples:
            seen[event.video] += 1
            times = seen[event.video]
            whole = self.part == "video" or event.stop <= event.start
            clips.append(
                Clip(
                    id=event.video if times == 1 else f"{event.video}+{times}",
                    label=event.label,
                    files={},
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
    """Compare the lists with the annotations, and count events without length."""
    facts: dict[str, Any] = {}
    notes = []
    empty = sum(event.stop <= event.start for event in events)
    if empty:
        facts["events_without_length"] = empty
        notes.append(f"{empty} events begin and end in the same second; the whole video is used for them.")
    if (source / _ANNOTATIONS).is_file():
        annotated = {(event.label, event.video) for event in _events(_read(source / _ANNOTATIONS, None))}
        used = {(event.label, event.video) for event in events}
        facts["annotated_in_no_list"] = len(annotated - used)
        facts["listed_but_not_annotated"] = len(used - annotated)
        if annotated ^ used:
            notes.append(
                f"{len(annotated - used)} annotated events are in no list, and {len(used - annotated)} "
                f"listed ones are not in {_ANNOTATIONS}."
            )
    return facts, notes
