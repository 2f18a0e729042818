"""What a run keeps to turn new samples into inputs of its model: statistics, mean features, preparation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import equipoise as eq
from equipoise.data import RunData, splits_of
from equipoise.data.format.normalize import ClipNormalizer
from equipoise.training.record.inputs import read_inputs
from equipoise.training.record.record import INPUTS, RunRecord

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 32, "diagnose_every": 0}


def kinds(folder: Path) -> eq.PreparedDataset:
    """Write a dataset of every kind of modality and normalisation."""
    rng = np.random.default_rng(0)
    target = np.arange(90) % 3
    inputs = {
        "vector": rng.normal(5, 3, (90, 4)) + target[:, None],
        "sequence": rng.normal(size=(90, 6, 3)).astype(np.float32),
        "by clip": rng.normal(size=(90, 6, 3)).astype(np.float32),
        "image": rng.integers(0, 256, (90, 3, 8, 8), dtype=np.uint8),
        "tokens": rng.integers(1, 50, (90, 7)),
        "raw": rng.normal(size=(90, 4)).astype(np.float16),
    }
    return eq.write_dataset(
        folder,
        inputs,
        target,
        kinds={"tokens": "tokens"},
        normalize={"by clip": "clip", "raw": "none"},
        contents={"image": "frames"},
        noise={"vector": 0.5},
        preparation={"dataset": {"name": "x"}, "readers": {"vector": {}}, "lost": ["much"]},
    )


def test_they_are_those_of_the_training_split_and_the_kept_weights(tmp_path: Path) -> None:
    dataset = kinds(tmp_path / "kinds")
    result = eq.fit(dataset.path, out=tmp_path / "run", **QUICK)
    found = read_inputs(RunRecord(result.run_dir))
    assert found is not None
    data = RunData(dataset, splits_of(dataset), 32)
    assert dict(found.specs) == dataset.modalities
    assert found.preparation == {"dataset": {"name": "x"}, "readers": {"vector": {}}}
    rows = np.arange(20)
    for m, normalizer in data.normalizers.items():
        kept = found.normalizers[m]
        assert type(kept) is type(normalizer)
        stored = dataset.array(m)[rows]
        np.testing.assert_array_equal(kept(stored), normalizer(stored))
    assert isinstance(found.normalizers["by clip"], ClipNormalizer)
    with torch.no_grad():
        z = [result.model.encode(batch) for batch in data.train_eval]
    for m in dataset.modalities:
        slow = np.concatenate([one[m].numpy() for one in z]).astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(found.means[m], slow, rtol=1e-9, atol=1e-12)
        assert found.means[m].dtype == np.float64


def test_a_run_whose_features_cannot_be_probed_has_no_means(
    data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from equipoise.training import ending

    def refuse(*_: object) -> None:
        raise eq.DataError("no features")

    monkeypatch.setattr(ending, "probe_scores", refuse)
    with pytest.warns(eq.EquipoiseWarning, match="were not probed: no features"):
        result = eq.fit(data, **QUICK)
    found = read_inputs(RunRecord(result.run_dir))
    assert found is not None
    assert found.means == {}
    assert set(found.normalizers) == {"audio", "video"}


def test_damaged_and_missing_files(data: str, tmp_path: Path) -> None:
    result = eq.fit(data, out=tmp_path / "run", **QUICK)
    record = RunRecord(result.run_dir)
    path = record.path(INPUTS)
    arrays = load_file(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(eq.RunFolderError, match=r"inputs\.safetensors is not as it was written"):
        read_inputs(record)
    (result.run_dir / "result.json").unlink()  # and the seals with it
    for damaged in (b"", b"nothing"):
        path.write_bytes(damaged)
        with pytest.raises(eq.RunFolderError, match=r"cannot read .*inputs\.safetensors"):
            read_inputs(record)
    for metadata in (None, {"equipoise": "[]"}, {"equipoise": "{}"}):
        save_file(arrays, path, metadata)
        with pytest.raises(eq.RunFolderError, match=r"cannot read .*inputs\.safetensors"):
            read_inputs(record)
    path.unlink()
    assert read_inputs(record) is None
