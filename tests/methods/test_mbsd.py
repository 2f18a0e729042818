"""MBSD: both terms of a pair against a loop over samples, and which modality gets which gradient."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch

from equipoise.methods import METHODS, StepContext, create_method
from equipoise.methods.mbsd import self_distillation
from equipoise.types import UnknownNameError, UsageError
from hand_run import HandRun, random_batch, small_model

BOTH, THREE = ("audio", "video"), ("audio", "video", "text")


def softmax(row):
    e = [math.exp(value - max(row)) for value in row]
    return [value / sum(e) for value in e]


KINDS = ("probabilities", "logits")


def slow_pair(a, b, y, kind):
    """The two terms of a pair, and their gradients with respect to each modality's logits."""
    n, classes = a.shape
    kl = rs = 0.0
    slopes = {"kl": [np.zeros_like(a), np.zeros_like(b)], "rs": [np.zeros_like(a), np.zeros_like(b)]}
    for i, k in enumerate(y):
        rows = [a[i], b[i]]
        p = [softmax(row) for row in rows]
        if k not in (int(np.argmax(p[0])), int(np.argmax(p[1]))):
            continue
        w = abs(p[0][k] - p[1][k])
        strong = 0 if p[0][k] >= p[1][k] else 1
        weak = 1 - strong
        kl += w * sum(s * math.log(s / q) for s, q in zip(p[strong], p[weak], strict=True)) / n
        seen = p if kind == "probabilities" else rows
        rs += w * sum((x - z) ** 2 for x, z in zip(*seen, strict=True)) / classes / n
        slopes["kl"][weak][i] = w * (np.array(p[weak]) - np.array(p[strong])) / n
        slope = w * 2 * (np.array(seen[weak]) - np.array(seen[strong])) / classes / n
        if kind == "probabilities":  # through the softmax
            q = np.array(p[weak])
            slope = q * (slope - (slope * q).sum())
        slopes["rs"][weak][i] = slope
    return kl, rs, slopes


def drawn(modalities, n=20, classes=4):
    generator = torch.Generator().manual_seed(3)
    logits = {m: 2 * torch.randn(n, classes, generator=generator, dtype=torch.float64) for m in modalities}
    return {m: u.requires_grad_() for m, u in logits.items()}, torch.randint(
        classes, (n,), generator=generator
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("modalities", [BOTH, THREE])
def test_terms_and_gradients_against_a_loop(modalities, kind):
    logits, y = drawn(modalities)
    divergence, distance = self_distillation(logits, y, kind)
    pairs = list(combinations(modalities, 2))
    kl = rs = 0.0
    slopes = {which: dict.fromkeys(modalities, 0.0) for which in ("kl", "rs")}
    for m, n in pairs:
        a, b = (logits[name].detach().numpy() for name in (m, n))
        one, two, found = slow_pair(a, b, y.tolist(), kind)
        kl, rs = kl + one / len(pairs), rs + two / len(pairs)
        for which in slopes:
            slopes[which][m] += found[which][0] / len(pairs)
            slopes[which][n] += found[which][1] / len(pairs)
    assert divergence.item() == pytest.approx(kl, abs=1e-9)
    assert distance.item() == pytest.approx(rs, abs=1e-9)
    assert min(kl, rs) > 0.001
    for term, which in ((divergence, "kl"), (distance, "rs")):
        gradients = torch.autograd.grad(term, list(logits.values()), retain_graph=True)
        for m, gradient in zip(modalities, gradients, strict=True):
            np.testing.assert_allclose(gradient.numpy(), slopes[which][m], atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_weaker_modality_of_a_sample_gets_a_gradient(kind):
    logits, y = drawn(BOTH)
    sum(self_distillation(logits, y, kind)).backward()
    p = {m: u.softmax(1).gather(1, y[:, None]).squeeze(1) for m, u in logits.items()}
    right = (logits["audio"].argmax(1) == y) | (logits["video"].argmax(1) == y)
    assert 0 < right.sum() < len(y)
    for m, other in (BOTH, BOTH[::-1]):
        moved = logits[m].grad.abs().sum(1) > 0
        assert torch.equal(moved, (p[m] < p[other]) & right)


@pytest.mark.parametrize("kind", KINDS)
def test_identical_logits_and_samples_wrong_in_both_modalities_have_zero_loss(kind):
    logits, y = drawn(BOTH)
    same_logits = {"a": logits["audio"], "b": logits["audio"]}
    assert [t.item() for t in self_distillation(same_logits, y, kind)] == [0, 0]
    wrong = {
        m: torch.nn.functional.one_hot((y + 1) % 4, 4).double() * scale
        for m, scale in zip(BOTH, (3, 5), strict=True)
    }
    assert [t.item() for t in self_distillation(wrong, y, kind)] == [0, 0]


def test_the_terms_of_a_step():
    model = small_model(THREE)
    options = {"w_kl": 0.5, "w_rs": 2.0, "w_uni": 0.25}
    run = HandRun(create_method("mbsd", options), model)
    context = StepContext(run, random_batch(model))
    run.method.forward(context)
    terms = run.method.losses(context)
    head, y = model.head, context.batch.target
    slices = {m: (z @ head.weight(m).T + head.bias() / 3).detach().numpy() for m, z in context.z.items()}
    found = [slow_pair(slices[m], slices[n], y.tolist(), "probabilities") for m, n in combinations(THREE, 2)]
    assert terms["divergence"].item() == pytest.approx(0.5 * sum(f[0] for f in found) / 3, abs=1e-6)
    assert terms["distance"].item() == pytest.approx(2.0 * sum(f[1] for f in found) / 3, abs=1e-6)
    nll = [-math.log(softmax(row)[k]) for u in slices.values() for row, k in zip(u, y.tolist(), strict=True)]
    assert terms["unimodal"].item() == pytest.approx(0.25 * sum(nll) / len(y), abs=1e-6)
    assert terms["joint"].item() == torch.nn.functional.cross_entropy(context.u, y).item()


def test_sources_and_options():
    assert METHODS["mbsd"].experimental
    gated = small_model(fusion="gated")
    with pytest.raises(UsageError, match="additive_head"):
        create_method("mbsd").check(gated)
    for source in ("aux", "zero-feature"):
        method = create_method("mbsd", {"logits": source})
        method.check(gated)
        weights = HandRun(method, small_model(fusion="gated")).fit([random_batch(gated)])
        assert all(torch.isfinite(value).all() for value in weights.values())
    with pytest.raises(UsageError, match="at least 2 modalities"):
        create_method("mbsd").check(small_model(("audio",)))
    for option in ("w_kl", "w_rs", "w_uni"):
        with pytest.raises(UsageError, match=option):
            create_method("mbsd", {option: -1.0})
    with pytest.raises(UnknownNameError):
        create_method("mbsd", {"logits": "zero-input"})
