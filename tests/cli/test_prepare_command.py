"""`equipoise prepare` as a user sees it, with one of the datasets in its official layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from equipoise.data import load_dataset, open_dataset
from media_files import lfs_pointer, moving_square, tone, write_video, write_wav

EMOTIONS = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
NAMES = [f"{actor}_DFA_{emotion}_XX" for actor in range(1001, 1011) for emotion in EMOTIONS]
SMALL = ["--pixels", "16", "--frames", "2"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten actors of CREMA-D in the official layout."""
    folder = tmp_path_factory.mktemp("CREMA D")
    for number, name in enumerate(NAMES):
        write_wav(folder / "AudioWAV" / f"{name}.wav", tone(200 + 10 * number, 16000, 0.5), 16000)
        frames = np.roll(moving_square(6, 32, 48), number, axis=2)
        write_video(folder / "VideoFlash" / f"{name}.flv", frames, 10)
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_a_download_becomes_a_dataset(equipoise, tmp_path: Path, clips: Path) -> None:
    ended = equipoise(
        "prepare", "cremad", "--source", clips, "--out", "set", "--workers", "1", "--preview", *SMALL
    )
    assert ended.code == 0, ended.err
    for words in ("60 samples", "train", "note:", "equipoise compare --data set", "6 in all"):
        assert words in ended.out
    dataset = open_dataset(tmp_path / "set")
    assert sorted(dataset.ids.tolist()) == sorted(NAMES)
    page = (tmp_path / "set" / "preview.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 2 * 6  # spectrograms and frames of six classes
    assert f"{tmp_path.resolve() / 'set' / 'preview.html'}" in "".join(ended.out.splitlines())
    assert dataset.modalities["video"].shape == (2, 3, 16, 16)
    again = equipoise("prepare", "cremad", "--source", clips, "--out", "set", *SMALL)
    assert again.code == 2
    assert "set is not empty" in again.err


def test_a_prepared_dataset_is_known_by_name(equipoise, clips: Path) -> None:
    assert "no" in _row_of(equipoise("list", "datasets").out, "cremad")
    ended = equipoise("train", "--data", "cremad", "--epochs", "1")
    assert ended.code == 2
    assert "equipoise prepare cremad --source DIR" in ended.err
    assert equipoise("prepare", "cremad", "--source", clips, "--workers", "1", *SMALL).code == 0
    assert "yes" in _row_of(equipoise("list", "datasets").out, "cremad")
    assert load_dataset("cremad").name == "cremad"


def test_lost_samples_are_named_and_may_be_allowed(equipoise, tmp_path: Path, clips: Path) -> None:
    broken = tmp_path / "broken"
    for kind in ("AudioWAV", "VideoFlash"):
        (broken / kind).mkdir(parents=True)
        for file in (clips / kind).iterdir():
            (broken / kind / file.name).write_bytes(file.read_bytes())
    lfs_pointer(broken / "VideoFlash" / f"{NAMES[0]}.flv")
    words = ["prepare", "cremad", "--source", broken, "--out", "set", "--workers", "1", *SMALL]
    ended = equipoise(*words)
    assert ended.code == 1
    assert len(ended.err.strip().splitlines()) == 1
    for text in ("1 of 60 samples", "Git LFS", f"{NAMES[0]}.flv", "git lfs pull", "--allow-missing"):
        assert text in ended.err
    ended = equipoise(*words, "--allow-missing")
    assert ended.code == 0
    assert "1 samples are not in the dataset" in ended.out
    assert "1 read in" in ended.out  # the other 59 were read before
    assert len(open_dataset(tmp_path / "set")) == 59


def test_with_too_many_lost_samples_each_gets_its_line(equipoise, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(
        "clip,target\n" + "".join(f"{number}.npy,{'ab'[number % 2]}\n" for number in range(20))
    )
    for number in range(15):
        np.save(tmp_path / f"{number}.npy", np.zeros(3, np.float32))
    words = ["prepare", "table", "--source", "table.csv", "--modalities-from", "clip=array"]
    ended = equipoise(*words, "--out", "set", "--workers", "1")
    assert ended.code == 1
    *lines, last = ended.err.strip().splitlines()
    assert [f"{number}.npy is missing" in line for number, line in enumerate(lines, start=15)] == [True] * 5
    assert last.startswith("equipoise: 5 of 20 samples")
    assert not (tmp_path / "set").exists()


def test_the_normalisation_is_chosen_by_modality(equipoise, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "clip,x,target\n" + "".join(f"{n}.npy,{n},{'ab'[n % 2]}\n" for n in range(4))
    )
    for number in range(4):
        np.save(tmp_path / f"{number}.npy", np.arange(6.0).reshape(3, 2) + number)
    words = ["prepare", "table", "--source", "t.csv", "--modalities-from", "clip=array", "x=numbers"]
    words += ["--workers", "1", "--out", "set", "--normalize"]
    for wrong, code, message in (
        ("clip", 1, "'x' is a vector"),
        ("=clip", 2, "MODALITY=WORD"),
        ("clp=clip", 2, "unknown modality 'clp': did you mean clip?"),
    ):
        ended = equipoise(*words, wrong)
        assert (ended.code, len(ended.err.strip().splitlines())) == (code, 1)
        assert message in ended.err
        assert not (tmp_path / "set").exists()
    assert equipoise(*words, "clip=clip", "x=none").code == 0
    dataset = open_dataset(tmp_path / "set")
    assert {name: spec.normalize for name, spec in dataset.modalities.items()} == {
        "clip": "clip",
        "x": "none",
    }


def test_options_may_be_in_a_file(equipoise, tmp_path: Path, clips: Path) -> None:
    (tmp_path / "small.yaml").write_text("pixels: 12\nframes: 1\nworkers: 1\n")
    ended = equipoise("prepare", "cremad", "--source", clips, "--out", "set", "--config", "small.yaml")
    assert ended.code == 0, ended.err
    assert open_dataset(tmp_path / "set").modalities["video"].shape == (1, 3, 12, 12)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["prepare", "cremadd", "--source", "x"], 2, "cremad"),
        (["prepare", "cremad"], 2, "--source"),
        (["prepare", "cremad", "--source", "nowhere"], 2, "nowhere"),
        (["prepare", "cremad", "--source", "empty"], 2, "AudioWAV"),
        (["prepare", "cremad", "--source", "empty", "--recipe", "mel"], 2, "mel"),
        (["prepare", "cremad", "--source", "empty", "--pixel", "3"], 2, "--pixel"),
    ],
)
def test_mistakes(equipoise, tmp_path: Path, words: list[str], code: int, message: str) -> None:
    (tmp_path / "empty").mkdir()
    ended = equipoise(*words)
    assert ended.code == code
    assert message in ended.err + ended.out
    assert "Traceback" not in ended.err + ended.out
    assert [file.name for file in tmp_path.iterdir()] == ["empty"]


def test_help_lists_the_options_of_the_dataset(equipoise) -> None:
    ended = equipoise("prepare", "cremad", "--help")
    for words in ("--split-files", "--allow-missing", "AudioWAV", "Licence"):
        assert words in ended.out


def _row_of(table: str, name: str) -> str:
    lines = table.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(name))
    return "\n".join(lines[first : first + 1])
