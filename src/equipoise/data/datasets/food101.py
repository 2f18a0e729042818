"""UPMC Food-101: images of dishes, with the titles or texts of their web pages."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal

from equipoise.data.datasets.from_source import SourceDataset
from equipoise.data.format.content import digest
from equipoise.data.format.folder import listed, visible
from equipoise.data.prepare.clips import Clip, Preparation
from equipoise.data.prepare.finding import check_source
from equipoise.data.prepare.lists import check_splits, chosen_classes
from equipoise.data.prepare.media.files import MediaError, check_media
from equipoise.data.prepare.media.images import ENDINGS
from equipoise.data.prepare.readers.audio_video import ImageReader
from equipoise.data.prepare.readers.text import TokensReader
from equipoise.files.limits import check_machine
from equipoise.files.untrusted import parsing
from equipoise.types import DataError, PathError

SPLITS: Final = ("train", "test")
TEXTS: Final = "texts_txt"
HEADERS: Final = ("file", "filename", "image")
_TAIL: Final = 4096

Key = tuple[str, str]
"""Class, and file name without ending; an image and its text have the same key."""
Found = Mapping[Key, tuple[str | None, Path]]
"""Images or texts: the split, if known, and the file."""


@dataclass(frozen=True)
class TitlesReader(TokensReader):
    """Reads the title of an image from a list, as tokens."""

    def text(self, clip: Clip) -> str:
        """Return the title."""
        path = clip.files[self.role]
        key = (str(clip.label), clip.id.partition("/")[2])
        titles = _titles_in(path)
        if key not in titles:
            raise MediaError(
                path, "missing", f"has no title for {clip.id!r}", "add its line, or remove the image"
            )
        return titles[key]


@dataclass(frozen=True, kw_only=True)
class Food101(SourceDataset):
    """UPMC Food-101: images and texts of web pages about 101 dishes.

    Attributes:
        text: `titles` of the pages (`texts/train_titles.csv`, `texts/test_titles.csv`), their `texts`
            (`texts_txt/<class>/<name>.txt`), or `auto` for the titles if they exist, else the texts.
        classes: names of the classes to use; by default all.
        pixels: side of an image.
        length: number of tokens of a text.
        tokenizer: local folder of a pretrained tokenizer; by default words are hashed.
    """

    name = "food101"
    description = "UPMC Food-101: pictures of dishes and texts of web pages, 101 classes"
    modalities = ("image", "text")
    licence = "none stated; pictures and texts from the web, for research"
    source = "http://visiir.lip6.fr"
    citation = (
        "Wang, Kumar, Thome, Cord, Precioso, Recipe Recognition with Large Multimodal Food Dataset, "
        "ICMEW 2015"
    )
    bibtex = ("wang2015recipe",)
    expected = (
        "images/{train,test}/<class>/<name>.jpg, and texts/{train,test}_titles.csv or "
        "texts_txt/<class>/<name>.txt"
    )
    size = "several GB"

    text: Literal["auto", "titles", "texts"] = "auto"
    classes: tuple[str, ...] = ()
    pixels: int = 224
    length: int = 64
    tokenizer: str | None = None

    def plan(self, source: Path) -> Preparation:
        """List the samples; see `SourceDataset.plan`."""
        lists = self._lists(source)
        pictures = _pictures(source / "images")
        known = _known(source / "images")
        classes = chosen_classes(self.classes, known, "Food-101")
        texts = _titled(lists) if lists else _text_files(source / TEXTS)
        clips = [clip for clip in _clips(source, pictures, texts, lists) if clip.label in set(classes)]
        if strange := sorted({label for label, _ in texts} - set(known)):
            raise DataError(
                f"the texts of {source} are of the classes {listed(strange)}, which have no folder in "
                "images; use images and texts of the same version."
            )
        kept = {key: found for key, found in pictures.items() if key[0] in set(classes)}
        placed = [(str(split), label) for (label, _), (split, _) in kept.items()]
        check_splits(classes, placed, {split: str(source / "images" / split) for split in SPLITS})
        same = _same_pictures(kept)
        named = {(str(clip.label), clip.id.partition("/")[2]) for clip in clips}
        alone = {"without text": len(named - set(texts)), "without image": len(named - set(pictures))}
        reader = TitlesReader if lists else TokensReader
        readers = {
            "image": ImageReader(size=self.pixels),
            "text": reader(length=self.length, tokenizer=self.tokenizer),
        }
        facts = {
            "text": "titles" if lists else "texts",
            "titles": {path.name: digest(list(_titles_in(path).items())) for path in lists},
            "pictures_without_text": alone["without text"],
            "texts_without_picture": alone["without image"],
            "same_pictures_in_train_and_test": len(same),
        }
        notes = _notes(source, bool(lists) and self.text == "auto", alone, same)
        return self.preparation(clips, readers, classes, facts, notes)

    def _lists(self, source: Path) -> tuple[Path, ...]:
        """Check the source folder; return the lists of titles, or nothing if the texts are read."""
        if not (source / "images").is_dir() and all((source / split).is_dir() for split in SPLITS):
            raise PathError(f"{source} is the folder of the images; give {source.absolute().parent}.")
        check_source(source, ["images"], self.expected)
        check_source(source / "images", SPLITS, "train and test, with a folder for each class")
        lists = tuple(source / "texts" / f"{split}_titles.csv" for split in SPLITS)
        lacking = [str(path) for path in lists if not path.exists()]
        if self.text == "titles" or (self.text == "auto" and len(lacking) < len(lists)):
            if lacking:
                raise PathError(
                    f"{listed(lacking)} is missing; download it, or choose --text texts with {TEXTS}."
                )
            return lists
        if not (source / TEXTS).is_dir():
            raise PathError(f"{source} has no texts for its images; expected {self.expected}.")
        return ()


def _known(images: Path) -> list[str]:
    """Return the names of all classes."""
    return sorted(
        {entry.name for split in SPLITS for entry in visible((images / split).iterdir()) if entry.is_dir()}
    )


def _titles_in(path: Path) -> dict[Key, str]:
    """Read a list; a worker process reads it once, and again after it has changed."""
    return _titles(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _titles(path: Path, _changed: int) -> dict[Key, str]:
    """Read a list with lines `file,title,label`; `_changed` is part of the cache key."""
    check_media(path)
    found: dict[Key, str] = {}
    with (
        parsing(lambda what: DataError(f"{path} is not CSV in UTF-8 ({what}); download the list again.")),
        path.open(encoding="utf-8-sig", newline="") as stream,
    ):
        lines = csv.reader(stream)
        for row in lines:
            if not any(row) or (not found and row[0].strip().lower() in HEADERS):
                continue
            if len(row) != 3 or not row[0].strip() or not row[2].strip():
                raise DataError(
                    f"{path}, line {lines.line_num}, has {len(row)} fields or an empty one; expected "
                    "file,title,label: put titles with commas into quotes, or download the list again."
                )
            key = (row[2].strip(), Path(row[0].strip()).stem)
            if key in found:
                raise DataError(f"{path}, line {lines.line_num}, repeats {row[0]!r}; keep one of its lines.")
            found[key] = row[1]
    if not found:
        raise DataError(f"{path} lists nothing; expected lines file,title,label.")
    return found


def _titled(lists: Sequence[Path]) -> Found:
    """Return the split and the list of each title."""
    found: dict[Key, tuple[str | None, Path]] = {}
    for split, path in zip(SPLITS, lists, strict=True):
        for key in _titles_in(path):
            if key in found:
                raise DataError(f"{path} and {found[key][1]} both name {key[1]!r}; keep one of its lines.")
            found[key] = (split, path)
    return found


def _files(folder: Path, endings: Sequence[str]) -> Iterable[tuple[Key, Path]]:
    """Yield files in folders of classes, in the order of their names."""
    for place in visible(folder.iterdir()):
        for file in visible(place.iterdir()) if place.is_dir() else ():
            if file.name.lower().endswith(tuple(endings)):
                yield (place.name, file.stem), file


def _pictures(images: Path) -> Found:
    found: dict[Key, tuple[str | None, Path]] = {}
    for split in SPLITS:
        for key, file in _files(images / split, ENDINGS):
            if key in found:
                raise DataError(
                    f"{found[key][1]} and {file} have the same name, so that the image of the text is "
                    "ambiguous; keep one of them."
                )
            found[key] = (split, file)
    if not found:
        raise PathError(f"{images} holds no image; expected {{train,test}}/<class>/<name>.jpg in it.")
    return found


def _text_files(folder: Path) -> Found:
    found: Found = {key: (None, file) for key, file in _files(folder, (".txt",))}
    if not found:
        raise PathError(f"{folder} holds no text; expected <class>/<name>.txt in it.")
    return found


def _clips(source: Path, pictures: Found, texts: Found, lists: Sequence[Path]) -> Iterable[Clip]:
    """Yield a clip for each image and text; if one of them is missing, reading the clip fails."""
    for key in sorted({*pictures, *texts}):
        label, name = key
        listed_in, text = texts.get(key, (None, source / TEXTS / label / f"{name}.txt"))
        # A text without image may have no split. Its sample will be lost, so that any split is good enough.
        split = pictures[key][0] if key in pictures else listed_in or SPLITS[0]
        if listed_in not in (None, split):
            raise DataError(
                f"{text} names {name!r}, but its image is {pictures[key][1]}; use images and titles of the "
                "same version."
            )
        if lists:
            text = lists[SPLITS.index(str(split))]
        absent = source / "images" / str(split) / label / f"{name}.jpg"
        image = pictures[key][1] if key in pictures else absent
        yield Clip(f"{label}/{name}", label, {"image": image, "text": text}, split=split)


def _same_pictures(pictures: Found) -> list[tuple[Path, Path]]:
    """Return pairs of identical images of train and test.

    Only files of equal size and equal end are read completely.
    """
    train, test = ([file for of, file in pictures.values() if of == split] for split in SPLITS)
    for kept in (0, _TAIL, None):
        first = {mark: file for file in reversed(train) if (mark := _mark(file, kept))}
        marks = [(mark, file) for file in test if (mark := _mark(file, kept)) in first]
        shared = {mark for mark, _ in marks}
        train = [file for file in train if _mark(file, kept) in shared] if kept is not None else train
        test = [file for _, file in marks]
    return [(first[mark], file) for mark, file in marks if mark is not None]


def _mark(file: Path, end: int | None) -> tuple[int, bytes] | None:
    """Return size and hash of the last `end` bytes, or None for a file that cannot be used."""
    try:
        size = file.stat().st_size
        if end == 0:
            return (size, b"") if size else None
        check_media(file)
        with file.open("rb") as stream:
            stream.seek(0 if end is None else max(0, size - end))
            return size, blake2b(stream.read(), digest_size=16).digest()
    except (OSError, DataError) as error:
        check_machine(error)
        return None


def _notes(
    source: Path, auto: bool, alone: Mapping[str, int], same: Sequence[tuple[Path, Path]]
) -> Iterable[str]:
    if auto and (source / TEXTS).is_dir():
        yield f"{source} holds titles and texts; the titles are used, and --text texts uses {TEXTS}."
    for what, count in alone.items():
        if count:
            yield f"{count} {'images' if 'text' in what else 'texts'} {what} are lost."
    if same:
        names = listed([f"{one.relative_to(source)} = {two.relative_to(source)}" for one, two in same])
        yield (
            f"{len(same)} images of test are also in train, byte for byte ({names}): results on them "
            "are too good; remove them from train."
        )
