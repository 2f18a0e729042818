"""ARL: weights of the modalities against NumPy, and which gradients they scale."""

from __future__ import annotations

import math
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from equipoise.methods import create_method
from equipoise.methods.arl import contribution_weights
from equipoise.types import UnknownNameError, UsageError
from hand_run import HandRun, random_batch, small_model

THREE = ("audio", "video", "text")


def slow_weights(logits, temperature=8.0):
    """omega in NumPy; for two modalities as published, with the other modality's contribution as factor."""
    entropy, size = [], []
    for u in logits.values():
        u = u.detach().numpy()
        p = np.exp(u) / np.exp(u).sum(1, keepdims=True)
        entropy.append(-(p * np.log(p)).sum(1).mean())
        size.append(np.abs(u).mean(0).sum())
    count = len(entropy)
    entropy = np.maximum(np.array(entropy) / np.sum(entropy), 0.3 if count == 2 else 0.6 / count)
    w = (1 / entropy) / (1 / entropy).sum()
    c = np.array(size) / np.sum(size)
    exponent = temperature * (np.array([c[1] * w[0], c[0] * w[1]]) if count == 2 else w * (1 - c))
    omega = np.exp(exponent) / np.exp(exponent).sum()
    return dict(zip(logits, omega.tolist(), strict=True))


def random_logits(modalities, seed):
    generator = torch.Generator().manual_seed(seed)
    spread = {m: 4 * torch.rand((), generator=generator) for m in modalities}
    return {m: spread[m] * torch.randn(9, 4, generator=generator, dtype=torch.float64) for m in modalities}


@pytest.mark.parametrize("count", [2, 3, 4])
def test_weights_against_numpy(count):
    names = ("a", "b", "c", "d")[:count]
    for seed in range(20):
        logits = random_logits(names, seed)
        found = contribution_weights(logits, 8.0, 0.6)
        assert found == pytest.approx(slow_weights(logits), abs=1e-9)
        assert sum(found.values()) == pytest.approx(1.0)
        turned = contribution_weights(dict(reversed(logits.items())), 8.0, 0.6)
        assert turned == pytest.approx(found, abs=1e-12)


def test_equal_modalities_have_equal_weights():
    u = random_logits("a", 0)["a"]
    assert contribution_weights({"a": u, "b": u, "c": u}, 8.0, 0.6) == pytest.approx(
        dict.fromkeys("abc", 1 / 3)
    )


def test_at_equal_contribution_the_more_certain_modality_has_the_larger_weight():
    certain = torch.tensor([[4.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    flat = torch.ones(1, 4, dtype=torch.float64)  # as large, with equal logits for all classes
    found = contribution_weights({"a": certain, "b": flat}, 8.0, 0.6)
    assert found["a"] > 0.6
    # The floor of 0.3 on a share near 0.2: w = 0.8:0.3 without, 0.728:0.272 with it.
    assert contribution_weights({"a": certain, "b": flat}, 8.0, 0.0)["a"] > found["a"]


def test_extreme_logits_give_finite_weights():
    zeros, sure = torch.zeros(3, 4).double(), torch.tensor([[1e9, 0.0]]).double()
    for logits in ({"a": zeros, "b": zeros}, {"a": sure, "b": sure}):
        assert contribution_weights(logits, 1e4, 0.0) == pytest.approx({"a": 0.5, "b": 0.5})
    lopsided = contribution_weights({"a": sure, "b": torch.zeros(1, 2).double()}, 1e4, 0.0)
    assert all(math.isfinite(share) for share in lopsided.values())


def reference(model, batch, weight):
    """Gradients of CE(u, y) + weight * sum CE(u^m, y), and the u^m, on a copy."""
    model = deepcopy(model)
    z = {m: model.encoder_module(m)(batch.inputs[m]) for m in model.modalities}
    logits = {
        m: model.fuse({n: z[n] if n == m else torch.zeros_like(z[n]) for n in z}) for m in model.modalities
    }
    loss = F.cross_entropy(model.fuse(z), batch.target)
    (loss + weight * sum(F.cross_entropy(u, batch.target) for u in logits.values())).backward()
    return {name: p.grad for name, p in model.named_parameters()}, logits


@pytest.mark.parametrize("modalities", [("audio", "video"), ("video", "audio"), THREE])
@pytest.mark.parametrize("fusion", ["concat", "gated"])
@pytest.mark.parametrize("boost", ["asymmetric", "symmetric", "off"])
def test_gradients_during_and_after_the_warm_up(modalities, fusion, boost):
    for epoch, gamma in ((5, 1.0), (6, 4.0)):
        model = small_model(modalities, fusion)
        run = HandRun(create_method("arl", {"boost": boost}), model)
        run.epoch = epoch
        batch = random_batch(model)
        expected, logits = reference(model, batch, gamma)
        found, _ = run.gradients(batch)
        omega = {"asymmetric": slow_weights(logits), "symmetric": dict.fromkeys(modalities, 1 / len(logits))}
        share = omega.get(boost, dict.fromkeys(modalities, 0.0))
        for m in modalities:
            factor = 1 + share[m] if epoch > 5 else 1.0
            for name, _ in model.encoder_parameters(m):
                torch.testing.assert_close(found[name], factor * expected[name], rtol=1e-6, atol=1e-9)
        for name, _ in model.fusion_parameters():
            torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-12)
    if boost == "asymmetric":
        assert max(share.values()) - min(share.values()) > 0.01


def test_a_small_gamma_applies_in_the_warm_up_too():
    model = small_model()
    run = HandRun(create_method("arl", {"gamma": 0.25}), model)
    batch = random_batch(model)
    expected, _ = reference(model, batch, 0.25)
    found, _ = run.gradients(batch)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)


def test_problems_are_reported_before_training():
    def problems(optimizer="sgd", epochs=10, **options):
        plan = SimpleNamespace(epochs=epochs, optimizer=optimizer, learning_rates=lambda: [0.1] * epochs)
        return create_method("arl", options).problems(plan)

    assert problems() == problems("adamw", boost="off") == problems("adamw", apply="update") == []
    assert problems("adamw") == []
    assert "adamw undoes" in problems("adamw", apply="grad")[0]
    assert "lower warmup_epochs" in problems(epochs=6)[0]


def test_invalid_options_are_refused():
    for options in ({"gamma": -1.0}, {"temperature": -1.0}, {"floor": 1.5}, {"warmup_epochs": -1}):
        with pytest.raises(UsageError, match="is"):
            create_method("arl", options)
    for options in ({"boost": "none"}, {"logits": "aux"}):
        with pytest.raises(UnknownNameError, match="value of"):
            create_method("arl", options)
