"""UPMC Food-101 in the published layouts: real pictures, lists of titles and files of texts."""

from __future__ import annotations

import csv
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

import equipoise as eq
from equipoise.cli import main
from equipoise.data.datasets.food101 import Food101
from equipoise.data.prepare.engine import prepare
from equipoise.data.prepare.media.text import hashed_tokens
from equipoise.types import DataError, EquipoiseError, UnknownNameError, UsageError
from media_files import lfs_pointer, truncated, write_image
from processes import python

CLASSES = ("apple_pie", "crème brûlée", "sushi")
COUNTS = {"train": 8, "test": 3}
SIZE = 16


def _pixels(label: str, number: int) -> np.ndarray:
    rng = np.random.default_rng([CLASSES.index(label), number])
    return rng.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)


def _rows(split: str) -> list[tuple[str, str, str]]:
    first = 0 if split == "train" else COUNTS["train"]
    return [
        (f"{label}_{n}.jpg", f'"{label}", the {n} best; recipe', label)
        for label in CLASSES
        for n in range(first, first + COUNTS[split])
    ]


def _write_titles(folder: Path, rows: dict[str, list[tuple[str, ...]]]) -> None:
    (folder / "texts").mkdir(exist_ok=True)
    for split, lines in rows.items():
        with (folder / "texts" / f"{split}_titles.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(lines)


def _write(folder: Path, *, titles: bool = True, texts: bool = False) -> Path:
    for split in COUNTS:
        for name, _, label in _rows(split):
            number = int(Path(name).stem.rpartition("_")[2])
            # PNG with the ending .jpg, as in pictures from the web: kept, and no loss hides an error.
            write_image(folder / "images" / split / label / name, _pixels(label, number), format="PNG")
            if texts:
                file = folder / "texts_txt" / label / f"{Path(name).stem}.txt"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"page {number} of {label}", encoding="utf-8")
    if titles:
        _write_titles(folder, {split: _rows(split) for split in COUNTS})
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return _write(tmp_path / "UPMC Food 101")


@pytest.mark.parametrize("kind", ["titles", "texts"])
def test_every_sample_equals_its_files(tmp_path: Path, kind: str) -> None:
    source = _write(tmp_path / "food", titles=kind == "titles", texts=kind == "texts")
    dataset = prepare(Food101(pixels=SIZE, length=9).plan(source), tmp_path / "out", workers=1).dataset
    assert dataset.classes == CLASSES
    assert len(dataset) == 33
    assert dataset.split is not None
    for split in COUNTS:
        for name, title, label in _rows(split):
            number = int(Path(name).stem.rpartition("_")[2])
            row = dataset.ids.tolist().index(f"{label}/{Path(name).stem}")
            text = title if kind == "titles" else f"page {number} of {label}"
            assert dataset.split[row] == split
            assert dataset.classes[dataset.target[row]] == label
            expected = np.moveaxis(_pixels(label, number), -1, 0)
            assert np.array_equal(dataset.array("image")[row], expected)
            assert np.array_equal(dataset.array("text")[row], hashed_tokens(text, 9))
    assert dataset.preparation["facts"]["text"] == kind


def test_titles_take_precedence_over_texts_with_a_note(tmp_path: Path) -> None:
    source = _write(tmp_path / "food", texts=True)
    plan = Food101().plan(source)
    assert type(plan.readers["text"]).__name__ == "TitlesReader"
    assert any("titles and texts" in note for note in plan.notes)
    chosen = Food101(text="texts").plan(source)
    assert type(chosen.readers["text"]).__name__ == "TokensReader"
    assert chosen.notes == ()


def test_the_fingerprint_of_the_titles_is_stored(source: Path) -> None:
    before = Food101().plan(source).facts["titles"]
    assert Food101().plan(source).facts["titles"] == before
    rows = {split: _rows(split) for split in COUNTS}
    rows["train"][0] = (rows["train"][0][0], "another title altogether", "apple_pie")
    _write_titles(source, rows)
    after = Food101().plan(source).facts["titles"]
    assert after["train_titles.csv"] != before["train_titles.csv"]
    assert after["test_titles.csv"] == before["test_titles.csv"]


def test_a_header_and_a_byte_order_mark_are_skipped(source: Path) -> None:
    path = source / "texts" / "train_titles.csv"
    path.write_text("\ufefffile,title,label\r\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    plan = Food101().plan(source)
    assert len(plan.clips) == 33
    assert plan.notes == ()


def test_samples_with_one_modality_are_lost_and_counted(source: Path, tmp_path: Path) -> None:
    train = _rows("train")
    rows = [("apple_pie_0.jpg", " -- ", "apple_pie"), *train[2:], ("sushi_99.jpg", "raw fish", "sushi")]
    _write_titles(source, {"train": rows})  # the first title is empty, the second is missing
    plan = Food101(pixels=SIZE).plan(source)
    assert plan.facts["pictures_without_text"] == plan.facts["texts_without_picture"] == 1
    assert [note.split()[0] for note in plan.notes] == ["1", "1"]
    with pytest.raises(DataError, match="--allow-missing|allow_missing"):
        prepare(plan, tmp_path / "refused", workers=1)
    done = prepare(plan, tmp_path / "out", workers=1, allow_missing=True)
    assert len(done.dataset) == 31
    lost = {one.id: (one.reason, one.message) for one in done.summary.lost}
    assert {name: reason for name, (reason, _) in lost.items()} == {
        "apple_pie/apple_pie_0": "empty",
        "apple_pie/apple_pie_1": "missing",
        "sushi/sushi_99": "missing",
    }
    assert "train_titles.csv" in lost["apple_pie/apple_pie_1"][1]
    assert "sushi_99.jpg" in lost["sushi/sushi_99"][1]


def test_a_text_file_without_picture_and_vice_versa(tmp_path: Path) -> None:
    source = _write(tmp_path / "food", titles=False, texts=True)
    texts = source / "texts_txt" / "sushi"
    (texts / "sushi_77.txt").write_text("no picture")
    (texts / "sushi_2.txt").unlink()
    done = prepare(Food101(pixels=SIZE).plan(source), tmp_path / "out", workers=1, allow_missing=True)
    assert {one.id: Path(one.file).name for one in done.summary.lost} == {
        "sushi/sushi_77": "sushi_77.jpg",
        "sushi/sushi_2": "sushi_2.txt",
    }


def test_files_that_are_not_pictures(source: Path, tmp_path: Path) -> None:
    folder = source / "images" / "train" / "sushi"
    lfs_pointer(folder / "sushi_0.jpg")
    large = np.kron(_pixels("sushi", 1), np.ones((8, 8, 1), np.uint8))
    truncated(write_image(folder / "sushi_1.jpg", large, format="JPEG"), keep=0.8)
    (folder / "sushi_2.jpg").write_text("<!DOCTYPE html><html>not found</html>")
    (folder / "sushi_3.jpg").write_bytes(b"")
    done = prepare(Food101(pixels=SIZE).plan(source), tmp_path / "out", workers=1, allow_missing=True)
    reasons = {Path(one.file).name: one.reason for one in done.summary.lost}
    assert reasons == {
        "sushi_0.jpg": "lfs-pointer",
        "sushi_1.jpg": "truncated",
        "sushi_2.jpg": "wrong-format",
        "sushi_3.jpg": "empty",
    }
    assert all("\n" not in one.message for one in done.summary.lost)


def test_equal_pictures_in_train_and_test_are_noted(source: Path) -> None:
    train, test = (source / "images" / split / "sushi" for split in COUNTS)
    shutil.copy(train / "sushi_0.jpg", test / "sushi_8.jpg")
    # Equal size and equal last bytes do not make files equal.
    body = bytearray((train / "sushi_1.jpg").read_bytes() + bytes(9000))
    (train / "sushi_1.jpg").write_bytes(body)
    body[100] ^= 255
    (test / "sushi_9.jpg").write_bytes(body)
    plan = Food101().plan(source)
    assert plan.facts["same_pictures_in_train_and_test"] == 1
    (note,) = plan.notes
    assert "train/sushi/sushi_0.jpg = images/test/sushi/sushi_8.jpg" in note
    assert Food101(classes=CLASSES[:2]).plan(source).notes == ()


def test_a_subset_of_the_classes(source: Path) -> None:
    plan = Food101(classes=("sushi", "apple_pie")).plan(source)
    assert plan.classes == ("apple_pie", "sushi")
    assert {clip.label for clip in plan.clips} == {"apple_pie", "sushi"}
    assert len(plan.clips) == 22


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"classes": ("sushis", "apple_pie")}, UnknownNameError, "did you mean sushi"),
        ({"classes": ("sushi",)}, UsageError, "at least two"),
        ({"text": "texts"}, DataError, "no texts for its images"),
        ({"text": "captions"}, UsageError, "'titles' or 'texts'"),
        ({"pixels": 0}, UsageError, "size is 0"),
        ({"length": 0}, UsageError, "length is 0; expected a number above 0"),
    ],
)
def test_wrong_options(source: Path, options: dict, error: type[EquipoiseError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        Food101(**options).plan(source)
    assert "\n" not in str(caught.value)


def test_wrong_folders(source: Path, tmp_path: Path) -> None:
    for folder, message in (
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path, "give .*UPMC Food 101"),
        (source / "images", "folder of the images; give .*UPMC Food 101"),
    ):
        with pytest.raises(DataError, match=message):
            Food101().plan(folder)
    (source / "texts" / "test_titles.csv").unlink()
    with pytest.raises(DataError, match="test_titles.csv' is missing"):
        Food101().plan(source)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sushi_3.jpg,sushi", "line 25, has 2 fields"),
        ("sushi_3.jpg,a title, with a comma,sushi", "line 25, has 4 fields"),
        ("sushi_3.jpg,again,sushi", "line 25, repeats 'sushi_3.jpg'"),
        ("pizza_1.jpg,margherita,pizza", "classes 'pizza', which have no folder"),
        ("sushi_8.jpg,of the test,sushi", "test_titles.csv and .*train_titles.csv both name 'sushi_8'"),
        (b"\xff\xfe", "not CSV in UTF-8"),
    ],
)
def test_wrong_lists(source: Path, line: str | bytes, message: str) -> None:
    path = source / "texts" / "train_titles.csv"
    path.write_bytes(path.read_bytes() + (line.encode() if isinstance(line, str) else line))
    with pytest.raises(DataError, match=message) as caught:
        Food101().plan(source)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_lists(source: Path) -> None:
    path = source / "texts" / "train_titles.csv"
    lfs_pointer(path)
    with pytest.raises(DataError, match="Git LFS pointer"):
        Food101().plan(source)
    path.write_text("file,title,label\n")
    with pytest.raises(DataError, match="lists nothing"):
        Food101().plan(source)


def test_duplicate_names_and_empty_classes(source: Path) -> None:
    train, test = (source / "images" / split / "sushi" for split in COUNTS)
    twin = Path(shutil.copy(train / "sushi_0.jpg", train / "sushi_0.png"))
    with pytest.raises(DataError, match="have the same name"):
        Food101().plan(source)
    twin.rename(test / "sushi_0.jpg")
    with pytest.raises(DataError, match="have the same name"):
        Food101().plan(source)
    (test / "sushi_0.jpg").unlink()
    (source / "images" / "train" / "ramen").mkdir()
    with pytest.raises(DataError, match="'ramen' has no sample"):
        Food101().plan(source)


def test_a_title_of_another_split(source: Path) -> None:
    moved = source / "images" / "test" / "sushi" / "sushi_0.jpg"
    (source / "images" / "train" / "sushi" / "sushi_0.jpg").rename(moved)
    with pytest.raises(DataError, match="train_titles.csv names 'sushi_0', but its image is .*test"):
        Food101().plan(source)


def test_the_command_prepares_a_dataset_that_fit_can_use(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    command = ["-m", "equipoise", "prepare", "food101", "--source", source, "--out", out]
    small = ["--pixels", "16", "--length", "8", "--workers", "1"]
    done = python(*command, *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # The command controls how warnings are shown.
    with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
        main(["list", "datasets"])
    assert ended.value.code == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("food101 "))
    assert "yes" in row
    assert len(eq.open_dataset(out)) == 33
    fitted = eq.fit(out, epochs=1, batch_size=8, seed=0)
    assert np.isfinite(fitted.test["accuracy"])
