"""CGGM: shares and direction term against slow computations, and which parameters the classifiers change."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from equipoise.methods import create_method
from equipoise.methods.cggm import improvement_shares
from equipoise.types import UnknownNameError, UsageError
from hand_run import HandRun, random_batch, same, small_model

THREE = ("audio", "video", "text")


def setting(modalities=("audio", "video"), fusion="concat", **options):
    model = small_model(modalities, fusion)
    return HandRun(create_method("cggm", options), model)


def features(model, batch):
    return {m: model.encoder_module(m)(batch.inputs[m]) for m in model.modalities}


def accuracies(run, z, batch):
    """A^m in NumPy."""
    out = {}
    for i, m in enumerate(run.model.modalities):
        linear = run.modules["classifiers"].linears[i]
        u = z[m].detach().numpy() @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
        out[m] = float((u.argmax(1) == batch.target.numpy()).mean())
    return out


def slow_shares(gains, limit):
    total = sum(gains.values())
    if abs(total) < 1e-6:
        return {m: min((len(gains) - 1) / len(gains), limit) for m in gains}
    return {m: float(np.clip(sum(g for n, g in gains.items() if n != m) / total, 0, limit)) for m in gains}


def slow_direction(run, model, batch, shares, direction):
    """The direction term with gradients by double differentiation instead of a closed form."""
    z = features(model, batch)
    target, terms = batch.target, []
    leaf_u = model.fuse(z)
    for i, m in enumerate(model.modalities):
        classifier = run.modules["classifiers"].linears[i]
        own_u = classifier(z[m].detach())
        own_loss = F.cross_entropy(own_u, target)
        loss = F.cross_entropy(leaf_u, target)
        if direction == "weights":
            (own,) = torch.autograd.grad(own_loss, classifier.weight)
            full = model.fusion.linear.weight
            (joint,) = torch.autograd.grad(loss, full, create_graph=True)
            widths = [model.fusion.widths[n] for n in model.modalities]
            joint = joint[:, sum(widths[:i]) : sum(widths[: i + 1])]
        else:
            (own,) = torch.autograd.grad(own_loss, own_u)
            (joint,) = torch.autograd.grad(loss, leaf_u, create_graph=True)
        cosine = (own * joint).sum() / (own.norm() * joint.norm())
        terms.append(abs(shares[m]) - shares[m] * cosine)
    return sum(terms) / len(terms)


@pytest.mark.parametrize("modalities", [("audio", "video"), ("video", "audio"), THREE])
@pytest.mark.parametrize(("fusion", "direction"), [("concat", "weights"), ("gated", "logits")])
@pytest.mark.parametrize("metric", ["batch", "ema"])
def test_steps_against_a_slow_computation(modalities, fusion, direction, metric):
    run = setting(modalities, fusion, direction=direction, metric=metric, limit=1.6)
    model, before, shares, unequal = run.model, None, {}, 0
    for step in range(6):
        batch = random_batch(model, n=20, seed=step)
        copy, heads = deepcopy(model), deepcopy(run.modules)
        z = features(copy, batch)
        loss = F.cross_entropy(copy.fuse(z), batch.target)
        if shares:
            loss = loss + 0.2 * slow_direction(run, copy, batch, shares, direction)
        loss.backward()
        F.cross_entropy(heads["classifiers"].linears[0](z[modalities[0]].detach()), batch.target).backward()
        now = accuracies(run, z, batch)
        if before is not None:
            if metric == "ema":
                now = {m: 0.9 * before[m] + 0.1 * now[m] for m in now}
            shares = slow_shares({m: now[m] - before[m] for m in now}, 1.6)
        before = now
        found, _ = run.gradients(batch)
        for m in modalities:
            factor = 1.3 * shares[m] if shares else 1.0
            for name, p in copy.encoder_parameters(m):
                torch.testing.assert_close(found[name], factor * p.grad, rtol=1e-6, atol=1e-9)
        for name, p in copy.fusion_parameters():
            torch.testing.assert_close(found[name], p.grad, rtol=1e-6, atol=1e-9)
        first = run.modules["classifiers"].linears[0].weight.grad
        torch.testing.assert_close(first, heads["classifiers"].linears[0].weight.grad, rtol=1e-9, atol=1e-12)
        unequal += len(set(shares.values())) > 1
        run.optimizer.step()
    assert unequal >= 2


def test_the_direction_term_changes_the_gradients_but_not_the_classifiers():
    found = {}
    for lam in (1e-12, 5.0):
        run = setting(lam=lam, rho=None)
        for step in range(3):  # metrics, then shares, then the term
            gradients, _ = run.gradients(random_batch(run.model, seed=step))
        found[lam] = gradients
        found[lam, "own"] = {n: p.grad.clone() for n, p in run.modules.named_parameters()}
    assert same(found[1e-12, "own"], found[5.0, "own"])
    for name in found[5.0]:
        if not name.endswith("first.bias"):  # batch normalisation after it cancels its gradient
            assert not torch.allclose(found[1e-12][name], found[5.0][name])


def test_shares_by_hand():
    assert improvement_shares({"a": 0.3, "b": 0.1}, 1.0) == pytest.approx({"a": 0.25, "b": 0.75})
    assert improvement_shares({"a": 0.3, "b": -0.1}, 9.0) == pytest.approx({"a": 0.0, "b": 1.5})  # from -0.5
    assert improvement_shares({"a": 0.3, "b": -0.1}, 1.0) == pytest.approx({"a": 0.0, "b": 1.0})
    assert improvement_shares({"a": 0.1, "b": -0.1}, 1.0) == {"a": 0.5, "b": 0.5}
    assert improvement_shares({"a": 0.0, "b": 0.0, "c": 0.0}, 1.0) == pytest.approx(
        dict.fromkeys("abc", 2 / 3)
    )


def test_shares_add_up_to_one_less_than_the_modalities():
    rng = np.random.default_rng(0)
    for count in (2, 3, 5):
        gains = dict(zip("abcde"[:count], rng.uniform(0, 1, count).tolist(), strict=True))
        shares = improvement_shares(gains, 1.0)
        assert sum(shares.values()) == pytest.approx(count - 1)
        assert all(0 <= share <= 1 for share in shares.values())
    wild = improvement_shares({"a": 0.5, "b": -0.499}, 2.0)
    assert wild == {"a": 0.0, "b": 2.0}


def test_classifiers_do_not_change_the_model_and_its_gradients():
    # rho * B = 1 and no direction term: with three modalities whose metrics do not change, B is 2 / 3.
    run = setting(THREE, rho=1.5, lam=0.0)
    plain = HandRun(create_method("joint"), small_model(THREE))
    batch = random_batch(run.model)
    for _ in range(3):  # the weights stay the same, and so do all metrics
        found, context = run.gradients(batch)
        expected, other = plain.gradients(batch)
        assert torch.equal(context.u, other.u)
        assert same(found, expected)
    assert run.method.state_dict()["shares"] == pytest.approx(dict.fromkeys(THREE, 2 / 3))
    assert all(p.grad is not None for p in run.modules.parameters())


def test_the_classifiers_have_their_own_learning_rate():
    run = setting(classifier_factor=0.25)
    factors = {group["name"]: group["factor"] for group in run.optimizer.param_groups}
    assert factors == {"audio": 1.0, "video": 1.0, "fusion": 1.0, "extra": 0.25}


def test_a_group_shared_with_other_parameters_is_refused():
    method = create_method("cggm+multi-loss")
    with pytest.raises(UsageError, match="classifier_factor=1"):
        HandRun(method, small_model())
    run = HandRun(create_method("cggm+multi-loss", {"cggm.classifier_factor": 1.0}), small_model())
    run.fit([random_batch(run.model, seed=s) for s in range(3)])


def test_after_the_window_the_state_is_cleared():
    run = setting(start_epoch=0, end_epoch=0)
    for step in range(2):
        run.gradients(random_batch(run.model, seed=step))
    assert run.method.state_dict()["shares"]
    run.epoch = 1
    run.gradients(random_batch(run.model, seed=2))
    assert run.method.state_dict() == {"metrics": {}, "shares": {}}


def test_refusals():
    for options in (
        {"rho": -1.0},
        {"lam": -1.0},
        {"limit": -1.0},
        {"ema_decay": 1.5},
        {"classifier_factor": -1.0},
    ):
        with pytest.raises(UsageError, match="is"):
            create_method("cggm", options)
    for options in ({"metric": "epoch"}, {"direction": "bias"}):
        with pytest.raises(UnknownNameError, match="value of"):
            create_method("cggm", options)
    with pytest.raises(UsageError, match="additive_head"):
        create_method("cggm").check(small_model(fusion="gated"))
    create_method("cggm", {"lam": 0.0}).check(small_model(fusion="gated"))
    create_method("cggm", {"direction": "logits"}).check(small_model(fusion="gated"))
    assert isinstance(setting().modules["classifiers"], nn.Module)
