"""Gradient-Blending: weights from slow probes on copies, no side effects of estimates, held-out data."""

from __future__ import annotations

import random
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import equipoise as eq
import synthetic
from equipoise.methods import create_method
from equipoise.methods.gblend import JOINT, GBlend, blend_weights
from equipoise.methods.shared.heldout import stratified, without
from equipoise.models import MultimodalModel
from equipoise.models.fusion.concat import ConcatFusion
from equipoise.types import UnknownNameError, UsageError
from hand_run import CLASSES, HandRun, assert_close_encoders, part, pieces, random_batch, same, small_model
from interrupted import fit_with_and_without_break


def started(modalities=("audio", "video"), size=60, seed=0, model=None, **options):
    model = model or small_model(modalities, seed=seed)
    return HandRun(GBlend(**options), model, train=pieces(random_batch(model, 60), size), epochs=4)


def epochs(run, first, last):
    for epoch in range(first, last):
        run.epoch = epoch
        run.model.train()
        run.modules.train()
        run.method.epoch_start(run)
        run.fit(run.method.train_data(run.train, run))
        run.method.epoch_end(run)


def log_softmax(u):
    u = u.detach().numpy()
    return u - np.log(np.exp(u).sum(1, keepdims=True))


def slow_weights(start, end, floor):
    gain = {k: start[k][1] - end[k][1] for k in start}
    growth = {k: (end[k][1] - end[k][0]) - (start[k][1] - start[k][0]) for k in start}
    least = floor * max(abs(d) for d in growth.values())
    raw = {k: max(0, gain[k]) / max(abs(growth[k]), least) ** 2 for k in start}
    return {k: value / sum(raw.values()) for k, value in raw.items()}


@pytest.mark.parametrize("floor", [0.0, 0.1, 0.5])
def test_weights_follow_gain_and_overfitting(floor):
    draw = np.random.default_rng(0)
    for _ in range(20):
        start = {k: tuple(draw.uniform(1, 2, 2)) for k in ("a", "b", JOINT)}
        end = {k: tuple(draw.uniform(0.2, 1.3, 2)) for k in start}
        end["a"] = (end["a"][0], start["a"][1] - 0.1)  # at least one has a gain
        found = blend_weights(start, end, floor)
        assert found == pytest.approx(slow_weights(start, end, floor), abs=1e-9)
        assert min(found.values()) >= 0
        assert sum(found.values()) == pytest.approx(1)
        scaled = [{k: (7 * t, 7 * v) for k, (t, v) in losses.items()} for losses in (start, end)]
        assert blend_weights(*scaled, floor) == pytest.approx(found, abs=1e-9)


def test_without_gain_the_weight_is_zero():
    start = {"a": (1.0, 1.0), "b": (1.0, 1.0)}
    assert blend_weights(start, {"a": (0.5, 1.0), "b": (0.5, 0.9)}) == {"a": 0.0, "b": 1.0}
    assert blend_weights(start, {"a": (0.5, 1.2), "b": (0.5, 1.0)}) is None
    # Without any overfitting the weights depend on the gains.
    assert blend_weights(start, {"a": (0.7, 0.7), "b": (0.9, 0.9)}) == pytest.approx({"a": 0.75, "b": 0.25})
    # Barely no overfitting: 0.001 counts as a tenth of 0.1.
    found = blend_weights(start, {"a": (0.499, 0.5), "b": (0.4, 0.5)})
    assert found["a"] / found["b"] == pytest.approx(100)


def test_without_a_floor_zero_overfitting_is_the_limit_of_small_overfitting():
    start = {"a": (1.0, 1.0), "b": (1.0, 1.0)}

    def share(growth):  # a gains 0.5, and so does b, which overfits by 0.1
        return blend_weights(start, {"a": (0.5 - growth, 0.5), "b": (0.4, 0.5)}, 0.0)["a"]

    shares = [share(growth) for growth in (0.1, 1e-2, 1e-4, 1e-7, 0.0)]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(0.5)
    assert shares[-1] == pytest.approx(1.0)
    # Without any overfitting the weights depend on the gains; a stream without gain always has weight 0.
    even = blend_weights(start, {"a": (0.75, 0.75), "b": (0.25, 0.25)}, 0.0)
    assert even == pytest.approx({"a": 0.25, "b": 0.75})
    assert blend_weights(start, {"a": (1.0, 1.0), "b": (0.4, 0.5)}, 0.0) == {"a": 0.0, "b": 1.0}


@pytest.mark.parametrize("modalities", [("audio", "video"), ("video", "text", "audio")])
def test_the_loss_is_the_weighted_sum(modalities):
    run = started(modalities)
    run.method.weights = {k: (i + 1) / 10 for i, k in enumerate((*modalities, JOINT))}
    batch = random_batch(run.model, seed=5)
    gradients, context = run.gradients(batch)
    rows = np.arange(len(batch))
    heads = run.modules["heads"].by_modality()
    expected = -run.method.weights[JOINT] * log_softmax(context.u)[rows, batch.target].mean()
    for m in modalities:
        u = context.z[m] @ heads[m].weight.T + heads[m].bias
        expected -= run.method.weights[m] * log_softmax(u)[rows, batch.target].mean()
    terms = run.method.losses(context)
    assert "joint" not in terms
    assert float(sum(terms.values()).detach()) == pytest.approx(expected, abs=1e-9)
    run.model.zero_grad()
    z = run.model.encode(batch)
    loss = sum(run.method.weights[m] * F.cross_entropy(heads[m](z[m]), batch.target) for m in modalities)
    (loss + run.method.weights[JOINT] * F.cross_entropy(run.model.fuse(z), batch.target)).backward()
    for name, p in run.model.named_parameters():
        torch.testing.assert_close(gradients[name], p.grad, rtol=0, atol=1e-9)


def slow_estimate(run, probe):
    """Each stream on a copy of everything, in one batch an epoch, so that the order does not matter."""
    method, whole = run.method, run.take(list(range(60)))
    seen, held = part(whole, method.seen_positions), part(whole, method.held_positions)
    measured = part(whole, method._measured)
    start, end = {}, {}
    for k in method.weights:
        model, heads = deepcopy(run.model), deepcopy(run.modules["heads"])

        def loss(batch, k=k, model=model, heads=heads):
            z = model.encode(batch)
            u = model.fuse(z) if k == JOINT else heads.by_modality()[k](z[k])
            return F.cross_entropy(u, batch.target)

        def look(model=model, loss=loss):
            model.eval()
            with torch.no_grad():
                found = float(loss(measured)), float(loss(held))
            model.train()
            return found

        start[k] = look()
        own = [*model.parameters(), *heads.parameters()]
        optimizer = torch.optim.SGD(own, lr=0.1, momentum=0.9, weight_decay=1e-3)
        for _ in range(probe):
            optimizer.zero_grad()
            loss(seen).backward()
            optimizer.step()
        end[k] = look()
    return slow_weights(start, end, method.floor)


@pytest.mark.parametrize(
    ("options", "probe"),
    [
        ({"super_epoch": 3}, 3),
        ({"super_epoch": 9}, 4),  # no longer than the training
        ({"mode": "offline"}, 4),
        ({"probe_epochs": 2}, 2),
    ],
)
@pytest.mark.parametrize("modalities", [("audio", "video"), ("audio", "video", "text")])
def test_an_estimate_equals_that_of_copies(options, probe, modalities):
    run = started(modalities, **options)
    expected = slow_estimate(run, probe)
    run.method.epoch_start(run)
    assert run.method.weights == pytest.approx(expected, abs=1e-6)
    ((kind, event),) = run.events
    assert kind == "blend"
    assert event["weights"] == {m: run.method.weights[m] for m in modalities}


def test_probes_keep_the_learning_rate_factors_of_the_optimiser():
    """An encoder with learning rate 0 does not change in probes either, like a frozen encoder."""
    runs = {}
    for factor in (0.0, 0.5, 1.0):
        runs[factor] = started(probe_epochs=2)
        for group in runs[factor].optimizer.param_groups:
            if group["name"] == "audio":
                group["factor"] = factor
    frozen = started(probe_epochs=2)
    frozen.model.encoder_module("audio").requires_grad_(False)
    for run in (frozen, *runs.values()):
        run.learning_rates = [0.1, 0.05, 0.05, 0.05]
        run.method.epoch_start(run)
    assert runs[0.0].method.weights == pytest.approx(frozen.method.weights, abs=1e-9)
    found = [run.method.weights["audio"] for run in runs.values()]
    assert len(set(found)) == 3


def test_a_probe_scales_the_rate_of_each_group_by_its_factor():
    run, rates = started(probe_epochs=3), []
    run.learning_rates = [0.1, 0.05, 0.02, 0.01]
    factors = {"audio": 0.0, "video": 0.5, "fusion": 1.0, "extra": 2.0}
    for group in run.optimizer.param_groups:
        group["factor"] = factors[group["name"]]
    plain = run.fresh_optimizer

    def watched(groups):
        made = plain(groups)
        made.register_step_pre_hook(lambda o, *_: rates.append([g["lr"] for g in o.param_groups]))
        return made

    run.fresh_optimizer = watched
    before = deepcopy(run.model.encoder_module("audio").state_dict())
    run.method._probe(run, JOINT, 3)
    after = run.model.encoder_module("audio").state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before if "norm.r" not in k and "num_" not in k)
    assert rates == [[0.0, 0.5 * lr, lr] for lr in (0.1, 0.05, 0.02)]
    rates.clear()
    run.method._probe(run, "video", 1)
    assert rates == [[0.05, 0.2]]  # the encoder; the head, which is one of the extra modules


def test_encoders_with_learning_rate_zero_in_the_trainer(tmp_path: Path):
    synthetic.write(tmp_path / "data", count=90)
    seen = []
    original = GBlend._probe

    def probe(self, run, stream, epochs):
        encoders = [p for m in run.model.modalities for _, p in run.model.encoder_parameters(m)]
        before = [p.detach().clone() for p in encoders]
        head = [p.detach().clone() for p in run.model.fusion.parameters()]
        original(self, run, stream, epochs)
        seen.append(all(map(torch.equal, before, encoders)))
        if stream == JOINT:
            assert not all(map(torch.equal, head, run.model.fusion.parameters()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GBlend, "_probe", probe)
        options = {"pretrain-finetune.encoder_factor": 0.0, "gblend.probe_epochs": 1}
        eq.fit(
            tmp_path / "data",
            "pretrain-finetune+gblend",
            method_options=options,
            epochs=2,
            batch_size=16,
            diagnose_every=0,
        )
    assert seen == [True] * 3


def test_estimates_run_when_they_are_due():
    def due(**options):
        run = started(**options, probe_epochs=1)
        epochs(run, 0, 4)
        return len(run.events)

    assert [due(super_epoch=n) for n in (1, 2, 3, 4)] == [4, 2, 2, 1]
    assert due(mode="offline") == 1


def test_an_estimate_has_no_side_effects():
    run = started(size=20, super_epoch=2)
    epochs(run, 0, 1)
    run.model.encoder_module("video").eval()

    def everything():
        states = [run.model.state_dict(), run.modules.state_dict()]
        tensors = {f"{i}{k}": v.clone() for i, s in enumerate(states) for k, v in s.items()}
        moments = [run.optimizer.state[p]["momentum_buffer"] for p in run.optimizer.state]
        tensors |= {f"momentum{i}": m.clone() for i, m in enumerate(moments)}
        modes = torch.tensor([module.training for module in run.model.modules()])
        streams = {"global": torch.get_rng_state(), "own": run.generator.get_state(), "modes": modes}
        return tensors | streams, (np.random.get_state()[1].tolist(), random.getstate())

    before, numbers = everything()
    gradients = [p.grad is not None for p in run.model.parameters()]
    assert any(gradients)
    run.method._estimate(run, 2)
    after, numbers_after = everything()
    assert same(before, after)
    assert numbers == numbers_after
    assert all(p.grad is None for p in run.model.parameters())
    assert all(p.requires_grad for p in run.model.parameters())


def test_with_dropout_no_random_stream_is_advanced():
    model = small_model()
    model.encoder_module("audio").last = torch.nn.Sequential(
        torch.nn.Dropout(0.5), torch.nn.Linear(8, 4)
    ).double()
    run = HandRun(GBlend(), model, train=[random_batch(model, 60)], epochs=2)
    before = torch.get_rng_state()
    run.method.epoch_start(run)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_held_out_part_is_stratified_and_never_trained_on():
    run = started(size=20, heldout=0.25)
    target = torch.cat([batch.target for batch in run.train])
    held = set(run.method.held_positions.tolist())
    for label in range(CLASSES):
        own = set((target == label).nonzero()[:, 0].tolist())
        assert len(own & held) == round(0.25 * len(own))
    served = list(run.method.train_data(run.train, run))
    rows = [int(row) for batch in served for row in batch.index]
    assert sorted(rows) == sorted(set(range(60)) - held) == run.method.seen_positions.tolist()
    for batch in served:  # inputs and targets match their rows
        again = run.take(batch.index.tolist())
        assert torch.equal(batch.target, again.target)
        assert same(batch.inputs, again.inputs)
    assert set(run.method._measured.tolist()) <= set(rows)
    other = started(size=20, heldout=0.25)
    assert other.method.held_positions.tolist() == run.method.held_positions.tolist()


def test_a_batch_of_one_is_merged_with_the_next():
    model = small_model()
    served = list(without(pieces(random_batch(model), 4), torch.tensor([0, 1, 2, 4])))
    assert [batch.index.tolist() for batch in served] == [[3, 5, 6, 7], [8, 9, 10, 11]]
    assert not stratified(torch.tensor([0, 1, 2]), 0.5, torch.Generator()).any()
    few = [part(random_batch(model, 40), torch.tensor([0]))]
    with pytest.raises(UsageError, match="needs at least two samples of a class"):
        HandRun(GBlend(), model, train=few)


def test_the_order_of_modalities_changes_nothing():
    run = started(("audio", "video"))
    encoders = deepcopy(run.model).encoders
    fusion = ConcatFusion({"video": 6, "audio": 4}, CLASSES).double()
    weight = run.model.fusion.linear.weight
    fusion.linear.weight.data = torch.cat([weight[:, 4:], weight[:, :4]], 1).detach().clone()
    fusion.linear.bias.data = run.model.fusion.linear.bias.detach().clone()
    turned = MultimodalModel({m: encoders[m] for m in ("video", "audio")}, fusion)
    other = HandRun(GBlend(), turned, train=run.train, epochs=4)
    for m, head in other.modules["heads"].by_modality().items():
        head.load_state_dict(run.modules["heads"].by_modality()[m].state_dict())
    epochs(run, 0, 2)
    epochs(other, 0, 2)
    assert other.method.weights == pytest.approx(run.method.weights, abs=1e-6)
    assert_close_encoders(run, other)


def test_a_restored_run_equals_an_uninterrupted_one():
    whole = started(size=20, super_epoch=3, probe_epochs=1)
    epochs(whole, 0, 4)
    half = started(size=20, super_epoch=3, probe_epochs=1)
    epochs(half, 0, 2)
    new = started(size=20, super_epoch=3, probe_epochs=1)
    new.restore(half)
    assert new.method.weights == half.method.weights != started().method.weights
    epochs(new, 2, 4)
    assert same(dict(new.model.state_dict()), dict(whole.model.state_dict()))
    assert new.method.weights == whole.method.weights


def test_it_resumes_in_the_trainer(tmp_path: Path):
    synthetic.write(tmp_path / "data", count=90)
    options = {"super_epoch": 2}
    whole = fit_with_and_without_break(
        tmp_path / "data",
        "gblend",
        tmp_path / "run",
        killed_after=3,
        epochs=4,
        batch_size=16,
        method_options=options,
    )
    # 54 samples, 6 of them held out: an epoch of the run passes 48 through all encoders, and the probes of
    # each modality and of both together 96 more.
    passed = whole.summary["forward_samples"]
    assert 4 * 3 * 48 < passed < 4 * 3 * 48 + 200


@pytest.mark.parametrize(
    "options",
    [
        {"heldout": 0.0},
        {"heldout": 0.6},
        {"super_epoch": 0},
        {"probe_epochs": 0},
        {"floor": -0.1},
        {"floor": float("nan")},
    ],
)
def test_invalid_options_are_refused(options):
    with pytest.raises(UsageError):
        create_method("gblend", options)


def test_unknown_mode_and_one_modality_are_refused():
    with pytest.raises(UnknownNameError, match="online"):
        create_method("gblend", {"mode": "onlin"})
    with pytest.raises(UsageError, match="at least 2"):
        create_method("gblend").check(small_model(("audio",)))
