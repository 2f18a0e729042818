"""UCF-101 in its official layout: real AVI files, official lists, computed and ready-made flow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from equipoise.data import splits_of
from equipoise.data.datasets.ucf101 import UCF101
from equipoise.data.prepare.engine import Prepared, prepare
from equipoise.types import DataError, EquipoiseError, PathError, UnknownNameError, UsageError
from media_files import lfs_pointer, write_image, write_video

CLASSES = ("ApplyEyeMakeup", "HandstandPushups", "YoYo")
RIGHT = {"ApplyEyeMakeup": 0.0, "HandstandPushups": 1.5, "YoYo": -2.0}
LISTS = Path(__file__).parents[4] / "shared" / "data" / "splits"
SIZE = 48


def _texture(seed: int) -> np.ndarray:
    rough = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(SIZE, 64)), 2, mode="wrap")
    return 128 + rough * (50 / rough.std())


def _frames(label: str, seed: int) -> np.ndarray:
    gray = [ndimage.shift(_texture(seed), (0, t * RIGHT[label]), order=5, mode="grid-wrap") for t in range(9)]
    return np.stack([np.clip(np.round(gray), 0, 255).astype(np.uint8)] * 3, axis=-1)


def _videos() -> list[tuple[str, str, str, int]]:
    """Return list, class, name and seed: groups 1 and 2 for the test, 3 to 7 for training."""
    rows = []
    for c, label in enumerate(CLASSES):
        for group in range(1, 8):
            for clip in (1, 2):
                # The archive and its lists spell one class differently.
                name = f"v_{label}_g{group:02d}_c{clip:02d}"
                rows.append(("test" if group < 3 else "train", label, name, 100 * c + 10 * group + clip))
    return rows


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("UCF 101")
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for split, label, name, seed in _videos():
        stored = name.replace("Pushups", "PushUps")
        write_video(folder / "UCF-101" / label / f"{stored}.avi", _frames(label, seed), 25)
        number = f" {CLASSES.index(label) + 1}" if split == "train" else ""
        lines[split].append(f"{label}/{name}.avi{number}")
    lists = folder / "ucfTrainTestlist"
    lists.mkdir()
    for split, rows in lines.items():
        (lists / f"{split}list01.txt").write_text("\r\n".join(rows) + "\r\n")
    (lists / "classInd.txt").write_text("".join(f"{n} {c}\n" for n, c in enumerate(CLASSES, 1)))
    return folder


@pytest.fixture(scope="module")
def prepared(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    out = tmp_path_factory.mktemp("out") / "ucf"
    return prepare(
        UCF101(pixels=SIZE, frames=2, moments=4, stack=3, flow_method="dis").plan(source), out, workers=1
    )


def test_every_frame_equals_that_of_its_file(prepared: Prepared) -> None:
    dataset = prepared.dataset
    rgb = dataset.array("rgb")
    assert dataset.classes == CLASSES
    for _, label, name, seed in _videos():
        row = dataset.ids.tolist().index(name)
        expected = np.moveaxis(_frames(label, seed)[[2, 6]][:, :, 8:56], -1, 1)
        assert np.array_equal(rgb[row], expected)
        assert dataset.classes[dataset.target[row]] == label


def test_flow_equals_the_rendered_motion(prepared: Prepared) -> None:
    dataset = prepared.dataset
    assert dataset.modalities["flow"].shape == (4, 6, SIZE, SIZE)
    for row, target in enumerate(dataset.target):
        motion = (dataset.array("flow")[row] * (40 / 255) - 20)[:, :, 12:-12, 12:-12].mean(axis=(0, 2, 3))
        assert np.abs(motion - [RIGHT[CLASSES[target]], 0] * 3).max() < 0.25
    assert dataset.preparation["readers"]["flow"]["method"] == "dis"


def test_groups_are_in_one_split_each(prepared: Prepared) -> None:
    dataset = prepared.dataset
    assert prepared.summary.notes == ()
    splits = splits_of(dataset, seed=3)
    assert dataset.group is not None
    train, val, test = (set(dataset.group[rows].tolist()) for _, rows in splits.items())
    assert train
    assert val
    assert not train & val
    assert not (train | val) & test
    assert dataset.preparation["facts"]["shared_groups"] == {"train and test": 0}
    assert dataset.preparation["facts"]["clips_in_no_list"] == 0


@pytest.mark.parametrize("layout", ["a folder a video", "two folders"])
def test_ready_made_flow(source: Path, tmp_path: Path, layout: str) -> None:
    rng = np.random.default_rng(0)
    pictures = {}
    for _, _, name, _ in _videos():
        pictures[name] = rng.integers(0, 256, (2, 5, 8, 8)).astype(np.uint8)
        stored = name.replace("Pushups", "PushUps")  # spelt as the archive of videos is
        for axis, letter in enumerate("uv"):
            for t in range(5):
                one = tmp_path / "flow" / stored / f"flow_{'xy'[axis]}_{t + 1:04d}.png"
                two = tmp_path / "flow" / letter / stored / f"frame{t + 1:06d}.png"
                write_image(two if layout == "two folders" else one, pictures[name][axis, t])
    dataset = prepare(
        UCF101(pixels=8, frames=1, moments=1, stack=2, flow="images", flow_root=str(tmp_path / "flow")).plan(
            source
        ),
        tmp_path / "out",
        workers=1,
    ).dataset
    for row, name in enumerate(dataset.ids.tolist()):
        expected = pictures[name][:, 2:4].transpose(1, 0, 2, 3).reshape(1, 4, 8, 8)
        assert np.array_equal(dataset.array("flow")[row], expected)


def test_a_subset_of_the_classes_without_flow(source: Path) -> None:
    plan = UCF101(classes=("YoYo", "ApplyEyeMakeup"), flow="none").plan(source)
    assert plan.classes == ("ApplyEyeMakeup", "YoYo")
    assert list(plan.readers) == ["rgb"]
    assert len(plan.clips) == 28


def test_flow_has_its_own_number_of_moments(source: Path) -> None:
    usual = UCF101(flow_method="dis").plan(source).readers
    assert [usual[name].layout.shape[0] for name in ("rgb", "flow")] == [3, 12]
    paper = UCF101(flow_method="dis", moments=3).plan(source).readers
    assert [paper[name].layout.shape[0] for name in ("rgb", "flow")] == [3, 3]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fold": 2}, DataError, "trainlist02.txt is not in"),
        ({"classes": ("ApplyEyeMake", "YoYo")}, UnknownNameError, "did you mean ApplyEyeMakeup"),
        ({"classes": ("YoYo",)}, UsageError, "at least two"),
        ({"flow": "images"}, UsageError, "flow_root"),
        (
            {"flow": "images", "flow_root": "nowhere"},
            PathError,
            "nowhere does not exist; expected",
        ),
        ({"lists": "nowhere"}, DataError, "download the official lists"),
        ({"pixels": 0}, UsageError, "size is 0"),
    ],
)
def test_mistakes(source: Path, options: dict, error: type[EquipoiseError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        UCF101(**options).plan(source)
    assert "\n" not in str(caught.value)


def test_wrong_folders_and_files(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        UCF101().plan(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds none of the 42 listed clips"):
        UCF101(lists=str(source / "ucfTrainTestlist")).plan(tmp_path / "empty")
    lists = tmp_path / "lists"
    lists.mkdir()
    for file in (source / "ucfTrainTestlist").iterdir():
        (lists / file.name).write_bytes(file.read_bytes())
    (lists / "testlist01.txt").write_text("not/a video\n")
    with pytest.raises(DataError, match="has the line 'not/a video'"):
        UCF101(lists=str(lists)).plan(source)
    lfs_pointer(lists / "testlist01.txt")
    with pytest.raises(DataError, match="git lfs pull"):
        UCF101(lists=str(lists)).plan(source)


@pytest.mark.skipif(not LISTS.is_dir(), reason="the official lists are not available")
@pytest.mark.parametrize("fold", [1, 2, 3])
def test_the_official_lists(tmp_path: Path, fold: int) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    for file in LISTS.glob("ucf101_*.txt"):
        (lists / file.name.removeprefix("ucf101_")).write_bytes(file.read_bytes())
    source = tmp_path / "UCF-101"
    source.mkdir()
    (source / "v_YoYo_g25_c05.avi").write_bytes(b"RIFF")
    plan = UCF101(fold=fold, lists=str(lists)).plan(source)
    assert plan.classes is not None
    assert (len(plan.clips), len(plan.classes)) == (13320, 101)
    counts = {split: sum(clip.split == split for clip in plan.clips) for split in ("train", "test")}
    assert counts == {1: {"train": 9537, "test": 3783}, 2: {"train": 9586, "test": 3734}}.get(
        fold, {"train": 9624, "test": 3696}
    )
    assert plan.facts["shared_groups"] == {"train and test": 0}
