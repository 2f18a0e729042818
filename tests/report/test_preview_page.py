"""The page of a prepared dataset: pictures by pixel, lengths and values by hand, training samples only."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest

from equipoise.data import PreparedDataset, open_dataset, write_dataset
from equipoise.data.format.modality import Layout
from equipoise.report import write_preview
from equipoise.report.html import render
from equipoise.report.pages.preview import preview_page
from equipoise.report.pictures import GAP, Picture, picture
from equipoise.report.text.prepared import lengths

SPLIT = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
Image = pytest.importorskip("PIL.Image")


def pixels(drawn: Picture) -> np.ndarray:
    """Decode a picture to `[H, W, 3]`."""
    content = base64.b64decode(drawn.source.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """Twelve samples with a modality of each kind; values outside the training split are far away."""
    rng = np.random.default_rng(0)
    far = np.array([0] * 6 + [1000] * 6)
    tokens = np.array([[3, 4, 0, 0], [5, 0, 0, 0], [6, 7, 0, 8], *[[1, 2, 3, 4]] * 9])
    sequence = rng.normal(size=(12, 5, 2)) + 1
    sequence[0, 3:] = 0
    inputs = {
        "rgb": rng.integers(0, 256, (12, 2, 3, 4, 6), dtype=np.uint8),
        "flow": rng.integers(0, 256, (12, 2, 2, 4, 6), dtype=np.uint8),
        "sound": rng.normal(size=(12, 1, 4, 5)),
        "words": tokens,
        "imu": sequence,
        "omics": np.arange(12 * 70).reshape(12, 70) % 7 + far[:, None],
    }
    contents = {"rgb": "frames", "flow": "flow", "sound": "spectrogram"}
    out = tmp_path_factory.mktemp("sets") / "all kinds"
    ids = [f"{split}-{row}" for row, split in enumerate(SPLIT)]
    return write_dataset(
        out, inputs, ["a", "b", "c"] * 4, SPLIT, ids=ids, kinds={"words": "tokens"}, contents=contents
    )


def test_frames_are_side_by_side_pixel_by_pixel() -> None:
    video = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 6), dtype=np.uint8)
    drawn = picture(video, Layout(video.shape, "uint8", "video", content="frames"))
    found = pixels(drawn)
    assert found.shape == (4, 2 * 6 + GAP, 3)
    for place in range(2):
        left = place * (6 + GAP)
        assert np.array_equal(found[:, left : left + 6], video[place].transpose(1, 2, 0))
    assert (drawn.width, drawn.height) == (24 * (2 * 6 + GAP), 24 * 4)
    long = np.repeat(np.arange(30, dtype=np.uint8), 4).reshape(30, 1, 2, 2)
    found = pixels(picture(long, Layout(long.shape, "uint8", "video")))
    assert found[0, :: 2 + GAP, 0].tolist() == [0, 3, 5, 8, 11, 13, 16, 18, 21, 24, 26, 29]


def test_flow_has_the_hue_of_its_direction_and_the_brightness_of_its_speed() -> None:
    motion = {(10, 0): (255, 0, 0), (0, 10): (128, 255, 0), (-10, 0): (0, 255, 255), (0, 0): (0, 0, 0)}
    motion[5, 0] = (128, 0, 0)
    flow = np.array(list(motion), dtype=np.float32).T.reshape(1, 2, 1, 5)
    found = pixels(picture(flow, Layout(flow.shape, "float32", "video", content="flow")))
    assert np.abs(found[0].astype(int) - list(motion.values())).max() <= 6  # pillow has 255 hues
    still = np.random.default_rng(0).integers(127, 129, (1, 2, 8, 8)).astype(np.uint8)
    found = pixels(picture(still, Layout(still.shape, "uint8", "video", content="flow")))
    assert found.max() < 128  # the rounding of no motion is not stretched to full brightness


def test_spectrograms_have_low_frequencies_at_the_bottom() -> None:
    sound = np.array([[[-3.0, -3], [-1, -1], [1, 1]]])
    found = pixels(picture(sound, Layout(sound.shape, "float32", "image", content="spectrogram")))
    assert found[:, 0, 0].tolist() == [255, 128, 0]
    flat = np.full((2, 4, 4), 5.0)
    assert pixels(picture(flat, Layout(flat.shape, "float32", "image"))).max() == 0


def test_large_frames_are_reduced() -> None:
    image = np.zeros((3, 480, 640), np.uint8)
    drawn = picture(image, Layout(image.shape, "uint8", "image", content="frames"))
    assert pixels(drawn).shape == (96, 128, 3)
    assert (drawn.width, drawn.height) == (128, 96)


def test_lengths_count_no_zeros_at_the_end() -> None:
    assert lengths(np.array([[3, 4, 0, 0], [6, 0, 0, 8], [0, 0, 0, 0]])).tolist() == [2, 4, 0]
    assert lengths(np.array([[[0.0, 1], [0, 0]], [[0, 0], [-1, 0]]])).tolist() == [1, 2]


def test_only_training_samples_are_shown_and_described(dataset: PreparedDataset) -> None:
    page = preview_page(dataset)
    html = render(page)
    shown = set(re.findall(r"\b(?:train|val|test)-\d+", html))
    assert shown == {f"train-{row}" for row in range(6)}
    table = {row[0].text: [cell.text for cell in row] for row in page.tables[0].rows}
    assert table["omics"][4] == "0 to 6"  # 1000 and more outside of training
    assert table["words"][3] == "1, 4, 4"
    assert table["imu"][3] == "3, 5, 5"
    assert table["rgb"][1:4] == [" \N{MULTIPLICATION SIGN} ".join("2346"), "uint8", "2"]
    counts = {row[0].text: [cell.value for cell in row[1:]] for row in page.tables[1].rows}
    assert counts == {name: [2, 1, 1] for name in "abc"} | {"all samples": [6, 3, 3]}


def test_each_kind_has_its_picture(dataset: PreparedDataset) -> None:
    html = render(preview_page(dataset))
    assert html.count('<img src="data:image/png;base64,') == 3 * 6
    assert "<script" not in html
    assert '<p class="tokens">3 4</p>' in html  # without padding
    assert "the first 64 of 70 features" in html
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert html.count('class="diagram"') == 2


def test_many_classes_open_on_demand_and_other_targets_have_a_page(tmp_path: Path) -> None:
    split = ["train"] * 40 + ["val"] * 40 + ["test"] * 40
    inputs = {"x": np.random.default_rng(0).normal(size=(120, 2))}
    many = preview_page(write_dataset(tmp_path / "many", inputs, list(range(40)) * 3, split))
    assert [len(table.rows) for table in many.folds[0].tables] == [41]
    assert len(many.tables) == 1
    numbers = write_dataset(tmp_path / "numbers", inputs, np.arange(120.0), split, task="regression")
    assert "39: 39" in render(preview_page(numbers))
    labels = np.tile([[1, 0], [1, 1], [0, 1], [0, 0]], (30, 1))
    labels[16] = 1
    several = write_dataset(tmp_path / "labels", inputs, labels, split, task="multilabel", classes=["p", "q"])
    page = preview_page(several)
    assert [[cell.value for cell in row[1:]] for row in page.tables[1].rows] == [
        [20] * 3,
        [21, 20, 20],
        [40] * 3,
    ]
    html = render(page)
    assert "p: 8" in html
    assert "p and q: 16" in html
    assert "no label: 23" in html


def test_a_dataset_with_a_preview_may_be_replaced(tmp_path: Path) -> None:
    values, target = np.random.default_rng(0).normal(size=(30, 2)), [0, 1] * 15
    page = write_preview(write_dataset(tmp_path / "set", {"x": values}, target))
    assert page == tmp_path.resolve() / "set" / "preview.html"
    assert "drawn" in page.read_text(encoding="utf-8")
    write_dataset(tmp_path / "set", {"x": values}, target, overwrite=True)
    assert not page.exists()
    assert len(open_dataset(tmp_path / "set")) == 30
