"""The learning state of a finished run and of features in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import equipoise as eq
import synthetic
from equipoise.data import RunData, load_dataset, splits_of
from equipoise.experiments.examine.saved_features import SavedFeatures

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 32, "diagnose_every": 0}


def test_a_run_is_diagnosed_with_its_kept_weights(data: str, tmp_path: Path) -> None:
    result = eq.fit(data, out=tmp_path / "run", **QUICK)
    found = eq.diagnose_run(tmp_path / "run")
    dataset = load_dataset(data)
    run = RunData(dataset, splits_of(dataset), 32)
    with torch.no_grad():
        z = torch.cat([result.model.encode(batch)["audio"] for batch in run.val])
        y = torch.cat([batch.target for batch in run.val])
    assert found["audio"].val_score == pytest.approx(eq.purity(z, y))
    assert list(found) == list(synthetic.VECTORS)
    assert eq.diagnose_run(tmp_path / "run", metric="knn")["audio"].metric == "knn"


def test_changed_data_are_detected(tmp_path: Path) -> None:
    folder = synthetic.write(tmp_path / "data").path
    eq.fit(folder, out=tmp_path / "run", **QUICK)
    eq.write_dataset(folder, *synthetic.samples(synthetic.VECTORS, 150, seed=1), overwrite=True)
    with pytest.raises(eq.RunFolderError, match="have changed"):
        eq.diagnose_run(tmp_path / "run")


def diagnose_arrays(file: Path, **options: Any) -> eq.Diagnosis:
    return eq.diagnose(*SavedFeatures(file).features(), **options)


def arrays() -> dict[str, np.ndarray]:
    (train, y), (val, y_val) = (synthetic.samples(synthetic.VECTORS, n, seed=n) for n in (90, 30))
    return {
        **{f"train_{m}": x for m, x in train.items()},
        **{f"val_{m}": x for m, x in val.items()},
        "train_labels": y,
        "val_labels": y_val,
    }


def test_a_feature_file(tmp_path: Path) -> None:
    held = arrays()
    np.savez(tmp_path / "features.npz", **held)
    found = diagnose_arrays(tmp_path / "features.npz")
    expected = eq.purity(held["train_video"], held["train_labels"])
    assert found["video"].train_score == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val_labels": None}, "lacks the array 'val_labels'"),
        ({"audio": np.zeros((3, 2))}, "holds an array 'audio'; expected train_NAME and val_NAME"),
        ({"val_audio": None}, "expected the same names"),
        ({"train_labels": np.zeros(4, dtype=int)}, "no sample|rows"),
    ],
)
def test_invalid_files(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    held = {k: v for k, v in {**arrays(), **change}.items() if v is not None}
    np.savez(tmp_path / "features.npz", **held)
    with pytest.raises(eq.DataError, match=message):
        diagnose_arrays(tmp_path / "features.npz")


def test_files_without_features(tmp_path: Path) -> None:
    with pytest.raises(eq.DataError, match="does not exist; expected an .npz file"):
        diagnose_arrays(tmp_path / "features.npz")
    (tmp_path / "features.npz").write_bytes(b"PK no zip")
    with pytest.raises(eq.DataError, match="is no .npz file, or is cut off"):
        diagnose_arrays(tmp_path / "features.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(eq.DataError, match="is no .npz file"):
        diagnose_arrays(tmp_path / "one.npy")
    np.savez(tmp_path / "objects.npz", **{**arrays(), "train_labels": np.array([{}, {}], dtype=object)})
    with pytest.raises(eq.DataError, match="cannot read"):
        diagnose_arrays(tmp_path / "objects.npz")


def test_labels_of_a_run_are_as_the_data_say(tmp_path: Path) -> None:
    """One column of 0 and 1 is two classes; a table is several labels, also where each sample has one."""
    generator = np.random.default_rng(0)
    y = np.arange(120) % 2
    inputs = {m: (generator.normal(size=(120, 4)) + y[:, None]).astype("f4") for m in ("a", "b")}
    split = np.where(np.arange(120) < 60, "train", np.where(np.arange(120) < 90, "val", "test"))
    targets = {"purity": y[:, None].astype(np.float32), "linear-map": np.eye(2, dtype=int)[y]}
    for metric, target in targets.items():
        data = eq.write_dataset(tmp_path / metric, inputs, target, split, task="multilabel")
        options = {"epochs": [0]}
        kept = tmp_path / f"{metric}-run"
        result = eq.fit(str(data.path), method="diagnose-relearn", method_options=options, out=kept, epochs=2)
        assert result.diagnoses[0]["a"].metric == metric
        assert eq.diagnose_run(kept)["a"].metric == metric
