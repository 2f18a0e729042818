"""A run's model predicts what its record says, without its data, and explains it by a slow definition."""

from __future__ import annotations

import json
import math
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import equipoise as eq
import other_tasks
import synthetic
from equipoise.data import RunData, load_dataset, splits_of
from equipoise.diagnosis.contribution.subset_queries import Choices
from equipoise.training.record.predictions import read_predictions

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 32, "diagnose_every": 0}


@pytest.fixture(scope="module")
def result(data: str, tmp_path_factory: pytest.TempPathFactory) -> eq.FitResult:
    return eq.load_run(eq.fit(data, out=tmp_path_factory.mktemp("used") / "run", **QUICK).run_dir)


def contributions(table: pd.DataFrame) -> pd.DataFrame:
    names = [name for name in table if str(name).startswith("contribution:")]
    return table[names].rename(columns=lambda name: name.removeprefix("contribution:"))


def assert_as_recorded(result: eq.FitResult, data: Any, **how: Any) -> pd.DataFrame:
    """Compare predictions of the test split, and of validation, with those of the record, bit for bit."""
    held = read_predictions(result.run_dir)
    assert held is not None
    names = np.array(result.summary["classes"])
    for split in ("val", "test"):
        table, found = result.predict(data, split=split, **how), held[split]
        assert table["id"].tolist() == load_dataset(data).ids[found.index].tolist()
        assert set(table["split"]) == {split}
        if result.summary["task"] == "classification":
            assert table["predicted"].tolist() == names[found.predicted].tolist()
            assert table["target"].tolist() == names[found.target].tolist()
            true = [table.loc[row, f"p:{names[target]}"] for row, target in enumerate(found.target)]
            np.testing.assert_array_equal(np.array(true, np.float32), found.probability)
            likely = table[[f"p:{name}" for name in names]].max(axis=1)
            np.testing.assert_array_equal(table["confidence"], likely)
        elif result.summary["task"] == "regression":
            np.testing.assert_array_equal(table["predicted"], found.predicted)
            np.testing.assert_allclose(table["target"], found.target, rtol=1e-6)  # float32 in the record
        else:
            np.testing.assert_array_equal(table[[f"p:{name}" for name in names]], found.probability)
            assert table["predicted"].tolist() == ["; ".join(names[row == 1]) for row in found.predicted]
            assert table["target"].tolist() == ["; ".join(names[row == 1]) for row in found.target]
    return table


# What the record says --------------------------------------------------------------------------------


METHODS = ("joint", "unimodal:video", "ensemble", "mla", "umt", "short-ensemble", "diagnose-relearn-plus")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:the contributions of the modalities are not known")
@pytest.mark.filterwarnings(r"ignore:2 epochs for \d (nets|cycles)")
def test_predictions_are_those_of_the_record(data: str, method: str, tmp_path: Path) -> None:
    options = {"nets": 2} if method == "short-ensemble" else {}
    result = eq.fit(data, method, method_options=options, out=tmp_path / "run", **QUICK)
    assert_as_recorded(eq.load_run(result.run_dir), data)


@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_predictions_of_other_tasks_are_those_of_the_record(task: str, tmp_path: Path) -> None:
    data = other_tasks.write(tmp_path / "set", task).path
    table = assert_as_recorded(eq.fit(data, out=tmp_path / "run", **QUICK), data)
    if task == "multilabel":
        assert contributions(table).empty
        assert "confidence" not in table
    else:
        total = contributions(table).sum(axis=1)
        np.testing.assert_allclose(total, table["predicted"] - table["predicted:none"], rtol=1e-9)
        assert table["predicted:none"].between(150, 350).all()  # in the units of the target


def test_pictures_words_and_noise_are_read_as_in_evaluation(tmp_path: Path) -> None:
    rng, target = np.random.default_rng(0), np.arange(120) % 3
    inputs = {
        "picture": rng.integers(0, 256, (120, 3, 16, 16), dtype=np.uint8),
        "words": rng.integers(1, 50, (120, 7)),
        "noisy": rng.normal(size=(120, 4)) + target[:, None],
    }
    data = eq.write_dataset(tmp_path / "set", inputs, target, kinds={"words": "tokens"}, noise={"noisy": 0.5})
    result = eq.fit(data, encoder={"picture": "image-cnn"}, out=tmp_path / "run", **QUICK)
    assert_as_recorded(result, data)
    unknown = inputs["words"].copy()
    unknown[7, 3] = 8192
    with pytest.raises(eq.DataError, match=r"the token 8192, and the model knows 0 to 8191"):
        result.predict({**inputs, "words": unknown})


def test_the_layout_of_weights_in_memory_is_that_of_the_training(tmp_path: Path) -> None:
    rng, target = np.random.default_rng(0), np.arange(32) // 4 % 2
    inputs = {
        "image": rng.normal(size=(32, 3, 64, 64)).astype(np.float32),
        "vector": rng.normal(size=(32, 3)),
    }
    split = np.array(["train", "train", "val", "test"])[np.arange(32) % 4]
    data = eq.write_dataset(tmp_path / "set", inputs, target, split)
    options = {"encoder": {"image": "resnet18"}, "encoder_options": {"image": {"width": 4}}}
    result = eq.load_run(eq.fit(data, out=tmp_path / "run", **options, **(QUICK | {"epochs": 1})).run_dir)
    layouts = {name: value.stride() for name, value in result.model.state_dict().items()}
    assert_as_recorded(result, data)
    assert {name: value.stride() for name, value in result.model.state_dict().items()} == layouts


def test_htad(tmp_path: Path) -> None:
    result = eq.load_run(eq.fit("htad", epochs=2, diagnose_every=0, out=tmp_path / "run").run_dir)
    assert_as_recorded(result, "htad")


def test_neither_data_nor_the_parts_of_a_run_are_needed(tmp_path: Path) -> None:
    dataset = synthetic.write(tmp_path / "two")
    inputs = {m: dataset.array(m)[:] for m in dataset.modalities}
    result = eq.fit(dataset, "ensemble", out=tmp_path / "run", **QUICK)
    expected = result.predict(dataset)
    (tmp_path / "two").rename(tmp_path / "gone")
    alone = (tmp_path / "run").rename(tmp_path / "copied")
    for part in sorted((alone / "parts").rglob("*"), reverse=True):
        part.rmdir() if part.is_dir() else part.unlink()
    found = eq.load_run(alone).predict(inputs)
    assert found["id"].tolist() == [str(row) for row in range(150)]
    pd.testing.assert_frame_equal(found, expected[found.columns])
    assert {"split", "target"} == set(expected) - set(found)


# Contributions ---------------------------------------------------------------------------------------


def slow_contributions(result: eq.FitResult, data: Any, rows: range) -> tuple[pd.DataFrame, list[float]]:
    """Average, over all orders, what each modality adds to the probability of the predicted class."""
    dataset = load_dataset(data)
    run = RunData(dataset, splits_of(dataset), 32)
    model, names = result.model, result.model.modalities
    with torch.no_grad():
        train = [model.encode(batch) for batch in run.train_eval]
        means = {m: torch.cat([z[m] for z in train]).double().mean(dim=0).float() for m in names}
        shares, nothing = [], []
        for row in rows:
            x = {m: torch.from_numpy(run.normalizers[m](dataset.array(m)[row : row + 1])) for m in names}
            predicted = int(model(x).logits.argmax())

            def value(present: frozenset[str], x: Any = x, predicted: int = predicted) -> float:
                z = {m: means[m][None] for m in names}
                if present:
                    only = [m for m in names if m in present]
                    z |= model.encode({m: x[m] for m in only}, only=only)
                return float(model.fuse(z).double().softmax(dim=1)[0, predicted])

            total = dict.fromkeys(names, 0.0)
            for order in permutations(names):
                for place, m in enumerate(order):
                    total[m] += value(frozenset(order[: place + 1])) - value(frozenset(order[:place]))
            shares.append({m: amount / math.factorial(len(names)) for m, amount in total.items()})
            nothing.append(value(frozenset()))
    return pd.DataFrame(shares), nothing


@pytest.mark.parametrize("fusion", ["concat", "gated", "mmtm"])
def test_contributions_are_shapley_values_of_the_confidence(fusion: str, tmp_path: Path) -> None:
    shapes = {"a": (4,), "b": (3,), "c": (5,)}
    data = synthetic.write(tmp_path / "three", shapes).path
    result = eq.fit(data, fusion=fusion, out=tmp_path / "run", **QUICK)
    table = result.predict(data)
    expected, nothing = slow_contributions(result, data, range(12))
    np.testing.assert_allclose(contributions(table)[:12], expected, atol=2e-6)
    np.testing.assert_allclose(table["confidence:none"][:12], nothing, atol=2e-6)
    total = contributions(table).sum(axis=1)
    np.testing.assert_allclose(total, table["confidence"] - table["confidence:none"], atol=1e-6)
    assert contributions(table).abs().to_numpy().min(axis=0).max() > 1e-6  # every modality does something


def test_of_many_modalities_orders_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = dict.fromkeys("abcdefghi", (3,))
    data = synthetic.write(tmp_path / "nine", shapes, count=60).path
    table = eq.fit(data, out=tmp_path / "run", **QUICK).predict(data)
    total = contributions(table).sum(axis=1)
    np.testing.assert_allclose(total, table["confidence"] - table["confidence:none"], atol=2e-6)
    monkeypatch.setattr(Choices, "exact_up_to", 9)
    monkeypatch.setattr(Choices.__init__, "__defaults__", ("mean", 5, 9, 32, 1000, 0))
    exact = eq.load_run(tmp_path / "run").predict(data)
    pd.testing.assert_series_equal(table["confidence"], exact["confidence"])
    assert not contributions(table).equals(contributions(exact))
    np.testing.assert_allclose(contributions(table), contributions(exact), atol=0.02)


def test_a_modality_that_was_left_out_is_the_mean_one(result: eq.FitResult, data: str) -> None:
    dataset = load_dataset(data)
    found = result.predict({"audio": dataset.array("audio")}, without=["video"])
    assert list(contributions(found)) == ["audio"]
    run = RunData(dataset, splits_of(dataset), 32)
    with torch.no_grad():
        mean = torch.cat([result.model.encode(batch)["video"] for batch in run.train_eval]).mean(dim=0)
        x = torch.from_numpy(run.normalizers["audio"](dataset.array("audio")[:]))
        z = {**result.model.encode({"audio": x}, only=["audio"]), "video": mean.expand(len(x), -1)}
        expected = result.model.fuse(z).softmax(dim=1).numpy()
    classes = [f"p:{name}" for name in result.summary["classes"]]
    np.testing.assert_allclose(found[classes], expected, atol=1e-6)
    alone = found["confidence"] - found["confidence:none"]
    np.testing.assert_allclose(found["contribution:audio"], alone, atol=1e-6)
    # What is not there cannot matter, and the data may have it all the same.
    with pytest.warns(eq.EquipoiseWarning, match="has 'video' as well, which is not read"):
        again = result.predict({m: dataset.array(m) for m in ("video", "audio")}, without="video")
    pd.testing.assert_frame_equal(found, again)


def test_labels_without_a_modality(tmp_path: Path) -> None:
    data = other_tasks.write(tmp_path / "set", "multilabel")
    result = eq.fit(data, out=tmp_path / "run", **QUICK)
    whole, part = result.predict(data), result.predict(data, without="audio")
    assert list(whole) == list(part)
    assert (whole["p:loud"] - part["p:loud"]).abs().max() > 1e-3


@pytest.mark.filterwarnings("ignore:4 epochs for 2 nets")
def test_a_mean_of_networks_is_predicted_and_not_explained(data: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method_options": {"nets": 2}, "epochs": 4, "diagnose_every": 0}
    result = eq.fit(data, "short-ensemble", out=tmp_path / "run", **options)
    with pytest.warns(eq.EquipoiseWarning, match="contributions .* not known: 'short-ensemble' predicts by"):
        table = result.predict(data)
    assert contributions(table).empty
    with pytest.raises(eq.ModelError, match="no modality can be left out of this model: 'short-ensemble'"):
        result.predict(data, without="audio")


def test_a_model_that_needs_all_modalities_says_so(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_all.py").write_text(
        "import torch\n"
        "from equipoise.models import build_model\n"
        "def Model(shapes, num_classes):\n"
        "    model = build_model(shapes, num_classes)\n"
        "    kind = type(model)\n"
        "    def encode(self, batch, only=None):\n"
        "        return kind.encode(self, batch)\n"
        "    model.__class__ = type('NeedsAll', (kind,), {'encode': encode})\n"
        "    return model\n"
    )
    monkeypatch.chdir(tmp_path)
    result = eq.fit(data, model="needs_all:Model", out=tmp_path / "run", **QUICK)
    assert_as_recorded(result, data)
    with pytest.raises(eq.ModelError, match=r"cannot encode audio without its other .*give all of them"):
        result.predict(data, without="video")


# Data ------------------------------------------------------------------------------------------------


def test_the_test_split_is_noted_whenever_it_is_read_again(data: str, tmp_path: Path) -> None:
    result = eq.fit(data, out=tmp_path / "run", **QUICK)

    def notes() -> list[Any]:
        lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
        return [event for event in lines if event["event"] == "diagnosis-test"]

    dataset = load_dataset(data)
    result.predict(data, split="val")
    result.predict(data, split="train")
    result.predict({m: dataset.array(m) for m in dataset.modalities})
    assert notes() == []
    result.predict(data, split="test")
    result.predict(Path(data))
    assert notes() == [{"event": "diagnosis-test", "why": "predict"}] * 2
    assert eq.load_run(result.run_dir).test == result.test


def test_all_samples_are_those_of_the_splits(result: eq.FitResult, data: str) -> None:
    table = result.predict(data, batch_size=7)
    assert table["id"].tolist() == load_dataset(data).ids.tolist()
    for split in ("train", "val", "test"):
        part = result.predict(data, split=split)
        assert len(part) == result.summary["split_sizes"][split]
        whole = table[table["split"] == split].reset_index(drop=True)
        pd.testing.assert_frame_equal(part, whole, rtol=1e-5)


def test_other_data_have_their_own_splits_and_labels(result: eq.FitResult, tmp_path: Path) -> None:
    inputs, target = synthetic.samples(synthetic.VECTORS, 20, seed=5)
    split = ["train", "val", "test", "test"] * 5
    inputs["smell"] = inputs["audio"]
    other = eq.write_dataset(tmp_path / "other", inputs, target, split, classes=["x", "y", "z"])
    with pytest.warns(eq.EquipoiseWarning, match="'other' has 'smell' as well, which is not read"):
        table = result.predict(other, split="test")
    assert table["id"].tolist() == [str(row) for row in range(20) if row % 4 >= 2]
    assert table["target"].tolist() == ["xyz"[target[int(name)]] for name in table["id"]]
    numbers = eq.write_dataset(tmp_path / "n", inputs, target / 2.0, task="regression")
    with pytest.warns(eq.EquipoiseWarning):
        assert {"target", "split"}.isdisjoint(result.predict(numbers))


def test_a_run_on_some_modalities_reads_these(data: str, tmp_path: Path) -> None:
    result = eq.fit(data, modalities=["video"], out=tmp_path / "run", **QUICK)
    table = assert_as_recorded(result, data)
    assert list(contributions(table)) == ["video"]


def test_no_trace_is_left_in_model_and_random_states(result: eq.FitResult, data: str) -> None:
    model = result.model
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stream = torch.get_rng_state()
    result.predict(data)
    assert all(part.training for part in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), stream)
    model.eval()


# Refusals --------------------------------------------------------------------------------------------


def test_wrong_calls(result: eq.FitResult, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(kind: type[Exception], match: str, *given: Any, **named: Any) -> None:
        with pytest.raises(kind, match=match) as told:
            result.predict(*given, **named)
        assert "\n" not in str(told.value)

    array = {"audio": np.zeros((4, 8), np.float32), "video": np.zeros((4, 5), np.float32)}
    refused(eq.UsageError, "expected either data .* or source")
    refused(eq.UsageError, "expected either data .* or source", data, source="x")
    refused(eq.UnknownNameError, "unknown split 'validation': known: test", data, split="validation")
    refused(eq.UsageError, "arrays and raw files have no splits", array, split="test")
    refused(eq.UsageError, "batch_size is 0; expected at least 1", data, batch_size=0)
    refused(eq.UnknownNameError, "unknown modality of the model 'vide'", data, without="vide")
    refused(eq.UsageError, "all modalities of the model .*keep one", data, without=["audio", "video"])
    refused(eq.DataError, r"no modality 'video', .* has 'audio'.*--without video", {"audio": array["audio"]})
    refused(eq.DataError, r"'audio', 'video', which .* has none: give other data\.", {})
    refused(
        eq.DataError,
        r"'audio' of 'arrays' is vector \[9\] of floats, and the run was trained on vector \[8\] of floats",
        {**array, "audio": np.zeros((4, 9))},
    )
    refused(eq.DataError, r"of integers, and the run .* of floats", {**array, "audio": np.ones((4, 8), int)})
    refused(eq.DataError, r"has the shape \[4, 8, 1\]", {**array, "audio": np.zeros((4, 8, 1))})
    refused(eq.DataError, "numbers of samples differ", {**array, "audio": np.zeros((3, 8))})
    refused(eq.DataError, "NaN or infinite", {**array, "audio": np.full((4, 8), np.nan)})
    refused(eq.DataError, "no samples", {m: x[:0] for m, x in array.items()})
    refused(eq.UnknownNameError, "unknown dataset", "htadd")
    refused(eq.DataError, "were written as arrays, so raw files cannot be read", source="x.csv")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(eq.UsageError, "no cuda device", data, device="cuda")


def test_splits_of_data_without_any(result: eq.FitResult, tmp_path: Path) -> None:
    other = eq.write_dataset(tmp_path / "o", *synthetic.samples(synthetic.VECTORS, 20, seed=5))
    with pytest.raises(eq.UsageError, match="split is 'test', and 'o' has no splits"):
        result.predict(other, split="test")
    two = ["train", "val"] * 10
    other = eq.write_dataset(tmp_path / "p", *synthetic.samples(synthetic.VECTORS, 20, seed=5), two)
    with pytest.raises(eq.DataError, match="'p' has no sample of the split 'test'"):
        result.predict(other, split="test")


def test_changed_data_are_noticed(data: str, tmp_path: Path) -> None:
    dataset = synthetic.write(tmp_path / "set")
    result = eq.fit(dataset, out=tmp_path / "run", **QUICK)
    file = dataset.path / dataset.modalities["audio"].file
    content = bytearray(file.read_bytes())
    content[-2] ^= 64
    file.write_bytes(content)
    with pytest.raises(eq.DataError, match="were changed after they were written"):
        result.predict(dataset.path)
