"""Computational sequences are read as written; anything but plain arrays is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.data.prepare.media.files import MediaError
from equipoise.data.prepare.sentiment.csd import Sequence, average_over, open_csd
from equipoise.types import DataError

h5py = pytest.importorskip("h5py")


def write_csd(path: Path, name: str, videos: dict[str, tuple[Any, Any]]) -> Path:
    with h5py.File(path, "w") as file:
        root = file.create_group(name)
        root.create_group("metadata")["md version"] = '"1"'
        for video, (features, intervals) in videos.items():
            group = root.create_group(f"data/{video}")
            group["features"], group["intervals"] = features, np.asarray(intervals, dtype=np.float64)
    return path


def test_a_sequence_is_read_in_order_of_time(tmp_path: Path) -> None:
    features = np.arange(6, dtype=np.float32).reshape(3, 2)
    path = write_csd(tmp_path / "a.csd", "COVAREP", {"v": (features, [[2, 3], [0, 1], [1, 2]])})
    with open_csd(path) as sequence:
        assert (sequence.videos, sequence.holds_words) == (["v"], False)
        assert "v" in sequence
        assert "w" not in sequence
        read = sequence.read("v")
    np.testing.assert_array_equal(read.features, features[[1, 2, 0]])
    np.testing.assert_array_equal(read.intervals, [[0, 1], [1, 2], [2, 3]])


def test_words_are_read_as_bytes(tmp_path: Path) -> None:
    path = write_csd(tmp_path / "w.csd", "words", {"v": (np.array([[b"sp"], [b"hi"]]), [[0, 1], [1, 2]])})
    with open_csd(path) as sequence:
        assert sequence.holds_words
        assert sequence.read("v").features.ravel().tolist() == [b"sp", b"hi"]


def test_averages_agree_with_the_definition() -> None:
    rng = np.random.default_rng(1)
    begins = np.sort(rng.uniform(0, 10, 40))
    intervals = np.stack([begins, begins + rng.uniform(0, 2, 40)], axis=1)  # ends in no order
    features = rng.normal(size=(40, 3))
    edges = np.sort(rng.uniform(0, 12, 16))
    windows = np.stack([edges[:-1], edges[1:]], axis=1)
    means = average_over(Sequence(features, intervals), windows)
    for t, (begin, end) in enumerate(windows):
        rows = [features[i] for i, (a, b) in enumerate(intervals) if a < end and b > begin]
        np.testing.assert_allclose(means[t], np.mean(rows, axis=0) if rows else np.zeros(3))


def test_intervals_that_only_touch_do_not_overlap_and_instants_count_once() -> None:
    sequence = Sequence(np.array([[1.0], [10.0], [100.0]]), np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 2.0]]))
    means = average_over(sequence, np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]))
    assert means.ravel().tolist() == [1.0, 55.0, 0.0]


def test_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    write_csd(tmp_path / "other.csd", "X", {"v": (np.ones((1, 1)), [[0, 1]])})
    path = write_csd(tmp_path / "a.csd", "X", {"u": (np.ones((1, 1)), [[0, 1]])})
    with h5py.File(path, "a") as file:
        file["X/data/v"] = h5py.ExternalLink("other.csd", "/X/data/v")
        group = file.create_group("X/data/w")
        group["features"] = h5py.ExternalLink("other.csd", "/X/data/v/features")
        group["intervals"] = np.array([[0.0, 1.0]])
    with open_csd(path) as sequence:
        assert sequence.videos == ["u", "w"]
        assert "v" not in sequence
        with pytest.raises(DataError, match="no features in this file"):
            sequence.read("w")


def test_references_and_raw_external_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csd"
    (tmp_path / "raw").write_bytes(np.ones(1).tobytes())
    with h5py.File(path, "w") as file:
        good = file.create_group("X/data/a")
        good["features"], good["intervals"] = np.ones((1, 1)), np.array([[0.0, 1.0]])
        bad = file.create_group("X/data/b")
        bad.create_dataset("features", data=np.array([[file.ref]], dtype=h5py.ref_dtype))
        bad["intervals"] = np.array([[0.0, 1.0]])
        raw = file.create_group("X/data/c")
        raw.create_dataset("features", (1, 1), "f8", external=[(str(tmp_path / "raw"), 0, 8)])
        raw["intervals"] = np.array([[0.0, 1.0]])
    with open_csd(path) as sequence:
        with pytest.raises(DataError, match="expected numbers or words"):
            sequence.read("b")
        with pytest.raises(DataError, match="another file"):
            sequence.read("c")


def test_invalid_sequences_are_refused_by_name(tmp_path: Path) -> None:
    path = write_csd(tmp_path / "a.csd", "X", {"v": (np.ones((3, 2)), [[0, 1], [1, 2]])})
    with open_csd(path) as sequence, pytest.raises(DataError, match=r"'v' has features \[3, 2\]"):
        sequence.read("v")
    with h5py.File(tmp_path / "b.csd", "w") as file:
        file["numbers"] = np.ones(3)
    with pytest.raises(DataError, match="group 'data'"), open_csd(tmp_path / "b.csd"):
        pass


def test_damaged_files_are_named(tmp_path: Path) -> None:
    whole = write_csd(tmp_path / "a.csd", "X", {"v": (np.ones((300, 20)), np.ones((300, 2)))})
    cases = {"truncated": whole.read_bytes()[:9000], "wrong-format": b"no HDF5 at all" * 9, "empty": b""}
    for reason, content in cases.items():
        path = tmp_path / f"{reason}.csd"
        path.write_bytes(content)
        with pytest.raises(MediaError) as caught, open_csd(path):
            pass
        assert (caught.value.reason, caught.value.file) == (reason, str(path))
