"""Which files of sound, video and frames there are below a folder, by their names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from equipoise.data.format.layout import listed
from equipoise.types import DataError

VIDEOS: Final = (".mp4", ".flv", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg")
SOUNDS: Final = (".wav", ".flac", ".ogg", ".mp3", ".m4a")
PICTURES: Final = (".jpg", ".jpeg", ".png", ".bmp")
_KINDS: Final = {"video": VIDEOS, "audio": SOUNDS}


@dataclass(frozen=True)
class FoundMedia:
    """Media below a folder, by the name of a file without its ending, or of a folder of frame images.

    Attributes:
        folder: that was searched.
        video: name to the video files of that name.
        audio: name to the sound files.
        frames: name to the folders that hold pictures.
    """

    folder: Path
    video: Mapping[str, Sequence[Path]]
    audio: Mapping[str, Sequence[Path]]
    frames: Mapping[str, Sequence[Path]]

    def pick(self, kind: str, names: Sequence[str], within: str | None = None) -> Path | None:
        """Return the file or folder that has the first of `names` that is there, or None.

        Args:
            kind: `"video"`, `"audio"` or `"frames"`.
            names: of one sample, the likeliest first.
            within: name of a folder (a split, a class) that decides between several of one name.

        Raises:
            DataError: there are several, so that it is not clear which is meant.
        """
        found: Mapping[str, Sequence[Path]] = getattr(self, kind)
        for name in names:
            paths = found.get(name, ())
            if len(paths) > 1:
                paths = [path for path in paths if within in path.relative_to(self.folder).parts] or paths
            if len(paths) > 1:
                raise DataError(
                    f"several files below {self.folder} are named {name!r} "
                    f"({listed([str(path.relative_to(self.folder)) for path in paths])}); keep one of them."
                )
            if paths:
                return paths[0]
        return None

    def summary(self) -> str:
        """Say in a few words what was found."""
        counts = len(self.video), len(self.audio), len(self.frames)
        return "{} videos, {} sound files and {} folders of pictures".format(*counts)


def find_media(folder: Path) -> FoundMedia:
    """Search a folder and everything below it, links to folders included."""
    found: dict[str, dict[str, list[Path]]] = {"video": {}, "audio": {}, "frames": {}}
    for place, names in _folders(folder):
        for name in names:
            for kind, endings in _KINDS.items():
                if Path(name).suffix.lower() in endings:
                    found[kind].setdefault(Path(name).stem, []).append(place / name)
        if place != folder and any(name.lower().endswith(PICTURES) for name in names):
            found["frames"].setdefault(place.name, []).append(place)
    return FoundMedia(folder, found["video"], found["audio"], found["frames"])


def _folders(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield folders with the sorted names of their files, each folder once however it is linked."""
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(place), sorted(name for name in names if not name.startswith("."))


def check_source(source: Path, wanted: Sequence[str], expected: str) -> None:
    """Check that a source folder is there and holds what it should.

    Args:
        source: the folder.
        wanted: names of files or folders in it.
        expected: its layout, in words.

    Raises:
        DataError: it is missing, a file, or lacks something; says what is there, and where it may be meant.
    """
    if not source.is_dir():
        found = "is a file" if source.exists() else "does not exist"
        raise DataError(f"{source} {found}; expected a folder with {expected}.")
    missing = [name for name in wanted if not (source / name).exists()]
    if not missing:
        return
    present = sorted(entry.name for entry in source.iterdir())
    inside = [name for name in present if all((source / name / want).exists() for want in wanted)]
    hint = f"give {source / inside[0]}" if inside else f"expected {expected}"
    raise DataError(f"{source} has no {listed(missing)}; it holds {listed(present, 6) or 'nothing'}: {hint}.")


def locate(
    found: FoundMedia, samples: Sequence[tuple[Sequence[str], str | None]], layout: str = "auto"
) -> tuple[str, list[dict[str, Path]]]:
    """Find the files of samples that are videos with sound, or sound files beside folders of frames.

    Args:
        found: what there is.
        samples: for each, the names that its files may have, and the folder that decides between several.
        layout: `"clips"` for videos with sound, `"frames"` for sound files and folders of frames, `"auto"`
            for whichever holds more of the samples: one layout for all of them.

    Returns:
        The layout, and of each sample role to file. Files that are not there get the path where a video of
        the first name was expected, so that they are counted as missing when they are read.

    Raises:
        DataError: no sample has a file, or it is not clear which is meant.
    """
    clips = [found.pick("video", names, within) for names, within in samples]
    sounds = [found.pick("audio", names, within) for names, within in samples]
    frames = [found.pick("frames", names, within) for names, within in samples]
    both = sum(sound is not None and folder is not None for sound, folder in zip(sounds, frames, strict=True))
    videos = sum(clip is not None for clip in clips)
    chosen = layout if layout != "auto" else ("frames" if both > videos else "clips")
    if not (both if chosen == "frames" else videos):
        wanted = "sound file with a folder of frames" if chosen == "frames" else "video"
        raise DataError(
            f"{found.folder} holds no {wanted} of the {len(samples)} listed samples, such as "
            f"{samples[0][0][0]!r}; below it are {found.summary()}: give the folder that holds them."
        )
    missing = [found.folder / f"{names[0]}.mp4" for names, _ in samples]
    if chosen == "clips":
        paths = [clip or absent for clip, absent in zip(clips, missing, strict=True)]
        return chosen, [{"audio": path, "video": path} for path in paths]
    return chosen, [
        {"audio": sound or absent.with_suffix(".wav"), "video": folder or absent.with_suffix("")}
        for sound, folder, absent in zip(sounds, frames, missing, strict=True)
    ]
