"""The base of the sets of video clips from the web: published lists, and files found by their names."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from equipoise.data.datasets.from_source import SourceDataset
from equipoise.data.prepare.clips import Clip, Preparation
from equipoise.data.prepare.finding import FileNames, find_media, locate
from equipoise.data.prepare.lists import NameList, check_splits, sharing
from equipoise.data.prepare.readers.audio_video import FbankReader, FramesReader, StftReader

Media = Literal["auto", "clips", "frames"]


@dataclass(frozen=True, kw_only=True)
class ListedClips:
    """The clips of published lists, before their files are found.

    Attributes:
        lists: the published lists.
        clips: the clips, without files; the group is the video.
        names: possible file names of each clip.
        classes: class names in order.
        folder: holds the files, at any depth.
        layout: layout of the files, see `locate`; None if the dataset has no such option.
        facts: further facts of the preparation.
        notes: notes of the preparation.
        remedy: what to do about a video in two splits.
    """

    lists: Sequence[NameList]
    clips: Sequence[Clip]
    names: Sequence[FileNames]
    classes: tuple[str, ...]
    folder: Path
    layout: Media | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    remedy: str


@dataclass(frozen=True, kw_only=True)
class WebClips(SourceDataset):
    """Base of the sets of clips of ten seconds from YouTube.

    Attributes:
        recipe: of the sound: `fbank` for 128 mel bins x 1024 steps of 10 ms, `stft` for 257 x 454.
        frames: number of frames of a clip.
        pick: `even` takes the middles of equal parts, `second` one frame per second from the start.
        pixels: side of a frame.
    """

    modalities = ("audio", "video")

    recipe: Literal["fbank", "stft"] = "fbank"
    frames: int = 3
    pick: Literal["even", "second"] = "even"
    pixels: int = 224

    @abstractmethod
    def listed_clips(self, source: Path) -> ListedClips:
        """Read the lists of the dataset; for the errors see `SourceDataset.plan`."""

    def plan(self, source: Path) -> Preparation:
        """List the clips and find their files; see `SourceDataset.plan`."""
        # `fbank` has the mean and scale of the Audio Spectrogram Transformer (Gong et al., Interspeech 2021).
        audio = FbankReader() if self.recipe == "fbank" else StftReader(rate=16000, seconds=10.0)
        video = FramesReader(count=self.frames, size=self.pixels, pick=self.pick)
        found = self.listed_clips(source)
        labels = [(str(clip.split), str(clip.label)) for clip in found.clips]
        where = {split: f"{found.lists[0].path} as {split}" for split, _ in labels}
        where |= {one.split: str(one.path) for one in found.lists if one.split is not None}
        check_splits(found.classes, labels, where)
        layout, files = locate(find_media(found.folder), found.names, found.layout or "clips")
        clips = [
            replace(clip, files=paths, seconds=clip.seconds if layout == "clips" else None)
            for clip, paths in zip(found.clips, files, strict=True)
        ]
        shared, notes = sharing(clips, "videos of YouTube", found.remedy)
        facts = {
            "recipe": self.recipe,
            **({} if found.layout is None else {"layout": layout}),
            "lists": [one.describe() for one in found.lists],
            **found.facts,
            "shared_videos": shared,
        }
        readers = {"audio": audio, "video": video}
        return self.preparation(clips, readers, found.classes, facts, [*found.notes, *notes])
