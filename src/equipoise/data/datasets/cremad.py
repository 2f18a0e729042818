"""CREMA-D: actors speak sentences with an emotion."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from equipoise.data.datasets.from_source import SourceDataset
from equipoise.data.format.folder import listed
from equipoise.data.prepare.clips import Clip, ModalityReader, Preparation
from equipoise.data.prepare.finding import SOUNDS, VIDEOS, check_source, files_by_name
from equipoise.data.prepare.lists import (
    NameList,
    check_classes,
    check_once,
    check_splits,
    draw_groups,
    groups_by_split,
    paths_of,
    read_list,
    sharing,
    split_of_name,
)
from equipoise.data.prepare.readers.audio_video import FbankReader, FramesReader, StftReader
from equipoise.files.untrusted import parsing
from equipoise.types import DataError, PathError, UsageError

EMOTIONS: Final = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
"""In the order of the published `stat.csv`."""
CLIPS: Final = 7442
_NAME: Final = re.compile(rf"(\d{{4}})_[A-Z]{{3}}_({'|'.join(EMOTIONS)})_[A-Z]{{1,2}}")
_AUDIO: Final = "AudioWAV"
_VIDEO: Final = ("VideoFlash", "VideoMP4", "Image-01-FPS")
_SENTENCES: Final = "SentenceFilenames.csv"
_DEMOGRAPHICS: Final = "VideoDemographics.csv"


@dataclass(frozen=True, kw_only=True)
class CremaD(SourceDataset):
    """Crowd-sourced Emotional Multimodal Actors Dataset: 7442 clips of 91 actors, 6 emotions.

    Attributes:
        recipe: of the sound: `ogm` for log magnitudes of 3 s at 22,050 Hz (257 x 188), `fbank` for 128 mel
            bins x 300 steps of 10 ms.
        frames: number of frames of a clip.
        pick: `even` takes the middles of equal parts, `second` one frame per second from the start.
        pixels: side of a frame.
        video_folder: folder below the source with the videos, or with a folder of images for each clip; by
            default the first of VideoFlash, VideoMP4 and Image-01-FPS that exists.
        split: `actor` puts 70, 10 and 20 % of the actors into train, val and test.
        split_seed: of that draw.
        split_files: published lists to use instead, one option for each; their names contain train, val or
            test.
    """

    name = "cremad"
    description = "CREMA-D: emotions of actors, sound and face, 7442 clips, 6 classes"
    modalities = ("audio", "video")
    licence = "Open Database License 1.0, contents under the Database Contents License 1.0"
    source = "https://github.com/CheyneyComputerScience/CREMA-D"
    citation = (
        "Cao et al., CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset, IEEE Transactions on "
        "Affective Computing 5(4), 2014"
    )
    bibtex = ("cao2014cremad",)
    expected = "AudioWAV/1001_DFA_ANG_XX.wav and VideoFlash/1001_DFA_ANG_XX.flv"
    size = "several GB, with Git LFS"

    recipe: Literal["ogm", "fbank"] = "ogm"
    frames: int = 3
    pick: Literal["even", "second"] = "even"
    pixels: int = 224
    video_folder: str | None = None
    split: Literal["actor"] = "actor"
    split_seed: int = 0
    split_files: tuple[str, ...] = ()

    def plan(self, source: Path) -> Preparation:
        """List the clips; see `SourceDataset.plan`."""
        readers = self._readers()
        check_source(source, [_AUDIO], self.expected)
        videos = self._videos(source)
        sounds = files_by_name(source / _AUDIO, SOUNDS, _clip_name)
        pictures = files_by_name(videos, VIDEOS, _clip_name)
        present = sorted(set(sounds) | set(pictures))
        lists = self._lists()
        names = _names(source, present, lists)
        sexes = {} if lists else _sexes(source)
        split = {name: str(one.split) for one in lists for name in one.names}
        if not lists:
            actors = draw_groups(map(_actor, names), self.split_seed, "cremad", sexes)
            split = {name: actors[_actor(name)] for name in names}
        clips = [
            Clip(
                id=name,
                label=_emotion(name),
                files={
                    "audio": sounds.get(name, source / _AUDIO / f"{name}.wav"),
                    "video": pictures.get(name, videos / f"{name}{_ending(pictures)}"),
                },
                split=split[name],
                group=_actor(name),
            )
            for name in names
        ]
        self._check(source, clips)
        shared, notes = sharing(clips, "actors", "omit split_files to keep actors apart")
        left_out = sorted(set(present) - set(names))
        if left_out:
            notes.append(f"{len(left_out)} clips are in no list and are not used ({listed(left_out)}).")
        facts: dict[str, Any] = {"recipe": self.recipe, "videos": videos.name}
        if lists:
            facts["lists"] = [one.describe() for one in lists]
        else:
            facts |= {"split": self.split, "split_seed": self.split_seed, "balanced_by_sex": bool(sexes)}
            notes += _notes_of_draw(source, len(clips), bool(sexes))
        facts["actors"] = {part: len(actors) for part, actors in groups_by_split(clips).items()}
        facts |= {"shared_actors": shared, "clips_in_no_list": len(left_out)}
        return self.preparation(clips, readers, EMOTIONS, facts, notes)

    def _readers(self) -> dict[str, ModalityReader]:
        audio = StftReader() if self.recipe == "ogm" else FbankReader(frames=300)
        return {"audio": audio, "video": FramesReader(count=self.frames, size=self.pixels, pick=self.pick)}

    def _videos(self, source: Path) -> Path:
        wanted = _VIDEO if self.video_folder is None else (self.video_folder,)
        for name in wanted:
            if (source / name).is_dir():
                return source / name
        present = sorted(entry.name for entry in source.iterdir() if entry.is_dir())
        raise PathError(
            f"{source} has no folder {' or '.join(wanted)}; it holds {listed(present, 6)}: download the "
            "videos, or name their folder with --video-folder."
        )

    def _lists(self) -> list[NameList]:
        lists = [
            read_list(path, ("name", "label"), header=("name", "label"), split=split_of_name(path))
            for path in paths_of(self.split_files)
        ]
        given = {one.split for one in lists}
        if lists and not {"train", "test"} <= given:
            raise UsageError(
                f"split_files holds lists for {' and '.join(sorted(map(str, given)))} only; give one for "
                "train and one for test, and one for val if there is one."
            )
        check_once(lists)
        for one in lists:
            _check_labels(one)
        return lists

    def _check(self, source: Path, clips: Sequence[Clip]) -> None:
        where = " and ".join(self.split_files) if self.split_files else str(source)
        check_classes(EMOTIONS, [str(clip.label) for clip in clips], where)
        labels = [(str(clip.split), str(clip.label)) for clip in clips]
        check_splits(EMOTIONS, labels, {split: f"the {split} split of {where}" for split, _ in labels})


def _notes_of_draw(source: Path, count: int, balanced: bool) -> Iterator[str]:
    if not balanced:
        yield (
            f"{_DEMOGRAPHICS} is not in {source}: the draw of actors is not balanced by sex, and differs "
            "from the draw with that file."
        )
    if count != CLIPS:
        yield f"{count} of the {CLIPS} clips of CREMA-D are in {source}."


def _clip_name(text: str) -> str | None:
    return text if _NAME.fullmatch(text) else None


def _ending(found: Mapping[str, Path]) -> str:
    """Return the most common ending, for the paths of missing files."""
    return Counter(path.suffix for path in found.values()).most_common(1)[0][0] if found else ".flv"


def _names(source: Path, present: Sequence[str], lists: Sequence[NameList]) -> list[str]:
    """Return the names of all expected clips."""
    if lists:
        return sorted(name for one in lists for name in one.names)
    names = set(present)
    if (source / _SENTENCES).is_file():
        rows = read_list(source / _SENTENCES, ("number", "name"), header=("stimulus_number", "filename")).rows
        names |= {name for _, name in rows if _NAME.fullmatch(name)}
    if not names:
        raise PathError(
            f"{source / _AUDIO} holds no file named like 1001_DFA_ANG_XX.wav; expected {CremaD.expected}."
        )
    return sorted(names)


def _check_labels(one: NameList) -> None:
    """Check that the labels of a list are the emotions in the names."""
    odd = [name for name in one.names if not _NAME.fullmatch(name)]
    if odd:
        raise DataError(
            f"{one.path} names {listed(odd)}; expected names of CREMA-D such as '1001_DFA_ANG_XX'."
        )
    wrong = [f"{name},{label}" for name, label in one.rows if label != _emotion(name)]
    if wrong:
        raise DataError(
            f"{one.path} gives {len(wrong)} clips a label that differs from the emotion in their name "
            f"({listed(wrong)}); correct the list."
        )


def _actor(name: str) -> str:
    return name[:4]


def _emotion(name: str) -> str:
    return name.split("_")[2]


def _sexes(source: Path) -> dict[str, str]:
    """Return the sex of each actor; empty if the table of the repository is missing."""
    table = source / _DEMOGRAPHICS
    if not table.is_file():
        return {}
    remedy = "expected the columns ActorID and Sex, as in the repository of CREMA-D"
    with (
        parsing(lambda found: DataError(f"{table} cannot be read ({found}); {remedy}.")),
        table.open(encoding="utf-8-sig", newline="") as file,
    ):
        return {row["ActorID"]: row["Sex"] for row in csv.DictReader(file)}
