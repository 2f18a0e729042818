"""AUG: losses and steps against a separate plain loop, growth, and grown layers in checkpoints."""

from __future__ import annotations

import json
from collections import Counter
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import synthetic
from equipoise.methods import StepContext, create_method
from equipoise.methods.aug import AUG, residual_loss, weakest
from equipoise.methods.shared.turns import encoders_to_eval
from equipoise.models import MultimodalModel
from equipoise.scopes import modes_restored
from equipoise.types import UsageError
from hand_run import (
    CLASSES,
    HandRun,
    assert_close_encoders,
    drawn,
    exchanging,
    pieces,
    random_batch,
    same,
    small_model,
)
from interrupted import fit_with_and_without_break


def started(modalities=("audio", "video"), epochs=8, optimizer=None, **options):
    method = AUG(**{"hidden": 8, "layers": 3, **options})
    model = drawn(method, small_model(modalities))
    train = pieces(random_batch(model, 36), 12)
    made = optimizer(model.parameters(), lr=0.05) if optimizer else None
    return HandRun(method, model, train=train, epochs=epochs, optimizer=made)


def epochs(run, first, last):
    for epoch in range(first, last):
        run.epoch = epoch
        run.model.train()
        run.method.epoch_start(run)
        run.fit(run.train)
        run.method.epoch_end(run)


def softmax(u):
    e = np.exp(u)
    return e / e.sum(1, keepdims=True)


def ce(u, y):
    return -np.log(softmax(u)[np.arange(len(y)), y]).mean()


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_loss_against_numpy(count, weight):
    draw = np.random.default_rng(count)
    answers, y = draw.normal(size=(count, 9, CLASSES)), np.arange(9) % CLASSES
    expected = ce(sum(answers), y)
    if count > 1:
        older, newest = sum(answers[:-1]), answers[-1]
        soft = np.eye(CLASSES)[y] * softmax(older)
        expected += ce(older, y) + ce(newest, y)
        expected -= weight * (-(soft * np.log(softmax(newest))).sum(1)).mean()
    found = residual_loss([torch.tensor(a) for a in answers], torch.tensor(y), weight)
    assert float(found) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("grown", [(0, 0), (2, 1)])
@pytest.mark.parametrize("order", [[], ["video", "audio"]])
def test_a_batch_is_a_step_for_each_modality(grown, order):
    run = started(order=order)
    fusion = run.model.fusion
    fusion.grown.copy_(torch.tensor(grown))
    model = deepcopy(run.model)
    run.model.train()
    run.method.epoch_start(run)
    found = run.fit(run.train)
    velocity = {}
    for batch in run.train:
        for m in order or ("audio", "video"):
            place = model.modalities.index(m)
            z = model.encode(batch, only=(m,))[m]
            layers = list(model.fusion.embeddings[place])[: grown[place] + 1]
            a = [
                F.linear(F.linear(z, e.weight, e.bias).relu(), *model.fusion.output.parameters())
                for e in layers
            ]
            loss = F.cross_entropy(sum(a), batch.target)
            if len(a) > 1:
                older = sum(a[:-1])
                soft = F.one_hot(batch.target, CLASSES) * older.detach().softmax(1)
                loss = loss + F.cross_entropy(older, batch.target) + F.cross_entropy(a[-1], batch.target)
                loss = loss - 0.5 * F.cross_entropy(a[-1], soft)
            named = dict(model.named_parameters())
            gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
            with torch.no_grad():
                for (name, p), g in zip(named.items(), gradients, strict=True):
                    if g is not None:  # no other parameter changes, not even by momentum
                        velocity[name] = 0.9 * velocity.get(name, 0) + g + 1e-3 * p
                        p -= 0.1 * velocity[name]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-9)


@pytest.mark.parametrize("optimizer", [None, torch.optim.AdamW])
def test_idle_encoders_and_unused_layers_do_not_change(optimizer):
    run = started(("audio", "video", "text"), optimizer=optimizer, layers=2)
    batch = run.train[0]
    run.method.epoch_start(run)
    run.fit(run.train)
    start = {name: value.clone() for name, value in run.model.state_dict().items()}

    run.method.standard_step(StepContext(run, batch, ("video",)))
    moved = {name for name, value in run.model.state_dict().items() if not torch.equal(value, start[name])}
    assert {name.split(".")[1] for name in moved if name.startswith("encoders")} == {"video"}
    assert {name for name in moved if name.startswith("fusion.embeddings")} == {
        "fusion.embeddings.1.0.weight",
        "fusion.embeddings.1.0.bias",
    }
    assert "fusion.output.weight" in moved


def test_with_intermediate_fusion_all_encoders_run_and_only_one_is_updated():
    modalities = ("audio", "video", "text")
    method, (reference, batch) = AUG(hidden=8, layers=1), exchanging(modalities)
    run, passes = HandRun(method, drawn(method, reference), train=[batch]), Counter()
    for m in modalities:
        encoder = run.model.encoder_module(m)
        assert any("running_mean" in name for name in encoder.state_dict())
        encoder.register_forward_hook(lambda *_, m=m: passes.update([m]))
    run.method.epoch_start(run)
    run.fit(run.train)
    assert passes == dict.fromkeys(modalities, 3)  # M passes a batch
    start = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.method.standard_step(StepContext(run, run.train[0], ("video",)))
    moved = {name for name, value in run.model.state_dict().items() if not torch.equal(value, start[name])}
    places = {name.split(".")[1] for name in moved if name.startswith("encoders")}
    assert places == {"video"}  # the running statistics of the other encoders do not change either
    assert any("running_mean" in name for name in moved)
    assert all(part.training for part in run.model.modules())


def test_without_intermediate_fusion_the_other_encoders_do_not_run():
    run, passes = started(("audio", "video", "text")), Counter()
    for m in run.model.modalities:
        run.model.encoder_module(m).register_forward_hook(lambda *_, m=m: passes.update([m]))
    run.method.epoch_start(run)
    run.method.standard_step(StepContext(run, run.train[0], ("video",)))
    assert passes == {"video": 1}


def test_parts_shared_with_the_active_encoder_are_trained():
    small = small_model(width=4)
    audio, video = (small.encoder_module(m) for m in ("audio", "video"))
    video.first, video.norm = audio.first, audio.norm
    audio.first.eval()  # set to evaluation mode by the user
    video.last.eval()
    before = [part.training for part in small.modules()]
    with modes_restored(small):
        encoders_to_eval(small, [m for m in small.modalities if m != "audio"])
        assert audio.training
        assert audio.norm.training
        assert not audio.first.training
        assert not video.training
    assert [part.training for part in small.modules()] == before
    one = MultimodalModel({"audio": audio, "video": audio}, small.fusion)
    with modes_restored(one):
        encoders_to_eval(one, ["audio"])
        assert audio.training
        assert audio.norm.training


def test_a_grown_layer_is_in_the_optimiser_and_learns():
    run = started(layers=2)
    known = {id(p) for group in run.optimizer.param_groups for p in group["params"]}
    layer = run.model.fusion.embeddings[1][1]
    assert {id(p) for p in layer.parameters()} <= known
    batch = run.train[0]
    old_logits, old = run.model.eval()(batch).logits, layer.weight.detach().clone()
    assert run.model.fusion.grow("video")
    assert not torch.allclose(run.model(batch).logits, old_logits)
    run.model.train()
    run.method.epoch_start(run)
    run.fit(run.train)
    assert not torch.equal(layer.weight, old)
    assert run.model.fusion.grow("video")
    assert not run.model.fusion.grow("video")  # no layers left to grow
    assert run.model.fusion.grown.tolist() == [0, 2]


def test_prediction_is_the_weighted_sum():
    for weights, wanted in (({}, [0.5, 0.5]), ({"video": 3.0, "audio": 2.0}, [0.4, 0.6])):
        run = started(weights=weights)
        fusion = run.model.fusion
        fusion.grown.copy_(torch.tensor([0, 2]))
        run.model.eval()
        out = run.model(run.train[0])
        expected = 0
        for place, m in enumerate(("audio", "video")):
            z = out.features[m].detach().numpy()
            for layer in list(fusion.embeddings[place])[: [1, 3][place]]:
                w, b = (p.detach().numpy() for p in layer.parameters())
                v, c = (p.detach().numpy() for p in fusion.output.parameters())
                expected = expected + wanted[place] * (np.maximum(z @ w.T + b, 0) @ v.T + c)
        assert np.allclose(out.logits.detach().numpy(), expected, atol=1e-9)


def test_which_modality_lags():
    assert weakest({"a": 10.0, "b": 10.0}, 0.01) is None
    assert weakest({"a": 10.0, "b": 10.09}, 0.01) is None
    assert weakest({"a": 10.0, "b": 10.11}, 0.01) == "a"
    assert weakest({"b": 10.11, "a": 10.0}, 0.01) == "a"
    assert weakest({"a": 10.0, "b": 9.0, "c": 14.0}, 0.01) == "b"
    assert weakest({"a": 5.0, "b": 5.0, "c": 5.0}, 0.0) is None
    assert weakest({"a": 0.0, "b": 1.0}, 0.01) == "a"


def test_growth_depends_on_the_scores_of_the_epoch():
    run = started(epochs=2, margin=0.0)
    for group in run.optimizer.param_groups:
        group["lr"] = 0.0  # so that the training-mode scores can be recomputed afterwards
    epochs(run, 0, 1)
    scores = {}
    for batch in run.train:
        z = run.model.train().encode(batch)
        for m in z:
            u = run.model.fusion.layer_logits(m, z[m])[0].detach().numpy()
            p = softmax(u)[np.arange(len(batch)), batch.target.numpy()]
            scores[m] = scores.get(m, 0) + p.sum()
    ((kind, event),) = run.events
    assert kind == "growth"
    assert event["scores"] == pytest.approx(scores)
    assert event["modality"] == min(scores, key=scores.get)
    assert run.model.fusion.grown.sum() == 1


def test_growth_happens_when_it_is_due():
    def ends(count, **options):
        run = started(epochs=count, margin=0.0, layers=20, **options)
        run.train = run.train[:1]
        grown = []
        run.record = lambda kind, **values: grown.append(run.epoch)
        epochs(run, 0, count)
        assert run.model.fusion.grown.sum() == len(grown)
        return grown

    assert ends(10) == list(range(9))  # not after the last epoch
    assert ends(30, period=10) == [0, 9, 19]
    assert ends(35) == [0, 3, 7, 11, 15, 19, 23, 27, 31]
    assert ends(6, period=9) == [0]
    run = started(epochs=6, layers=0, margin=0.0)
    epochs(run, 0, 6)
    assert run.model.fusion.grown.tolist() == [0, 0]


def test_the_order_of_modalities_in_the_model_changes_nothing():
    run, turned = started(order=["video", "audio"], epochs=4), started(("video", "audio"), epochs=4)
    for m in ("audio", "video"):
        turned.model.encoder_module(m).load_state_dict(run.model.encoder_module(m).state_dict())
        pair = [r.model.fusion.embeddings[r.model.modalities.index(m)] for r in (turned, run)]
        pair[0].load_state_dict(pair[1].state_dict())
    turned.model.fusion.output.load_state_dict(run.model.fusion.output.state_dict())
    turned.train = run.train
    epochs(run, 0, 4)
    epochs(turned, 0, 4)
    assert run.model.fusion.grown.sum() > 0
    assert turned.model.fusion.grown.tolist() == run.model.fusion.grown.tolist()[::-1]
    assert_close_encoders(run, turned)


def test_global_random_streams_are_unchanged():
    run = started()
    with run.drawing_nothing():
        epochs(run, 0, 4)


def test_a_restored_run_equals_an_uninterrupted_one():
    whole, half, new = (started(epochs=4, margin=0.0) for _ in range(3))
    epochs(whole, 0, 4)
    epochs(half, 0, 2)
    assert half.model.fusion.grown.sum() > 0
    new.restore(half)
    epochs(new, 2, 4)
    assert same(dict(new.model.state_dict()), dict(whole.model.state_dict()))


def test_it_resumes_in_the_trainer_and_loads_with_its_grown_layers(tmp_path: Path):
    synthetic.write(tmp_path / "data", count=90)
    whole = fit_with_and_without_break(
        tmp_path / "data", "aug", tmp_path / "run", killed_after=4, epochs=6, batch_size=16
    )
    events = [json.loads(line) for line in (whole.run_dir / "metrics.jsonl").read_text().splitlines()]
    grown = [e["epoch"] for e in events if e["event"] == "growth" and e["epoch"] < whole.best_epoch]
    assert int(whole.model.fusion.grown.sum()) == len(grown) > 0
    assert whole.summary["forward_samples"] == whole.summary["backward_samples"]


@pytest.mark.parametrize(
    "options",
    [
        {"period": 0},
        {"layers": -1},
        {"margin": -0.1},
        {"residual_weight": float("nan")},
        {"hidden": 0},
        {"weights": {"audio": -1.0, "video": 2.0}},
        {"weights": {"audio": 0.0, "video": 0.0}},
    ],
)
def test_invalid_options_are_refused(options):
    with pytest.raises(UsageError):
        create_method("aug", options)


def test_unsupported_models_are_refused():
    with pytest.raises(UsageError, match="at least 2"):
        create_method("aug").check(small_model(("audio",)))
    with pytest.raises(UsageError, match="needs each modality once"):
        create_method("aug", {"weights": {"audio": 1.0}}).check(small_model())
    with pytest.raises(UsageError, match="needs each modality once"):
        create_method("aug", {"order": ["audio"]}).check(small_model())
