"""D&R-plus against slow definitions, and each of its parts switched off."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import equipoise as eq
import synthetic
from equipoise.methods import create_method
from equipoise.methods.shared.cycles import cycle_ends
from equipoise.methods.shared.lessons import Lessons, divergence
from equipoise.models import MultimodalModel, build_model
from equipoise.models.averaged import AllHeadsModel, CopiesModel, UnitModel
from equipoise.training.assembly import ModelSpec, build_for, build_reference, prepare_data
from equipoise.training.loop import Training
from equipoise.training.record.record import RunRecord
from equipoise.training.settings import Budget, Settings
from equipoise.types import Batch

NAME = "diagnose-relearn-plus"
OFF = {"cycles": 1, "weight": 0.0, "rates": "keep"}
QUICK = {"epochs": 9, "batch_size": 32}
SHAPES = {"audio": ((8,), "vector"), "video": ((6,), "vector")}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return synthetic.write(tmp_path_factory.mktemp("plus") / "data", {"audio": (8,), "video": (6,)}, 240)


def fit(data: str, out: Path | None = None, **options: Any) -> eq.FitResult:
    return eq.fit(data, NAME, method_options={"cycles": 3, **options}, out=out, **QUICK)


def test_with_everything_off_it_is_joint_training_bit_for_bit(data: str) -> None:
    off, joint = eq.fit(data, NAME, method_options=OFF, **QUICK), eq.fit(data, **QUICK)
    for key in ("test", "validation", "best_epoch"):
        assert off.summary[key] == joint.summary[key]
    weights = joint.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in off.model.state_dict().items())


def test_resets_of_strength_0_change_nothing(data: str) -> None:
    runs = [fit(data, lam=0.0, rates="keep"), fit(data, cycles=1, rates="keep")]
    found = [
        [e for e in RunRecord(run.run_dir).events("metrics.jsonl") if e["event"] == "epoch"] for run in runs
    ]
    for first, second in zip(*found, strict=True):
        assert {**first, "seconds": 0} == {**second, "seconds": 0}


def test_learning_rates_by_the_formula() -> None:
    method, plan = create_method(NAME, {"cycles": 3}), Budget(epochs=9, lr=0.2)
    expected = [0.2 * (1 + math.cos(math.pi * t / 3)) / 2 for t in (0, 1, 2)] * 3
    assert method.learning_rates(plan) == pytest.approx(expected)
    warm = Budget(epochs=9, lr=0.2, warmup_epochs=1, schedule="cosine")
    rates = method.learning_rates(warm)
    assert rates[:2] == pytest.approx([0.1, 0.2])
    assert rates[3:] == pytest.approx(expected[3:])
    assert create_method(NAME, {"rates": "keep"}).learning_rates(warm) == warm.learning_rates()


def test_rates_without_restarts_and_cycles_of_unequal_length() -> None:
    warm = Budget(epochs=9, lr=0.2, warmup_epochs=1, schedule="cosine")
    constant = create_method(NAME, {"cycles": 3, "rates": "constant"})
    assert constant.learning_rates(warm) == pytest.approx([0.1, *[0.2] * 8])
    single = create_method(NAME, {"cycles": 3, "rates": "one-cosine"})
    expected = [0.2 * (1 + math.cos(math.pi * t / 8)) / 2 for t in range(8)]
    assert single.learning_rates(warm) == pytest.approx([0.1, *expected])
    assert list(constant.schedule(9).planned) == list(single.schedule(9).planned) == [2, 5]
    uneven, plan = create_method(NAME, {"ends": [0.5, 0.2]}), Budget(epochs=10, lr=0.2)
    assert list(uneven.schedule(10).planned) == [1, 4]
    lengths = [2, 3, 5]
    rates = [0.2 * (1 + math.cos(math.pi * t / length)) / 2 for length in lengths for t in range(length)]
    assert uneven.learning_rates(plan) == pytest.approx(rates)
    runs = [SimpleNamespace(epoch=epoch, total_epochs=10) for epoch in range(10)]
    assert [uneven.is_candidate(run) for run in runs] == [False] * 8 + [
        True
    ] * 2  # a quarter of 5, rounded up
    steady = create_method(NAME, {"ends": [0.5, 0.2], "rates": "constant"})
    assert [steady.is_candidate(run) for run in runs] == [False] * 5 + [True] * 5
    # To the nearest epoch, at halves the later one; an end before the first epoch or after the last is none.
    for parts, ends in (([0.5], [4, 7]), ([0.3, 0.31], [2, 7]), ([0.01, 0.99], [7])):
        assert cycle_ends(7, 4, parts) == ends


@pytest.mark.parametrize("prediction", ["joint", "heads"])
def test_the_ruler_may_be_the_accuracy_of_the_heads(data: str, tmp_path: Path, prediction: str) -> None:
    """Against hits that are counted here, on the model before the first reset."""
    options = {"cycles": 3, "metric": "auxiliary-head", "prediction": prediction}
    settings = Settings.from_options(data, method=NAME, method_options=options, **QUICK)
    dataset, prepared = prepare_data(settings)
    method, record = create_method(NAME, options), RunRecord(tmp_path / "run")
    record.open({}, resume=False, overwrite=False)
    kept: dict[str, list[float]] = {}

    def count(epoch: int, _: Any) -> None:  # called before the encoders are reset
        if epoch == 2:
            heads = training.model.own if prediction == "heads" else training.modules["heads"]
            training.model.eval()
            for split in (prepared.train_eval, prepared.val):
                batches = list(split)
                target = torch.cat([batch.target for batch in batches])
                for m, head in heads.by_modality().items():
                    z = torch.cat([training.model.encode(batch)[m] for batch in batches])
                    kept.setdefault(m, []).append(float((head(z).argmax(1) == target).double().mean()))

    model = build_for(method, settings, build_reference(settings, ModelSpec.of(dataset)))
    training = Training(settings, prepared, model, method, record, count)
    training.fit()
    states = next(e["modalities"] for e in record.events("diagnosis.jsonl") if e["event"] == "relearning")
    assert kept == {m: [s["train_score"], s["val_score"]] for m, s in states.items()}


def test_only_one_modality_is_reset_and_wrong_names_are_refused(data: str) -> None:
    run = fit(data, only=["video"], sharpness=0.0)
    events = [e for e in RunRecord(run.run_dir).events("diagnosis.jsonl") if e["event"] == "relearning"]
    for event in events:
        gaps = [max(0.0, s["train_score"] - s["val_score"]) for s in event["modalities"].values()]
        applied = {m: state["applied"] for m, state in event["modalities"].items()}
        assert applied == {"audio": 0.0, "video": pytest.approx(math.tanh(5 * max(gaps)))}
    with pytest.raises(eq.UsageError, match="modality of only 'vidoe'"):
        fit(data, only=["vidoe"])
    with pytest.raises(eq.UsageError, match="diagnose-relearn has none with these options"):
        eq.fit(data, "diagnose-relearn", method_options={"metric": "auxiliary-head"}, **QUICK)


def test_the_strengths_follow_the_formula_and_the_rates_are_recorded(data: str, tmp_path: Path) -> None:
    fit(data, tmp_path / "run")
    record = RunRecord(tmp_path / "run")
    events = [event for event in record.events("diagnosis.jsonl") if event["event"] == "relearning"]
    assert [event["epoch"] for event in events] == [2, 5]
    for event in events:
        states = event["modalities"]
        gaps = {m: max(0.0, s["train_score"] - s["val_score"]) for m, s in states.items()}
        top = max(gaps.values())
        for m, state in states.items():
            assert state["metric"] == "nearest-class-mean"
            expected = math.tanh(5 * top) * (gaps[m] / top) ** 4 if top else 0.0
            assert state["applied"] == pytest.approx(expected)
    rates = [event["lr"] for event in record.events("metrics.jsonl") if event["event"] == "epoch"]
    assert rates[0] == rates[3] == rates[6] == max(rates)
    assert record.result()["best_epoch"] >= 6  # of the last cycle


def reference_of(model: nn.Module) -> nn.Module:
    """Return the model without what the method has added."""
    while hasattr(model, "inner"):
        model = model.inner
    return model


@pytest.mark.parametrize("prediction", ["joint", "heads", "product"])
@pytest.mark.parametrize("cycle_mean", [False, True])
def test_a_saved_model_predicts_as_the_run_did(
    data: str, tmp_path: Path, prediction: str, cycle_mean: bool
) -> None:
    features = "raw" if prediction == "heads" else "unit"
    options = {"prediction": prediction, "features": features, "cycle_mean": cycle_mean}
    run = fit(data, tmp_path / "run", distillation="mean", **options)
    again = eq.load_run(run.run_dir)
    x = {m: torch.randn(5, *shape) for m, (shape, _) in SHAPES.items()}
    model, other = run.model.eval(), again.model.eval()
    assert torch.equal(model(x).logits, other(x).logits)
    probabilities = model(x).logits.softmax(dim=1)
    copies = [model.inner, *model.copies] if isinstance(model, CopiesModel) else [model]
    assert len(copies) == (3 if cycle_mean else 1)
    expected = []
    for one in copies:
        z = one.encode(x)
        read = {m: v / v.norm(dim=1, keepdim=True) for m, v in z.items()} if features == "unit" else z
        heads = [reference_of(one).fuse(read)]
        if prediction != "joint":
            heads += [z[m] @ h.weight.T + h.bias for m, h in one.own.by_modality().items()]
        each = torch.stack([u.softmax(dim=1) for u in heads])
        power = each.prod(dim=0) ** (1 / len(heads))
        product = power / power.sum(dim=1, keepdim=True)
        expected.append(product if prediction == "product" else each.mean(dim=0))
    torch.testing.assert_close(probabilities, torch.stack(expected).mean(dim=0))
    if cycle_mean:
        weights = [next(iter(one.parameters())) for one in copies]
        assert not torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[1], weights[2])


def test_the_joint_head_reads_directions_alone_also_where_there_is_none() -> None:
    model = UnitModel(build_model(SHAPES, 3))
    z = {m: torch.randn(4, width) for m, width in model.feature_widths().items()}
    longer = {m: 7 * feature for m, feature in z.items()}
    torch.testing.assert_close(model.fuse(longer), model.fuse(z))
    dead = {m: torch.zeros_like(feature, requires_grad=True) for m, feature in z.items()}
    model.fuse(dead).sum().backward()
    assert all(torch.equal(feature.grad, torch.zeros_like(feature)) for feature in dead.values())


def test_copies_are_constant_and_in_no_group() -> None:
    model = CopiesModel(AllHeadsModel(build_model(SHAPES, 3)), 2).eval()
    named = dict(model.named_parameters())
    assert not any(name.startswith("copies") for name in named)
    groups = [*model.fusion_parameters(), *model.shared_parameters()]
    groups += [pair for m in model.modalities for pair in model.encoder_parameters(m)]
    assert {name for name, _ in groups} == set(named)
    with torch.no_grad():
        before = model({m: torch.ones(2, *shape) for m, (shape, _) in SHAPES.items()}).logits
    model.take()
    for parameter in model.parameters():
        parameter.data.zero_()
    copied = model.copies[0]({m: torch.ones(2, *shape) for m, (shape, _) in SHAPES.items()}).logits
    torch.testing.assert_close(copied, before)
    assert int(model.taken) == 1


def test_lessons_are_those_of_the_samples_and_their_mean() -> None:
    rng = torch.Generator().manual_seed(0)
    tables = [{"joint": torch.randn(50, 4, generator=rng)} for _ in range(3)]
    rows = torch.randperm(50, generator=rng)[:20]
    batches = [Batch({}, torch.zeros(len(part)), part) for part in rows.split(8)]
    run = SimpleNamespace(train_eval=batches, device="cpu", model=nn.Linear(1, 1), modules=nn.ModuleDict())
    u, asked = torch.randn(6, 4, generator=rng), rows[torch.tensor([3, 19, 0, 7, 7, 12])]
    for mean in (False, True):
        lessons = Lessons(mean)
        assert lessons.distance({"joint": u}, Batch({}, asked, asked), 2.0, "classification") == {}
        for table in tables:
            lessons.learn(run, lambda batch, table=table: {"joint": table["joint"][batch.index]})
        taught = torch.stack([t["joint"] for t in tables]).mean(0) if mean else tables[-1]["joint"]
        other = Lessons(mean)
        other.load_state_dict(lessons.state_dict())
        for one in (lessons, other):
            found = one.distance({"joint": u}, Batch({}, asked, asked), 2.0, "classification")["joint"]
            expected = 0.0
            for place, row in enumerate(asked.tolist()):
                t, own = np.exp(taught[row].numpy() / 2), np.exp(u[place].numpy() / 2)
                t, own = t / t.sum(), own / own.sum()
                expected += float((t * np.log(t / own)).sum()) * 4 / len(asked)
            assert float(found) == pytest.approx(expected, rel=1e-5)


def test_divergence_of_labels_and_numbers() -> None:
    t, u = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.5, 1.0]])
    p, q = torch.sigmoid(t / 2), torch.sigmoid(u / 2)
    bernoulli = p * torch.log(p / q) + (1 - p) * torch.log((1 - p) / (1 - q))
    assert float(divergence(t, u, 2.0, "multilabel")) == pytest.approx(4 * float(bernoulli.mean()), rel=1e-5)
    assert float(divergence(t, u, 2.0, "regression")) == pytest.approx((1.5**2 + 2**2) / 2)
    assert float(divergence(t, t, 2.0, "classification")) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_labels_and_numbers(tmp_path: Path, task: str) -> None:
    inputs, target = synthetic.samples({"audio": (8,), "video": (6,)}, 240)
    labels = np.eye(int(target.max()) + 1, dtype=np.int64)[target]
    y = labels if task == "multilabel" else inputs["audio"][:, 0] + inputs["video"][:, 0]
    data = eq.write_dataset(tmp_path / "data", inputs, y, task=task)
    run = fit(data, tmp_path / "run", distillation="last", prediction="heads", cycle_mean=True)
    metrics = {"multilabel": "linear-map", "regression": "ridge-r2"}
    events = [e for e in RunRecord(run.run_dir).events("diagnosis.jsonl") if e["event"] == "relearning"]
    assert {s["metric"] for e in events for s in e["modalities"].values()} == {metrics[task]}
    assert run.summary["validation"]["map" if task == "multilabel" else "r2"] > 0.3


@pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")  # few epochs
@pytest.mark.parametrize("other", ["fixed-modulation", "mcr"])
def test_combined_with_others_the_joint_loss_is_that_of_the_joint_head(
    data: str, tmp_path: Path, other: str
) -> None:
    """Whichever is named first: the mean of all heads is a prediction, not what is trained."""
    options = {"fixed-modulation.factors": {"audio": 1.0}} if other == "fixed-modulation" else {}
    found = [
        eq.fit(data, name, method_options=options, epochs=2, batch_size=32, out=tmp_path / str(place))
        for place, name in enumerate((f"{other}+{NAME}", f"{NAME}+{other}"))
    ]
    losses = [
        [e["train_loss"] for e in RunRecord(run.run_dir).events("metrics.jsonl") if e["event"] == "epoch"]
        for run in found
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("name", ["diagnose-relearn", NAME])
def test_a_measure_that_does_not_fit_the_task_is_refused_before_training(tmp_path: Path, name: str) -> None:
    inputs, _ = synthetic.samples({"audio": (8,), "video": (6,)}, 120)
    data = eq.write_dataset(tmp_path / "data", inputs, inputs["audio"][:, 0], task="regression")
    for metric in ("purity", "auxiliary-head"):
        if metric == "auxiliary-head" and name != NAME:
            continue
        with pytest.raises(eq.UsageError, match=f"metric='{metric}' does not measure regression.*ridge-r2"):
            eq.fit(data, name, method_options={"metric": metric}, out=tmp_path / metric, **QUICK)
        assert not (tmp_path / metric / "metrics.jsonl").exists()


def test_wrong_options() -> None:
    for options, message in (
        ({"cycles": 0}, "cycles is 0"),
        ({"prediction": "heads", "weight": 0.0}, "of heads which weight=0 leaves out"),
        ({"prediction": "product", "weight": 0.0}, "of heads which weight=0 leaves out"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"ends": [0.5, 1.0]}, "parts of the training between 0 and 1"),
        ({"every": 3}, "every"),
        ({"allocation": "most"}, "allocation"),
        ({"ema_policy": "copy"}, "ema_policy.*none here"),
    ):
        with pytest.raises(eq.UsageError, match=message):
            create_method(NAME, options)
    (line,) = create_method(NAME, {}).problems(Budget(epochs=7))
    assert "7 epochs for 4 cycles" in line
    assert create_method(NAME, {}).problems(Budget(epochs=60)) == []


def test_a_model_without_a_fusion_of_its_own_module() -> None:
    class Plain(MultimodalModel):
        pass

    inner = build_model(SHAPES, 3)
    inner.__class__ = Plain
    model = create_method(NAME, {"prediction": "heads"}).build(inner)
    x = {m: torch.randn(4, *shape) for m, (shape, _) in SHAPES.items()}
    assert model(x).logits.shape == (4, 3)
