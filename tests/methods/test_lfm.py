"""LFM: alignment terms and loss against NumPy, the learned weight against a difference of one SGD step."""

from __future__ import annotations

from copy import deepcopy
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import synthetic
from equipoise.methods import create_method
from equipoise.methods.lfm import LFM, contrast, divergence
from equipoise.types import UnknownNameError, UsageError
from hand_run import HandRun, assert_close_encoders, drawn, pieces, random_batch, same, small_model
from interrupted import fit_with_and_without_break


def started(modalities=("audio", "video"), size=20, epochs=4, reference=None, **options):
    method = LFM(**options)
    model = drawn(method, reference or small_model(modalities))
    return HandRun(method, model, train=pieces(random_batch(model, 60), size), epochs=epochs)


def epochs(run, first, last):
    for epoch in range(first, last):
        run.epoch = epoch
        run.model.train()
        run.method.epoch_start(run)
        run.fit(run.method.train_data(run.train, run))


def softmax(u):
    e = np.exp(u)
    return e / e.sum(1, keepdims=True)


def kl(p, q):
    return np.mean(
        [
            sum(a * (np.log(a) - np.log(b)) for a, b in zip(x, y, strict=True))
            for x, y in zip(p, q, strict=True)
        ]
    )


def slow_align(kind, left, right, tau):
    if kind != "infonce":
        p, q = softmax(left), softmax(right)
        c = (p + q) / 2
        return (kl(p, c) + kl(q, c)) / 2 if kind == "js" else (kl(c, p) + kl(c, q)) / 2
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (left, right))
    both = []
    for s in (a @ b.T / tau, b @ a.T / tau):
        both.append(-np.mean(np.log(np.diag(softmax(s)))))
    return sum(both) / 2


@pytest.mark.parametrize("kind", ["js", "reverse-js", "infonce"])
@pytest.mark.parametrize("modalities", [("audio", "video"), ("text", "video", "audio")])
@pytest.mark.parametrize("a", [0.0, 0.3, 1.0])
def test_the_loss_against_numpy(kind, modalities, a):
    run = started(modalities, align=kind, schedule="fixed", temperature=0.3)
    run.method.weight = a
    batch = random_batch(run.model, seed=4)
    gradients, context = run.gradients(batch)
    heads = run.model.fusion.own.by_modality()
    z = {m: context.z[m].detach() for m in modalities}
    own = {m: (z[m] @ h.weight.T + h.bias).detach().numpy() for m, h in heads.items()}
    u = sum(own.values()) / len(own)
    fit = -np.log(softmax(u)[np.arange(len(batch)), batch.target.numpy()]).mean()
    views = own
    if kind == "infonce":
        projections = run.modules["projections"].by_modality()
        views = {m: (z[m] @ p.weight.T + p.bias).detach().numpy() for m, p in projections.items()}
    align = np.mean([slow_align(kind, views[m], views[n], 0.3) for m, n in combinations(modalities, 2)])
    terms = run.method.losses(context)
    assert float(sum(terms.values()).detach()) == pytest.approx(2 * ((1 - a) * fit + a * align), abs=1e-9)
    assert "joint" not in terms
    assert set(terms) == {0.0: {"fit"}, 0.3: {"fit", "alignment"}, 1.0: {"alignment"}}[a]
    assert set(gradients) >= {n for m in modalities for n, _ in run.model.encoder_parameters(m)}


def test_divergences():
    draw = torch.Generator().manual_seed(0)
    u, v = torch.randn(2, 9, 4, generator=draw, dtype=torch.float64) * 3
    for reverse in (False, True):
        assert float(divergence(u, u + 2.0, reverse=reverse)) == pytest.approx(0, abs=1e-12)
        there, back = divergence(u, v, reverse=reverse), divergence(v, u, reverse=reverse)
        assert float(there) == pytest.approx(float(back), abs=1e-12)
        assert float(there) > 0.01
    assert not np.isclose(float(divergence(u, v)), float(divergence(u, v, reverse=True)))
    assert float(divergence(u, v)) < np.log(2)
    far = torch.tensor([[900.0, 0.0]]), torch.tensor([[0.0, 900.0]])
    assert float(divergence(*far)) == pytest.approx(np.log(2))  # a probability of 0, and no NaN
    for reverse in (False, True):
        left = far[0].clone().requires_grad_()
        divergence(left, far[1], reverse=reverse).backward()
        assert torch.isfinite(left.grad).all()
    one = torch.ones(1, 3)
    assert float(contrast(one, -one, 0.1)) == 0.0  # a single pair has no negatives


def one_step(run, a, seen, held, rate):
    """Loss on held-out samples after one step of plain SGD on L, all in evaluation mode."""
    model = deepcopy(run.model).eval()
    m, n = run.model.modalities[:2]

    def logits(batch):
        z, heads = model.encode(batch), model.fusion.own.by_modality()
        return {name: heads[name](z[name]) for name in z}

    own = logits(seen)
    p, q = own[m].softmax(1), own[n].softmax(1)
    c = (p + q) / 2
    align = ((p * (p / c).log()).sum(1) + (q * (q / c).log()).sum(1)).mean() / 2
    fit = F.cross_entropy((own[m] + own[n]) / 2, seen.target)
    parameters = list(model.parameters())
    found = torch.autograd.grad(2 * ((1 - a) * fit + a * align), parameters)
    with torch.no_grad():
        for p, g in zip(parameters, found, strict=True):
            p -= rate * g
        own = logits(held)
        return float(F.cross_entropy((own[m] + own[n]) / 2, held.target))


def test_the_learned_weight_follows_the_held_out_loss():
    # The training samples fit one batch and so do the held-out ones: nothing depends on the draw.
    # The hypergradient is the slope of one step, exact as the learning rate goes to zero.
    run = started(size=60, weight_lr=1e7, align_weight=0.5)
    run.epoch, rate = 2, 1e-6
    run.learning_rates = [rate] * 4
    seen, held = (run.take(p) for p in (run.method.seen_positions, run.method.held_positions))
    high, low = (one_step(run, a, seen, held, rate) for a in (0.9, 0.1))
    slope = (high - low) / 0.8
    assert abs(1e7 * slope) > 0.01
    assert run.method.learn(run) == pytest.approx(0.5 - 1e7 * slope, abs=1e-5)
    run.method.weight_lr_epochs = 1  # halved twice so far
    assert run.method.learn(run) == pytest.approx(0.5 - 2.5e6 * slope, abs=1e-5)


def test_the_learned_weight_keeps_its_limits_and_its_initial_value():
    run = started(weight_lr=1e9)
    epochs(run, 0, 1)
    assert run.method.weight == 0.95
    for _ in range(3):
        assert run.method.learn(run) in (0.05, 0.95)
    assert started(weight_lr=0.0).method.learn(run) == 0.95


def test_equal_gradients_do_not_change_the_weight(monkeypatch):
    run = started(align_weight=0.4)
    found = LFM._objectives
    monkeypatch.setattr(LFM, "_objectives", lambda *args: (found(*args)[0],) * 2)
    assert run.method.learn(run) == 0.4


def test_learning_the_weight_changes_nothing_else():
    run = started(size=20)
    epochs(run, 0, 1)
    run.optimizer.zero_grad(set_to_none=True)
    run.model.encoder_module("video").eval()
    modes = [module.training for module in run.model.modules()]
    before, stream = deepcopy(dict(run.model.state_dict())), torch.get_rng_state()
    run.method.learn(run)
    assert same(before, dict(run.model.state_dict()))
    assert torch.equal(stream, torch.get_rng_state())
    assert modes == [module.training for module in run.model.modules()]
    assert all(p.grad is None for p in run.model.parameters())


def test_a_fixed_schedule_is_linear_and_holds_no_samples_out():
    run = started(schedule="fixed", align_weight=0.9, end_weight=0.3, epochs=4)
    seen = []
    for epoch in range(4):
        epochs(run, epoch, epoch + 1)
        seen.append(run.method.weight)
    assert seen == pytest.approx([0.9, 0.7, 0.5, 0.3])
    assert run.method.train_data(run.train, run) is run.train
    assert len(run.method.held_positions) == 0
    learned = started()
    served = [
        row for batch in learned.method.train_data(learned.train, learned) for row in batch.index.tolist()
    ]
    assert sorted(served) == learned.method.seen_positions.tolist()
    assert len(served) == 60 - len(learned.method.held_positions) < 60


def test_without_alignment_it_is_twice_the_loss_of_averaged_logits_bit_for_bit():
    run = started(schedule="fixed", align_weight=0.0, end_weight=0.0)
    plain = started(schedule="fixed")
    batches, stream = run.train, torch.get_rng_state()
    run.method.epoch_start(run)
    found = run.fit(batches)
    for batch in batches:
        plain.optimizer.zero_grad()
        (2.0 * F.cross_entropy(plain.model(batch).logits, batch.target)).backward()
        plain.optimizer.step()
    assert same(found, dict(plain.model.state_dict()))
    assert torch.equal(stream, torch.get_rng_state())


@pytest.mark.parametrize("align", ["js", "infonce"])
def test_the_order_of_modalities_changes_nothing(align):
    options = {"align": align, "align_weight": 0.5, "weight_lr": 1.0}
    run, turned = started(**options), started(("video", "audio"), **options)
    for m in ("audio", "video"):
        turned.model.encoder_module(m).load_state_dict(run.model.encoder_module(m).state_dict())
        modules = [(r.model.fusion.own.by_modality(), r.modules) for r in (turned, run)]
        modules[0][0][m].load_state_dict(modules[1][0][m].state_dict())
        if align == "infonce":
            pair = [own["projections"].by_modality()[m] for _, own in modules]
            pair[0].load_state_dict(pair[1].state_dict())
    turned.train = turned.train_eval = run.train
    turned.generator.set_state(run.generator.get_state())
    epochs(run, 0, 3)
    epochs(turned, 0, 3)
    assert turned.method.weight == pytest.approx(run.method.weight, abs=1e-7)
    assert run.method.weight not in (0.05, 0.5, 0.95)
    assert_close_encoders(run, turned)


def test_a_restored_run_equals_an_uninterrupted_one():
    whole, half, new = (started(align_weight=0.5) for _ in range(3))
    epochs(whole, 0, 4)
    epochs(half, 0, 2)
    new.restore(half)
    assert new.method.weight == half.method.weight not in (0.05, 0.5, 0.95)
    epochs(new, 2, 4)
    assert same(dict(new.model.state_dict()), dict(whole.model.state_dict()))
    assert new.method.weight == whole.method.weight


def test_it_resumes_in_the_trainer(tmp_path: Path):
    synthetic.write(tmp_path / "data", count=90)
    fit_with_and_without_break(
        tmp_path / "data", "lfm", tmp_path / "run", killed_after=3, epochs=4, batch_size=16
    )


@pytest.mark.parametrize(
    "options",
    [
        {"align_weight": 0.99},
        {"align_weight": 0.0},
        {"schedule": "fixed", "align_weight": 1.1},
        {"weight_lr": -1.0},
        {"weight_lr_epochs": 0},
        {"temperature": 0.0},
        {"heldout": 0.0},
    ],
)
def test_invalid_options_are_refused(options):
    with pytest.raises(UsageError):
        create_method("lfm", options)


def test_unknown_choices_and_one_modality_are_refused():
    for options in ({"align": "jss"}, {"schedule": "fix"}):
        with pytest.raises(UnknownNameError):
            create_method("lfm", options)
    with pytest.raises(UsageError, match="at least 2"):
        create_method("lfm").check(small_model(("audio",)))
