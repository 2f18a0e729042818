"""Examinations of runs, models and files: they contain the results of their parts, without side effects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import equipoise as eq
import synthetic
from equipoise.diagnosis.verdict.rules import STATES
from equipoise.diagnosis.verdict.verdict import verdicts
from equipoise.experiments.examine.examine import _facts
from equipoise.training.assembly import prepare_data
from equipoise.training.measuring.floor import floor_scores
from equipoise.training.record.record import RunRecord
from equipoise.training.settings import Settings

QUICK: dict[str, Any] = {"epochs": 3, "batch_size": 32, "diagnose_every": 0}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examined")
    data = synthetic.write(folder / "data").path
    eq.fit(data, out=folder / "run", **QUICK)
    return folder / "run"


@pytest.fixture(scope="module")
def examined(run: Path) -> eq.Examination:
    return eq.examine_run(run)


def arrays(shift: float = 0.0) -> dict[str, np.ndarray]:
    (train, y), (val, y_val) = (synthetic.samples(synthetic.VECTORS, n, seed=n) for n in (90, 45))
    held = {f"train_{m}": x + shift for m, x in train.items()} | {f"val_{m}": x for m, x in val.items()}
    return held | {"train_labels": y, "val_labels": y_val, "classes": np.array(["a<b", "b", "c"])}


def test_an_examination_of_a_run_equals_its_parts(run: Path, examined: eq.Examination) -> None:
    robust, paper = (eq.diagnose_run(run, preset=preset) for preset in ("robust", "paper"))
    assert examined.learning.to_dict() == robust.to_dict()
    assert examined.paper is not None
    assert examined.paper.to_dict() == paper.to_dict()
    contributions = eq.contribution_of_run(run)
    assert examined.contributions.to_dict() == contributions.to_dict()
    assert examined.contributions.score == pytest.approx(eq.load_run(run).validation["accuracy"])
    expected = verdicts(robust, contributions, inputs=examined.inputs)
    assert {m: v.to_dict() for m, v in examined.verdicts.items()} == {
        m: v.to_dict() for m, v in expected.items()
    }
    assert [(p.modality, p.kind) for p in examined.projections] == [
        (m, kind) for m in synthetic.VECTORS for kind in ("t-sne", "pca")
    ]
    assert set(examined.measures) >= {"linear-probe", "knn", "silhouette", "nmi", "davies-bouldin"}


def test_contributions_to_another_prediction_than_that_of_the_run_are_told_as_such(tmp_path: Path) -> None:
    data = synthetic.write(tmp_path / "data").path
    eq.fit(data, "short-ensemble", out=tmp_path / "run", **{**QUICK, "epochs": 8})
    with pytest.warns(eq.EquipoiseWarning, match="short-ensemble predicts by more than the features"):
        eq.contribution_of_run(tmp_path / "run")


def test_the_same_run_gives_bitwise_equal_numbers(run: Path, examined: eq.Examination) -> None:
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    again = eq.examine_run(run)
    assert again.to_json() == examined.to_json()
    for one, other in zip(again.projections, examined.projections, strict=True):
        assert np.array_equal(one.train, other.train)
        assert np.array_equal(one.val, other.val)
    assert torch.equal(state[0], torch.get_rng_state())
    assert np.array_equal(state[1], np.random.get_state()[1])


def test_the_paper_preset_can_be_chosen_with_equal_verdicts(run: Path, examined: eq.Examination) -> None:
    found = eq.examine_run(run, preset="paper", pictures=False)
    assert found.learning.to_dict() == eq.diagnose_run(run).to_dict()
    assert {m: v.state for m, v in found.verdicts.items()} == {
        m: v.state for m, v in examined.verdicts.items()
    }
    assert not found.projections


def test_the_test_split_is_opened_only_on_request(run: Path) -> None:
    events = (run / "metrics.jsonl").read_text().count("test")
    eq.examine_run(run, pictures=False)
    assert (run / "metrics.jsonl").read_text().count("test") == events
    found = eq.examine_run(run, split="test", pictures=False)
    assert found.contributions.split == "test"
    assert found.contributions.score == pytest.approx(eq.load_run(run).test["accuracy"])
    assert '"diagnosis-test"' in (run / "metrics.jsonl").read_text()


def test_a_feature_file_is_judged_with_a_linear_head(tmp_path: Path) -> None:
    held = arrays()
    np.savez(tmp_path / "features.npz", **held)
    found = eq.examine_features(tmp_path / "features.npz")
    train, val = ({m: held[f"{split}_{m}"] for m in synthetic.VECTORS} for split in ("train", "val"))
    direct = eq.contribution_of_features(train, held["train_labels"], val, held["val_labels"])
    assert found.contributions.score == direct.score
    assert found.through == "linear head"
    assert found.projections[0].classes == found.contributions.classes == ("a<b", "b", "c")
    assert all(v.state in STATES for v in found.verdicts.values())
    # Modalities in another order: the same results in that order.
    swapped = dict(reversed(list(held.items())))
    np.savez(tmp_path / "swapped.npz", **swapped)
    other = eq.examine_features(tmp_path / "swapped.npz", pictures=False)
    assert other.modalities == found.modalities[::-1]
    for m in found.modalities:
        assert other.learning[m].to_dict() == found.learning[m].to_dict()
        assert other.contributions[m].shapley == pytest.approx(found.contributions[m].shapley)


def test_a_class_may_be_missing_in_validation_where_this_is_allowed(tmp_path: Path) -> None:
    held, path = arrays(), tmp_path / "features.npz"
    kept = held["val_labels"] != 1
    held |= {name: values[kept] for name, values in held.items() if name.startswith("val_")}
    np.savez(path, **held)
    with pytest.raises(eq.DataError, match=r'or allow it: missing_classes="allow"'):
        eq.examine_features(path, pictures=False)
    found = eq.examine_features(path, missing_classes="allow", pictures=False)
    assert found.learning.options.missing_classes == "allow"
    assert found.measures["purity"].options.missing_classes == "allow"
    assert found.contributions.classes == ("a<b", "b", "c")


def test_a_continuous_target_has_a_diagnosis(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    y, y_val = generator.normal(size=120), generator.normal(size=60)
    held = {
        "train_told": y[:, None] + 0.1 * generator.normal(size=(120, 3)),
        "val_told": y_val[:, None] + 0.1 * generator.normal(size=(60, 3)),
        "train_noise": generator.normal(size=(120, 3)),
        "val_noise": generator.normal(size=(60, 3)),
    }
    np.savez(tmp_path / "numbers.npz", **held, train_labels=y, val_labels=y_val)
    found = eq.examine_features(tmp_path / "numbers.npz")
    assert found.learning.options.metric == "ridge-r2"
    assert set(found.measures) == {"binned-purity", "ridge-r2", "knn-r2"}
    assert found.paper is None
    assert found.contributions.metric == "r2"
    assert found.contributions["told"].shapley > 0.8
    assert found.verdicts["noise"].state == "scarcely informative"
    json.loads(found.to_json())


def test_the_facts_of_a_run_name_its_target() -> None:
    known = {"method": "joint", "dataset": "x", "seed": 0, "model": "m", "best_epoch": 1, "split_sizes": {}}
    named = [("classification", ["a", "b"]), ("multilabel", ["a", "b"]), ("regression", [])]
    found = [_facts({**known, "task": task, "classes": classes})[-1] for task, classes in named]
    assert found == ["2 classes", "2 labels", "continuous target"]


@pytest.mark.parametrize("dead", [("train", "val"), ("train",)])
def test_a_dead_modality_is_scarcely_informative(tmp_path: Path, dead: tuple[str, ...]) -> None:
    held = arrays()
    for split in dead:
        held[f"{split}_video"] = np.zeros_like(held[f"{split}_video"])
    np.savez(tmp_path / "features.npz", **held)
    found = eq.examine_features(tmp_path / "features.npz")
    assert found.verdicts["video"].state == "scarcely informative"
    assert found.measures["nearest-class-mean"]["video"].gap < 0.05


class Net(nn.Module):
    """Two encoders; the head reads only the first."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(8, 6), nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.relu(self.left(left)) + 0 * self.right(right))
        return out


def test_a_model_in_plain_pytorch() -> None:
    loaders = []
    for count in (90, 45):
        inputs, target = synthetic.samples(synthetic.VECTORS, count, seed=count)
        tensors = [torch.from_numpy(inputs[m]) for m in synthetic.VECTORS]
        loaders.append(DataLoader(TensorDataset(*tensors, torch.from_numpy(target)), batch_size=16))
    torch.manual_seed(0)
    model = Net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    encoders = {"audio": model.left, "video": model.right}
    found = eq.examine_model(encoders, model, *loaders, classes=["x", "y", "z"], name="mine")
    assert found.source == "mine"
    ignored = found.contributions["video"]
    assert (ignored.drop_removed, ignored.drop_permuted, ignored.shapley) == (0, 0, 0)
    # Separate heads measure the information in its features, whether the model uses it or not.
    assert found.contributions.refitted is not None
    assert found.contributions.refitted["video"] > 0.5
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    nn.init.zeros_(model.right.weight)
    dead = eq.examine_model(encoders, model, *loaders)
    assert dead.verdicts["video"].state == "scarcely informative"
    assert dead.learning["video"].gap == pytest.approx(0, abs=0.05)


def test_a_column_of_zeros_and_ones_is_two_classes_also_with_one_logit() -> None:
    torch.manual_seed(0)
    model, data = Net(), (torch.randn(64, 8), torch.randn(64, 5))
    model.head = nn.Linear(6, 1)
    with torch.no_grad():
        model.head.bias -= model(*data).median()
        target = (model(*data) > 0).float()  # the model is always right
    loader = DataLoader(TensorDataset(*data, target), batch_size=16)
    found = eq.examine_model(
        {"left": model.left, "right": model.right}, model, loader, loader, pictures=False
    )
    assert (found.contributions.metric, found.contributions.score) == ("accuracy", 1.0)
    assert found.contributions["right"].shapley == 0


def test_the_ignored_class_is_refused_by_examinations(tmp_path: Path) -> None:
    held, net = arrays(), Net()
    del held["classes"]
    held["val_labels"] = np.where(np.arange(len(held["val_labels"])) % 9 == 0, -100, held["val_labels"])
    np.savez(tmp_path / "ignored.npz", **held)
    ignored = int((held["val_labels"] == -100).sum())
    with pytest.raises(eq.DataError, match=f"{ignored} of .* labels are -100"):
        eq.examine_features(tmp_path / "ignored.npz")
    target = torch.arange(40) % 3
    target[:4] = -100
    loader = DataLoader(TensorDataset(torch.randn(40, 8), torch.randn(40, 5), target), batch_size=16)
    with pytest.raises(eq.DataError, match="8 of 80 labels are -100"):
        eq.examine_model({"left": net.left, "right": net.right}, net, loader, loader)


def test_heads_on_inputs_are_the_floor_of_the_record(run: Path, examined: eq.Examination) -> None:
    held = RunRecord(run).result()["floor"]["modalities"]
    assert examined.inputs == {name: entry["score"] for name, entry in held.items()}
    data = prepare_data(Settings.from_options(str(run.parent / "data")))[1]
    assert floor_scores({"modalities": list(held)}, data) == examined.inputs  # records of earlier versions


def test_quality_is_measured_only_on_request(run: Path) -> None:
    found = eq.examine_run(run, quality=True, pictures=False)
    assert found.quality is not None
    assert list(found.quality) == list(synthetic.VECTORS)
    assert not any("trained alone" in line for v in found.verdicts.values() for line in v.lacks)


def test_mistakes_are_reported_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(eq.UnknownNameError, match="robst"):
        eq.examine_run(tmp_path / "nowhere", preset="robst")
    with pytest.raises(eq.RunFolderError, match="no run"):
        eq.examine_run(tmp_path / "nowhere")
    with pytest.raises(eq.DataError, match="does not exist"):
        eq.examine_features(tmp_path / "nowhere.npz")
