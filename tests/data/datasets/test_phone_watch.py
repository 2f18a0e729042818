"""Phone and watch from an archive of windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from equipoise.data.datasets.phone_watch import ARCHIVE, SENSORS, PhoneWatch
from equipoise.data.format.splits import splits_of
from equipoise.data.prepare.engine import prepare
from equipoise.data.prepare.media.files import MediaError
from equipoise.types import PathError, UsageError
from media_files import truncated

REAL = Path(__file__).parents[4] / "shared" / "data" / ARCHIVE


def windows(people: int = 6, each: int = 9) -> dict[str, np.ndarray]:
    """Windows of people who sit, turn and walk in turns; the first value of a window is its row."""
    count = people * each
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(count, 50, 3)).astype(np.float32) for name in SENSORS}
    for sensor in arrays.values():
        sensor[:, 0, 0] = np.arange(count)
    activity = np.array(["SEATED", "SITTING_DOWN", "WALKING"])[np.arange(count) // 2 % 3]
    person = np.repeat([f"s{number:02d}" for number in range(people)], each)
    return {"y": activity, "g": person, **arrays}


def test_every_nth_window_is_used_and_people_are_groups(tmp_path: Path) -> None:
    arrays = windows()
    np.savez(tmp_path / ARCHIVE, **arrays)
    dataset = prepare(PhoneWatch(every=4).plan(tmp_path), tmp_path / "out").dataset
    assert list(dataset.modalities) == list(SENSORS)
    for name in SENSORS:
        assert np.array_equal(dataset.array(name), arrays[name][::4])
    assert dataset.classes == ("seated", "sitting down", "walking")
    rows = dataset.array("phone_acc")[:, 0, 0].astype(int)
    assert [dataset.classes[k].upper() for k in dataset.target] == [
        str(arrays["y"][row]).replace("_", " ") for row in rows
    ]
    assert dataset.group.tolist() == arrays["g"][rows].tolist()
    assert dataset.ids[1] == "s00-00004"
    splits = splits_of(dataset)
    people = [set(dataset.group[rows].tolist()) for _, rows in splits.items()]
    assert sum(map(len, people)) == 6
    assert set.union(*people) == set(arrays["g"].tolist())


def test_an_unknown_modality_is_not_normalised(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", **windows())
    plan = PhoneWatch(every=1).plan(tmp_path / "other.npz")
    with pytest.raises(UsageError, match="unknown modality 'watch': did you mean watch_"):
        prepare(plan, tmp_path / "out", normalize={"watch": "clip"})
    assert not (tmp_path / "out").exists()


def test_another_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PathError, match=f"has no '{ARCHIVE}'"):
        PhoneWatch().plan(tmp_path)
    with pytest.raises(UsageError, match="every is 0"):
        PhoneWatch(every=0)
    path, arrays = tmp_path / "other.npz", windows()
    np.savez(path, **{**arrays, "watch_acc": arrays["watch_acc"][:, :40]})
    with pytest.raises(MediaError, match=r"'watch_acc' \[54, 40, 3\]; expected \[N, 50, 3\], with N = 54"):
        PhoneWatch().plan(path)
    np.savez(path, **{**arrays, "g": arrays["g"][:-1]})
    with pytest.raises(MediaError, match=r"has 'g' \[53\]; expected \[N\], with N = 54"):
        PhoneWatch().plan(path)
    np.savez(path, y=arrays["y"])
    with pytest.raises(MediaError, match="has no array 'g', 'phone_acc', 'phone_gyro'"):
        PhoneWatch().plan(path)
    np.save(tmp_path / "one.npy", arrays["watch_acc"])
    with pytest.raises(MediaError, match="is no archive of arrays .*; expected the archive"):
        PhoneWatch().plan(tmp_path / "one.npy")
    truncated(path)
    with pytest.raises(MediaError, match=r"other\.npz"):
        PhoneWatch().plan(path)


@pytest.mark.skipif(not REAL.is_file(), reason="the windows of phone and watch are not available")
def test_real_windows_are_complete(tmp_path: Path) -> None:
    dataset = prepare(PhoneWatch().plan(REAL), tmp_path / "out").dataset
    assert len(dataset) == 1433
    assert len(set(dataset.group.tolist())) == 23
    assert dataset.classes == ("seated", "sitting down", "standing up", "turning", "walking")
    with np.load(REAL, allow_pickle=False) as arrays:
        watch, activity = arrays["watch_gyro"], arrays["y"]
    assert np.array_equal(dataset.array("watch_gyro")[100], watch[600])
    assert dataset.classes[dataset.target[100]].upper().replace(" ", "_") == activity[600]
