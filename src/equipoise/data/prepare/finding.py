"""Find sound files, videos and folders of frames by their names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from equipoise.data.format.folder import check_folder, listed, visible
from equipoise.types import DataError, PathError

VIDEOS: Final = (".mp4", ".flv", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg")
SOUNDS: Final = (".wav", ".flac", ".ogg", ".mp3", ".m4a")
PICTURES: Final = (".jpg", ".jpeg", ".png", ".bmp")
_KINDS: Final = {"video": VIDEOS, "audio": SOUNDS}


class FileNames(NamedTuple):
    """Possible names of the file of a sample.

    Attributes:
        names: without ending, the most likely first.
        within: name of a folder (a split, a class) that decides between several files of one name, or None.
    """

    names: tuple[str, ...]
    within: str | None = None


@dataclass(frozen=True)
class FoundMedia:
    """Media below a folder, by the name of a file without its ending, or of a folder of images.

    Attributes:
        folder: the folder searched.
        video: name to video files.
        audio: name to sound files.
        frames: name to folders of images.
    """

    folder: Path
    video: Mapping[str, Sequence[Path]]
    audio: Mapping[str, Sequence[Path]]
    frames: Mapping[str, Sequence[Path]]

    def pick(self, kind: str, names: Sequence[str], within: str | None = None) -> Path | None:
        """Return the file or folder with the first of `names` that exists, or None; see `FileNames`.

        `kind` is `"video"`, `"audio"` or `"frames"`.

        Raises:
            DataError: several files match.
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
        """Count the media found, in words."""
        counts = len(self.video), len(self.audio), len(self.frames)
        return "{} videos, {} sound files and {} folders of images".format(*counts)


def find_media(folder: Path) -> FoundMedia:
    """Search a folder recursively, including links to folders."""
    found: dict[str, dict[str, list[Path]]] = {"video": {}, "audio": {}, "frames": {}}
    for place, names in _folders(folder):
        for name in names:
            for kind, endings in _KINDS.items():
                if Path(name).suffix.lower() in endings:
                    found[kind].setdefault(Path(name).stem, []).append(place / name)
        if place != folder and any(name.lower().endswith(PICTURES) for name in names):
            found["frames"].setdefault(place.name, []).append(place)
    return FoundMedia(folder, **found)


def _folders(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder once, despite links, with the sorted names of its files."""
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
    """Check that a source folder exists and holds what is `wanted`; `expected` is its layout, in words.

    Raises:
        PathError: it is missing, a file, or incomplete; the message lists its content, and names a subfolder
            with the expected content if there is one.
    """
    check_folder(source, f"a folder with {expected}")
    missing = [name for name in wanted if not (source / name).exists()]
    if not missing:
        return
    present = sorted(entry.name for entry in source.iterdir())
    inside = [name for name in present if all((source / name / want).exists() for want in wanted)]
    hint = f"give {source / inside[0]}" if inside else f"expected {expected}"
    raise PathError(f"{source} has no {listed(missing)}; it holds {listed(present, 6) or 'nothing'}: {hint}.")


def find_file(source: Path, name: str, expected: str) -> Path:
    """Return the source if it is a file, or the file `name` in it; `expected` is its layout, in words.

    Raises:
        PathError: there is no such file.
    """
    if source.is_file():
        return source
    check_source(source, [name], expected)
    return source / name


def locate(
    found: FoundMedia, samples: Sequence[FileNames], layout: str = "auto"
) -> tuple[str, list[dict[str, Path]]]:
    """Find the files of samples: videos with sound, or sound files with folders of frames.

    The layout is `"clips"` for videos with sound, `"frames"` for sound files and folders of frames, or
    `"auto"` for the one that has more of the samples; all samples have the same layout.

    Returns:
        The layout, and role to file of each sample. A missing file gets the path of a video of the first
        name, so that reading it counts it as missing.

    Raises:
        PathError: no sample has a file.
        DataError: several files match.
    """
    clips, sounds, frames = (
        [found.pick(kind, names, within) for names, within in samples]
        for kind in ("video", "audio", "frames")
    )
    both = sum(sound is not None and folder is not None for sound, folder in zip(sounds, frames, strict=True))
    videos = sum(clip is not None for clip in clips)
    chosen = layout if layout != "auto" else ("frames" if both > videos else "clips")
    if not (both if chosen == "frames" else videos):
        wanted = "sound file with a folder of frames" if chosen == "frames" else "video"
        raise PathError(
            f"{found.folder} holds no {wanted} of the {len(samples)} listed samples, such as "
            f"{samples[0].names[0]!r}; it contains {found.summary()}: give the folder that holds them."
        )
    missing = [found.folder / f"{names[0]}.mp4" for names, _ in samples]
    if chosen == "clips":
        paths = [clip or absent for clip, absent in zip(clips, missing, strict=True)]
        return chosen, [{"audio": path, "video": path} for path in paths]
    return chosen, [
        {"audio": sound or absent.with_suffix(".wav"), "video": folder or absent.with_suffix("")}
        for sound, folder, absent in zip(sounds, frames, missing, strict=True)
    ]


def files_by_name(
    folder: Path, endings: Sequence[str], name_of: Callable[[str], str | None]
) -> dict[str, Path]:
    """Return the files with one of the endings, and the subfolders, by the name of their sample.

    `name_of` gets the name of a file without its ending; it returns None if that is no sample.

    Raises:
        DataError: two entries have the same name.
    """
    found: dict[str, Path] = {}
    for entry in visible(folder.iterdir()):
        name = None
        if entry.is_dir() or entry.suffix.lower() in endings:
            name = name_of(entry.name if entry.is_dir() else entry.stem)
        if name in found:
            raise DataError(f"{found[name]} and {entry} are both the sample {name!r}; keep one of them.")
        if name is not None:
            found[name] = entry
    return found
