"""The predictions of a run for each sample, and what linear probes predict from its features."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score

import equipoise as eq
import synthetic
from equipoise.data import RunData, load_dataset, splits_of
from equipoise.models import BalancedModel
from equipoise.training.measuring.probes import probe_accuracy, probe_scores, spread_rows
from equipoise.training.record.predictions import confusion, read_predictions

QUICK: dict[str, Any] = {"epochs": 3, "batch_size": 16, "diagnose_every": 0}


@pytest.fixture(scope="module")
def result(data: str, tmp_path_factory: pytest.TempPathFactory) -> eq.FitResult:
    return eq.fit(data, out=tmp_path_factory.mktemp("predicted") / "run", **QUICK)


def opened(data: str) -> dict[str, Any]:
    dataset = load_dataset(data)
    run = RunData(dataset, splits_of(dataset), 16)
    return {"val": run.val, "test": run.open_test(), "train": run.train_eval}


def test_predictions_are_those_of_the_kept_weights(data: str, result: eq.FitResult) -> None:
    held = read_predictions(result.run_dir)
    assert held is not None
    assert set(held) == {"val", "test"}
    target = load_dataset(data).target
    for split, scores in (("val", result.validation), ("test", result.test)):
        batches = list(opened(data)[split])
        with torch.no_grad():
            logits = torch.cat([result.model(batch).logits for batch in batches]).numpy().astype(np.float64)
        y = torch.cat([batch.target for batch in batches]).numpy()
        found = held[split]
        np.testing.assert_array_equal(found.target, y)
        np.testing.assert_array_equal(found.target, target[found.index])
        np.testing.assert_array_equal(found.predicted, logits.argmax(1))
        chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        np.testing.assert_allclose(found.probability, chances[np.arange(len(y)), y], rtol=1e-5)
        assert found.probability.dtype == np.float32
        assert found.predicted.dtype == found.target.dtype == found.index.dtype == np.int64
        assert scores["accuracy"] == pytest.approx(np.mean(found.predicted == found.target))
        assert scores["macro_f1"] == pytest.approx(f1_score(y, found.predicted, average="macro"))
        assert scores["loss"] == pytest.approx(-np.log(found.probability).mean(), rel=1e-5)


def test_they_need_no_additional_pass(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full run without diagnoses and probes passes the test split once, and validation once an epoch."""
    from equipoise.training import ending

    sizes: list[int] = []
    original = BalancedModel.forward

    def counted(self: Any, batch: Any) -> Any:
        sizes.append(len(batch))
        return original(self, batch)

    monkeypatch.setattr(BalancedModel, "forward", counted)
    monkeypatch.setattr(ending, "probe_scores", lambda *_: {})
    splits = eq.fit(data, **QUICK).summary["split_sizes"]
    assert sum(sizes) == QUICK["epochs"] * splits["val"] + splits["test"]


def test_equal_runs_write_equal_bytes(data: str, result: eq.FitResult) -> None:
    again = eq.fit(data, **QUICK)
    assert (again.run_dir / "predictions.npz").read_bytes() == (
        result.run_dir / "predictions.npz"
    ).read_bytes()
    other = eq.fit(data, seed=1, **QUICK)
    first, second = read_predictions(result.run_dir), read_predictions(other.run_dir)
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first["test"].index, second["test"].index)  # runs are paired by it
    assert not np.array_equal(first["test"].probability, second["test"].probability)


def test_a_resumed_run_has_the_validation_predictions_of_its_best_epoch(data: str, out: Path) -> None:
    options: dict[str, Any] = QUICK | {"epochs": 5, "lr": 0.3, "checkpoint_every": 1}
    unbroken = eq.fit(data, **options)
    assert unbroken.best_epoch < 4

    class Killed(Exception):
        pass

    def kill(epoch: int, _: object) -> None:
        if epoch == 4:
            raise Killed

    with pytest.raises(Killed):
        eq.fit(data, out=out, on_epoch=kill, **options)
    eq.fit(data, out=out, resume=True, **options)
    assert (out / "predictions.npz").read_bytes() == (unbroken.run_dir / "predictions.npz").read_bytes()


@pytest.mark.parametrize("split", ["val", "test"])
def test_confusion(result: eq.FitResult, split: str) -> None:
    held = read_predictions(result.run_dir)
    assert held is not None
    expected = confusion_matrix(held[split].target, held[split].predicted, labels=range(3))
    np.testing.assert_array_equal(confusion(result.run_dir, split), expected)


def test_confusion_by_hand(result: eq.FitResult, tmp_path: Path) -> None:
    fake(tmp_path, [0, 0, 1, 2, 2, 2], [0, 1, 1, 0, 0, 2])
    assert confusion(tmp_path).tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [2, 0, 1, 0], [0, 0, 0, 0]]
    fake(tmp_path, [0, 4], [0, 0])
    with pytest.raises(eq.RunFolderError, match="outside 0 to 3"):
        confusion(tmp_path)
    with pytest.raises(eq.UnknownNameError, match="split"):
        confusion(tmp_path, "train")


def fake(folder: Path, target: list[int], predicted: list[int]) -> None:
    (folder / "config.yaml").write_text("data: x\n")
    (folder / "result.json").write_text(
        json.dumps({"test": {}, "validation": {}, "seed": 0, "classes": list("abcd")})
    )
    arrays = {"target": target, "predicted": predicted, "probability": np.ones(len(target), np.float32)}
    arrays["index"] = np.arange(len(target))
    np.savez(
        folder / "predictions.npz", **{f"{s}_{k}": v for s in ("val", "test") for k, v in arrays.items()}
    )


def test_missing_and_damaged_predictions(tmp_path: Path) -> None:
    with pytest.raises(eq.RunFolderError):
        read_predictions(tmp_path)
    fake(tmp_path, [0], [0])
    path = tmp_path / "predictions.npz"
    whole = path.read_bytes()
    for damaged in (b"", b"nothing", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(eq.RunFolderError, match="cannot read"):
            read_predictions(tmp_path)
    with path.open("wb") as file:
        np.save(file, np.arange(3))
    with pytest.raises(eq.RunFolderError, match="cannot read"):
        read_predictions(tmp_path)
    held = {f"{s}_{k}": [1] for s in ("val", "test") for k in ("target", "predicted", "index")}
    np.savez(path, **held)
    with pytest.raises(eq.RunFolderError, match="probability"):
        read_predictions(tmp_path)
    np.savez(path, **held, val_probability=[1.0, 2.0], test_probability=[1.0])
    with pytest.raises(eq.RunFolderError, match="expected four of one length"):
        read_predictions(tmp_path)
    path.unlink()
    assert read_predictions(tmp_path) is None
    with pytest.raises(eq.RunFolderError, match="a version that kept no predictions"):
        confusion(tmp_path)


# Probes ----------------------------------------------------------------------------------------------


def test_probes_of_a_run_equal_those_of_scikit_learn(data: str, result: eq.FitResult) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    splits = opened(data)
    for name in synthetic.VECTORS:
        with torch.no_grad():
            z = {s: torch.cat([result.model.encode(b)[name] for b in splits[s]]).numpy() for s in splits}
        y = {s: torch.cat([b.target for b in splits[s]]).numpy() for s in splits}
        scaler = StandardScaler().fit(z["train"])
        exact = LogisticRegression(tol=1e-8, max_iter=5000).fit(scaler.transform(z["train"]), y["train"])
        accuracy = exact.score(scaler.transform(z["val"]), y["val"])
        assert result.summary["probes"][name] == pytest.approx(accuracy, abs=1.01 / len(y["val"]))


def test_probes_measure_the_information_in_the_features() -> None:
    rng = np.random.default_rng(0)
    target = torch.tensor(rng.integers(0, 3, 600))
    means = rng.normal(size=(3, 10)) * 4
    told = torch.tensor(means[target.numpy()] + rng.normal(size=(600, 10)), dtype=torch.float32)
    noise = torch.tensor(rng.normal(size=(600, 10)), dtype=torch.float32)
    half = slice(None, 300), slice(300, None)
    assert probe_accuracy(told[half[0]], target[half[0]], told[half[1]], target[half[1]]) > 0.98
    assert 0.23 < probe_accuracy(noise[half[0]], target[half[0]], noise[half[1]], target[half[1]]) < 0.43
    # Neither scale nor offset of the features matters, nor do constant features.
    moved = told * 1000 - 7
    moved = torch.cat([moved, torch.ones(600, 2)], dim=1)
    assert probe_accuracy(moved[half[0]], target[half[0]], moved[half[1]], target[half[1]]) > 0.98


def test_probes_have_no_side_effects_and_are_reproducible(data: str, result: eq.FitResult) -> None:
    splits = opened(data)
    model = result.model
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stream, numpy_stream = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first = probe_scores(model, splits["train"], splits["val"])
    assert first == probe_scores(model, splits["train"], splits["val"]) == result.summary["probes"]
    assert all(part.training for part in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), stream)
    assert np.random.get_state()[1].tolist() == numpy_stream
    model.eval()


def test_each_run_has_probes_whose_passes_are_not_counted(data: str, result: eq.FitResult) -> None:
    alone = eq.fit(data, "unimodal:video", **QUICK)
    assert list(alone.summary["probes"]) == ["video"]
    assert set(eq.fit(data, "ensemble", **QUICK).summary["probes"]) == set(synthetic.VECTORS)
    assert result.summary["forward_samples"] == QUICK["epochs"] * result.summary["split_sizes"]["train"]


def test_samples_of_a_probe_are_stratified() -> None:
    target = np.array([2] * 700 + [0] * 200 + [1] * 100)
    np.random.default_rng(0).shuffle(target)
    rows = spread_rows(target, 100)
    assert len(set(rows.tolist())) == 100
    assert np.array_equal(rows, np.sort(rows))
    assert np.abs(np.bincount(target[rows]) - [20, 10, 70]).max() <= 1
    assert np.array_equal(spread_rows(target, 1000), np.arange(1000))
    assert rows.min() < 50
    assert rows.max() > 950
