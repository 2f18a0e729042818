"""Too many open files are said as what they are: nothing is wrong with the file."""

from __future__ import annotations

import os
import pickle
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import synthetic
from equipoise.cli import main
from equipoise.data import open_dataset
from equipoise.data.prepare.media.archives import read_archive
from equipoise.data.prepare.media.audio import read_audio
from equipoise.data.prepare.media.images import read_image
from equipoise.data.prepare.media.video import read_frames
from equipoise.data.prepare.readers.table import array_in
from equipoise.data.prepare.readers.table_file import read_table
from equipoise.data.prepare.sentiment.csd import open_csd
from equipoise.data.prepare.sentiment.pickles import read_pickle
from equipoise.experiments.compare.comparison import read_comparison
from equipoise.experiments.examine.saved_features import SavedFeatures
from equipoise.types import MachineLimitError
from media_files import moving_square, tone, write_image, write_video, write_wav

EARLIER = Path(__file__).parents[1] / "support" / "earlier" / "comparison"


@contextmanager
def no_more_files() -> Iterator[None]:
    """No file can be opened in the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.open(os.devnull, os.O_RDONLY)]
    highest = max(held[0], *(int(one.name) for one in Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        while True:
            try:
                held.append(os.dup(held[0]))
            except OSError:
                break
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in held:
            os.close(number)


def files(folder: Path) -> dict[str, Callable[[], Any]]:
    """Whole files of every kind, and how each is read."""
    h5py = pytest.importorskip("h5py")
    x, y = np.ones((6, 2), np.float32), np.array([0, 1] * 3)
    np.save(folder / "a.npy", x)
    np.savez(folder / "a.npz", train_a=x, val_a=x, train_labels=y, val_labels=y)
    (folder / "a.csv").write_text("id,label\na,1\nb,2\n")
    (folder / "a.pkl").write_bytes(pickle.dumps({"a": x}))
    with h5py.File(folder / "a.csd", "w") as file:
        group = file.create_group("COVAREP/data/v")
        group["features"], group["intervals"] = x, x
    image = write_image(folder / "a.png", moving_square(1, 16, 16)[0])
    sound = write_wav(folder / "a.wav", tone(440, 8000, 0.1), 8000)
    video = write_video(folder / "a.avi", moving_square(3, 16, 16))
    dataset = synthetic.write(folder / "set")

    def csd() -> None:
        with open_csd(folder / "a.csd") as sequence:
            sequence.read("v")

    return {
        "npy": lambda: array_in(folder / "a.npy"),
        "npz": lambda: read_archive(folder / "a.npz", {"train_a": ("N", "d")}, "an archive"),
        "features": lambda: SavedFeatures(folder / "a.npz").features().train["a"],
        "csv": lambda: read_table(folder / "a.csv"),
        "pickle": lambda: read_pickle(folder / "a.pkl"),
        "csd": csd,
        "image": lambda: read_image(image, 8),
        "sound": lambda: read_audio(sound, 4000),
        "video": lambda: read_frames(video, 2, 8),
        "dataset": lambda: open_dataset(dataset.path),
        "comparison": lambda: read_comparison(EARLIER),
    }


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files by /proc")
def test_too_many_open_files_are_no_damaged_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    readers = files(tmp_path)
    for read in readers.values():
        read()  # whatever it imports is there
    said = {}
    with no_more_files():
        for name, read in readers.items():
            try:
                read()
            except MachineLimitError as error:
                said[name] = str(error)
        with pytest.raises(SystemExit) as ended:
            main(["diagnose", "--features", "a.npz"])
    assert set(said) == set(readers)
    for text in said.values():
        assert "too many files are open in this process" in text
        assert "ulimit -n" in text
    assert ended.value.code == 1
    assert "too many files are open" in capsys.readouterr().err
