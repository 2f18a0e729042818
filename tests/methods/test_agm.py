"""AGM: coefficients against slow full passes over all orders of modalities."""

from __future__ import annotations

import math
from copy import deepcopy
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from equipoise.methods import create_method
from equipoise.methods.agm import contribution_scores, leads
from equipoise.models import MidFusionModel, MultimodalModel
from equipoise.models.build import build_fusion
from equipoise.models.encoders.mlp import MLP
from equipoise.types import UnknownNameError, UsageError
from hand_run import CLASSES, INPUT, HandRun, random_batch, same, small_model

THREE = ("audio", "video", "text")


def slow_parts(model, batch, u):
    """phi^m from full forward passes in evaluation mode over all orders; u is that of all modalities."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()

    def value(subset):
        if not subset:
            return torch.zeros_like(u)
        if len(subset) == len(model.modalities):
            return u
        return model({m: x if m in subset else x * 0 for m, x in batch.inputs.items()}).logits

    parts = dict.fromkeys(model.modalities, 0.0)
    orders = list(permutations(model.modalities))
    for order in orders:
        for i, m in enumerate(order):
            parts[m] = parts[m] + (value(order[: i + 1]) - value(order[:i])) / len(orders)
    for module, training in modes:
        module.training = training
    return parts


class SlowHistory:
    """s, r, tau and kappa in plain NumPy, with the mean over all scores before, or these too."""

    def __init__(self, alpha, cap, inclusive=False):
        self.alpha, self.cap, self.inclusive, self.all = alpha, cap, inclusive, []

    def __call__(self, parts, target):
        scores = {}
        for m, part in parts.items():
            phi = part.detach().numpy()
            p = np.exp(phi) / np.exp(phi).sum(1, keepdims=True)
            scores[m] = np.mean([-np.log(max(p[i, y], 1e-8)) for i, y in enumerate(target.tolist())])
        counted = [*self.all, scores] if self.inclusive else self.all
        means = {m: np.mean([s[m] for s in counted]) if counted else 0.0 for m in scores}
        self.all.append(scores)
        factor = len(scores) / (len(scores) - 1)

        def ratio(s, m):
            return np.exp(factor * (np.mean(list(s.values())) - s[m]))

        gaps = {m: min(ratio(means, m) - ratio(scores, m), self.cap) for m in scores}
        return {m: float(np.exp(self.alpha * gap)) for m, gap in gaps.items()}


def plain_gradients(model, batch):
    """Gradients of CE(u, y) on a copy in training mode."""
    copy = deepcopy(model).train()
    nn.functional.cross_entropy(copy(batch).logits, batch.target).backward()
    return {name: p.grad for name, p in copy.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("modalities", [("audio", "video"), ("video", "audio"), THREE])
@pytest.mark.parametrize("fusion", ["concat", "gated", "film"])
@pytest.mark.parametrize("history", ["exclusive", "inclusive"])
def test_encoder_gradients_are_scaled_by_the_formula(modalities, fusion, history):
    model = small_model(modalities, fusion)
    run = HandRun(create_method("agm", {"alpha": 5.0, "mode": "encoder-grad", "history": history}), model)
    slow = SlowHistory(5.0, 10 if len(modalities) == 2 else 7, history == "inclusive")
    seen = []
    for step in range(3):
        batch = random_batch(model, seed=step)
        plain = plain_gradients(model, batch)
        found, context = run.gradients(batch)
        kappa = slow(slow_parts(model, batch, context.u.detach()), batch.target)
        seen.append(kappa)
        for m in modalities:
            for name, _ in model.encoder_parameters(m):
                torch.testing.assert_close(found[name], kappa[m] * plain[name], rtol=1e-6, atol=1e-9)
        for name, _ in model.fusion_parameters():
            torch.testing.assert_close(found[name], plain[name], rtol=0, atol=1e-12)
    assert (set(seen[0].values()) == {1.0}) == (history == "inclusive")
    assert max(abs(k - 1) for k in seen[2].values()) > 0.005


class ScaledBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, k):
        ctx.k = k
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return ctx.k * gradient, None


@pytest.mark.parametrize("modalities", [("audio", "video"), THREE])
def test_by_default_the_gradient_into_each_part_is_scaled(modalities):
    """Against an identity whose backward pass scales, with alpha 1 and the scores of the steps before."""
    model = small_model(modalities, "gated")
    run = HandRun(create_method("agm"), model)
    slow = SlowHistory(1.0, 10 if len(modalities) == 2 else 7)
    for step in range(3):
        batch = random_batch(model, seed=step)
        copy = deepcopy(model).train()
        u = copy(batch).logits
        parts = slow_parts(copy, batch, u)
        torch.testing.assert_close(sum(parts.values()), u, rtol=0, atol=1e-12)  # efficiency
        kappa = slow(parts, batch.target)
        out = sum(ScaledBackward.apply(part, kappa[m]) for m, part in parts.items())
        nn.functional.cross_entropy(out, batch.target).backward()
        found, context = run.gradients(batch)
        for name, p in copy.named_parameters():
            torch.testing.assert_close(found[name], p.grad, rtol=1e-6, atol=1e-9)
        assert max(abs(k - 1) for k in kappa.values()) > 0.001
    terms = run.method.losses(context)
    assert terms["modulation"].item() == 0.0


def linear_model():
    """Encoders whose output is zero for zero inputs."""
    torch.manual_seed(3)
    encoders = {m: nn.Linear(INPUT, 4, bias=False) for m in ("audio", "video")}
    return MultimodalModel(
        encoders, build_fusion("concat", {"audio": 4, "video": 4}, CLASSES, {}, 0)
    ).double()


def test_for_an_additive_model_both_modes_scale_the_encoders_equally():
    found = {}
    for mode in ("encoder-grad", "shapley-branch"):
        model = linear_model()
        run = HandRun(create_method("agm", {"alpha": 2.0, "mode": mode}), model)
        for step in range(3):
            gradients, _ = run.gradients(random_batch(model, seed=step))
        found[mode] = gradients
    model = linear_model()
    plain = plain_gradients(model, random_batch(model, seed=2))
    for m in model.modalities:
        for name, _ in model.encoder_parameters(m):
            one, other = found["encoder-grad"][name], found["shapley-branch"][name]
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
            assert not torch.allclose(one, plain[name], rtol=1e-3)


def test_intermediate_fusion_is_probed_by_full_forward_passes():
    torch.manual_seed(0)
    encoders = {m: MLP(INPUT, hidden=(6, 5), dropout=0.0) for m in ("audio", "video")}
    fusion = build_fusion("concat", {"audio": 5, "video": 5}, CLASSES, {}, 0)
    model = MidFusionModel(encoders, fusion).double()
    for name, p in model.named_parameters():
        if "block" in name:
            p.data.normal_()
    run = HandRun(create_method("agm", {"alpha": 1.0}), model)
    batch = random_batch(model)
    _, context = run.gradients(batch)
    found = run.method._parts(context)
    expected = slow_parts(model, batch, context.u)
    for m in found:
        torch.testing.assert_close(found[m], expected[m], rtol=0, atol=1e-12)


def test_scores_and_leads_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0], [-100.0, 0.0]], dtype=torch.float64)
    scores = contribution_scores({"a": logits}, torch.tensor([0, 0]))
    assert scores["a"] == pytest.approx((-math.log(0.75) - math.log(1e-8)) / 2)
    assert leads({"a": 1.0, "b": 3.0}) == pytest.approx({"a": math.exp(2.0), "b": math.exp(-2.0)})
    assert leads({"a": 0.0, "b": 1.0, "c": 2.0}) == pytest.approx(
        {"a": math.exp(1.5), "b": 1.0, "c": math.exp(-1.5)}
    )


def coefficients(past, now, steps=9, **options):
    method = create_method("agm", options)
    method._means, method._steps = dict(past), steps

    def parts(scores):  # two classes; the true class has the probability exp(-s)
        return {m: torch.tensor([[-s, math.log(-math.expm1(-s))]]).double() for m, s in scores.items()}

    return method._coefficients(parts(now), torch.tensor([0]))


def test_a_modality_that_improves_on_its_history_is_scaled_down():
    kappa = coefficients({"a": 1.0, "b": 1.0}, {"a": 0.5, "b": 1.0}, alpha=0.5)
    assert kappa["a"] < 1 < kappa["b"]
    same_everywhere = coefficients({"a": 1.0, "b": 1.0}, {"a": 0.4, "b": 0.4}, alpha=0.5)
    assert set(same_everywhere.values()) == {1.0}


def test_the_history_is_of_the_steps_before_or_of_all():
    """M = 2: r^a = exp(s^b - s^a)."""
    now = {"a": 1.0, "b": 2.0}
    kappa = coefficients({}, now, steps=0)  # tau is 1 without a history
    assert kappa == pytest.approx({"a": math.exp(1 - math.e), "b": math.exp(1 - 1 / math.e)})
    assert coefficients({}, now, steps=0, history="inclusive") == {"a": 1.0, "b": 1.0}
    history = {"a": 1.0, "b": 1.0}  # of one step; with this one the means are 1 and 1.5
    assert coefficients(history, now, steps=1) == pytest.approx(kappa)
    inclusive = coefficients(history, now, steps=1, history="inclusive")
    assert inclusive["a"] == pytest.approx(math.exp(math.exp(0.5) - math.e))


def test_the_cap():
    history, now = {"a": 0.01, "b": 9.0}, {"a": 9.0, "b": 0.01}
    assert coefficients(history, now, alpha=0.1)["a"] == pytest.approx(math.exp(1.0))
    three = coefficients(history | {"c": 9.0}, now | {"c": 9.0}, alpha=0.1)
    assert three["a"] == pytest.approx(math.exp(0.7))
    assert coefficients(history, now, alpha=0.1, cap=2.0)["a"] == pytest.approx(math.exp(0.2))
    assert coefficients(history, now, alpha=10.0, cap=50.0)["b"] == 0.0  # no overflow, no error


def test_identical_modalities_have_one_coefficient():
    model = small_model(("audio", "video"), width=4)
    first, second = (model.encoder_module(m) for m in model.modalities)
    second.load_state_dict(first.state_dict())
    model.head.weight("video").data.copy_(model.head.weight("audio").data)
    run = HandRun(create_method("agm", {"alpha": 1.0}), model)
    for step in range(3):
        batch = random_batch(model, seed=step)
        batch.inputs["video"].copy_(batch.inputs["audio"])
        found, _ = run.gradients(batch)
    pairs = zip(model.encoder_parameters("audio"), model.encoder_parameters("video"), strict=True)
    for (one, _), (other, _) in pairs:
        torch.testing.assert_close(found[one], found[other], rtol=1e-9, atol=1e-12)


def test_probes_do_not_change_statistics_modes_and_random_streams():
    for mode in ("encoder-grad", "shapley-branch"):
        model, plain = small_model(), small_model()
        model.encoder_module("audio").norm.eval()
        plain.encoder_module("audio").norm.eval()
        modes = [module.training for module in model.modules()]
        stream = torch.get_rng_state()
        HandRun(create_method("agm", {"mode": mode}), model).gradients(random_batch(model))
        HandRun(create_method("joint"), plain).gradients(random_batch(plain))
        assert same(dict(model.named_buffers()), dict(plain.named_buffers()))
        assert [module.training for module in model.modules()] == modes
        assert torch.equal(torch.get_rng_state(), stream)


@pytest.mark.parametrize("mode", ["encoder-grad", "shapley-branch"])
def test_cost(mode):
    """Each encoder runs on the batch, on the batch again and on zeros; switched off, on the batch only."""
    for alpha, passes in ((0.1, 3), (0.0, 1)):
        model = small_model(THREE)
        seen = []
        for m in THREE:
            model.encoder_module(m).register_forward_hook(lambda *_, seen=seen: seen.append(1))
        HandRun(create_method("agm", {"alpha": alpha, "mode": mode}), model).gradients(random_batch(model))
        assert len(seen) == passes * len(THREE)


@pytest.mark.parametrize("mode", ["encoder-grad", "shapley-branch"])
def test_adaptive_optimisers_are_warned_about(mode):
    method = create_method("agm", {"mode": mode} | ({"apply": "grad"} if mode == "encoder-grad" else {}))
    sgd, adamw = (SimpleNamespace(epochs=10, optimizer=name) for name in ("sgd", "adamw"))
    assert method.problems(sgd) == []
    (line,) = method.problems(adamw)
    assert "adamw undoes" in line
    assert ("apply=update" if mode == "encoder-grad" else "mode=encoder-grad") in line


def test_invalid_options_are_refused():
    with pytest.raises(UnknownNameError, match="value of mode"):
        create_method("agm", {"mode": "shapley"})
    for options in ({"alpha": -0.1}, {"alpha": 11.0}, {"cap": -1.0}, {"cap": math.inf}):
        with pytest.raises(UsageError, match="is"):
            create_method("agm", options)
    for options in ({"tensors": "matrices"}, {"apply": "update"}):
        with pytest.raises(UsageError, match="encoder-grad"):
            create_method("agm", options)
