"""Names, paths and the cache of built datasets."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any, ClassVar

import numpy as np
import pytest

import equipoise.data.load as load
from equipoise.data import DATASETS, Dataset, PreparedDataset, load_dataset, write_dataset
from equipoise.types import DataError, RunFolderError, UnknownNameError

Write = Callable[..., PreparedDataset]


class Toy(Dataset):
    """A registered dataset whose source and failures are controlled by a test."""

    name: ClassVar[str] = "toy"
    version: ClassVar[str] = "1"
    builds: ClassVar[int] = 0
    barrier: ClassVar[Barrier | None] = None
    fails: ClassVar[bool] = False

    def available(self) -> bool:
        return True

    def source_version(self) -> str:
        return self.version

    def build(self, folder: str | os.PathLike[str]) -> PreparedDataset:
        Toy.builds += 1
        if self.barrier is not None:
            self.barrier.wait(timeout=10)
        if self.fails:
            Path(folder).mkdir(parents=True)
            raise RuntimeError("the source broke off")
        return write_dataset(folder, {"a": np.arange(12.0).reshape(6, 2)}, [0, 1] * 3, name="toy")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Register `Toy`, with its own cache."""
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(DATASETS, "_loaded", {"toy": Toy})
    monkeypatch.setattr(Toy, "builds", 0)
    return tmp_path / "cache" / "datasets"


def test_the_registry_contains_htad() -> None:
    assert "htad" in DATASETS
    assert "base" not in DATASETS
    for name, entry in DATASETS.items():
        made = entry()
        assert name == made.name
        assert made.description
        assert made.modalities
        assert made.licence
        assert made.citation
        assert isinstance(made.available(), bool)
        assert made.how_to_get()


def test_a_name_is_built_once(toy: Path) -> None:
    first, second = load_dataset("toy"), load_dataset("toy")
    assert Toy.builds == 1
    assert first.path == second.path == toy.resolve() / "toy-1-v1"
    assert [path.name for path in toy.iterdir()] == ["toy-1-v1"]


def test_a_changed_source_is_built_anew(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_dataset("toy")
    monkeypatch.setattr(Toy, "version", "2")
    assert load_dataset("toy").path.name == "toy-2-v1"
    assert Toy.builds == 2


def test_two_builds_at_once(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "barrier", Barrier(2))  # both start building before either has finished
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(load_dataset, ["toy", "toy"]))
    assert Toy.builds == 2
    assert found[0].path == found[1].path
    found[0].verify()
    assert [path.name for path in toy.iterdir()] == ["toy-1-v1"]


def test_a_failed_build_leaves_no_dataset(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "fails", True)
    with pytest.raises(RuntimeError, match="broke off"):
        load_dataset("toy")
    assert list(toy.iterdir()) == []
    monkeypatch.setattr(Toy, "fails", False)
    load_dataset("toy").verify()


def test_a_damaged_copy_gives_an_error_with_a_remedy(toy: Path) -> None:
    folder = load_dataset("toy").path
    (folder / "00_a.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"cached copy: delete .*toy-1-v1 to build it again"):
        load_dataset("toy")


def test_an_unwritable_cache(toy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(RunFolderError, match=r"cannot write the cache .* another folder in EQUIPOISE_CACHE"):
        load_dataset("toy")


def test_the_cache_without_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EQUIPOISE_CACHE", raising=False)
    assert load.cache_folder().name == "equipoise"


@pytest.mark.usefixtures("toy")
def test_paths(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = write()
    assert load_dataset(dataset) is dataset
    monkeypatch.chdir(tmp_path)
    for path in (dataset.path, str(dataset.path), "set", "./set"):
        assert load_dataset(path).fingerprint == dataset.fingerprint
    write(folder=tmp_path / "toy")
    assert len(load_dataset("toy")) == 6
    assert len(load_dataset("./toy")) == 60


@pytest.mark.usefixtures("toy")
def test_arguments_that_are_not_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain").mkdir()
    for path in ("./nowhere", "no/where", "~/no-such-folder-anywhere", tmp_path / "nowhere"):
        with pytest.raises(DataError, match="does not exist"):
            load_dataset(path)
    with pytest.raises(DataError, match="is no prepared dataset"):
        load_dataset("plain")
    nonsense: list[Any] = ["toi", "", "what\0ever", None, 3]
    for name in nonsense:
        with pytest.raises(UnknownNameError, match="unknown dataset"):
            load_dataset(name)
    with pytest.raises(UnknownNameError, match="did you mean toy"):
        load_dataset("toi")
