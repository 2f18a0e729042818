"""MCR: every term against loops, and the routing of gradients against separate passes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from equipoise.methods import StepContext, create_method
from equipoise.methods.mcr import divergence, draw_permutations
from equipoise.methods.shared.contrastive import labelled_nt_xent, supervised_contrastive
from equipoise.types import UnknownNameError, UsageError
from hand_run import HandRun, random_batch, same, small_model

BOTH, THREE = ("audio", "video"), ("audio", "video", "text")
ALONE = {"lam_uni": 0.0, "lam_con": 0.0}


def softmax(u):
    e = np.exp(u - u.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def slow_divergence(model, z, modality, sigma):
    """D^m, permutation by permutation and sample by sample."""
    plain, total = softmax(model.fuse(z).detach().numpy()), 0.0
    for rows in sigma:
        other = model.fuse({m: x[rows] if m == modality else x for m, x in z.items()})
        for p, q in zip(plain, softmax(other.detach().numpy()), strict=True):
            mixed = (p + q) / 2
            total += 0.5 * sum(
                a * math.log(a / c) + b * math.log(b / c) for a, b, c in zip(p, q, mixed, strict=True)
            )
    return total / sigma.numel()


def upcoming(run, batch, kind="any", n=32):
    generator = torch.Generator()
    generator.set_state(run.generator.get_state())
    return draw_permutations(kind, batch.target, n, generator)


def begun(options, modalities=BOTH, fusion="concat", **model_options):
    model = small_model(modalities, fusion, **model_options)
    return HandRun(create_method("mcr", options), model)


def step(run, batch):
    context = StepContext(run, batch)
    run.method.forward(context)
    return run.method.losses(context), context


@pytest.mark.parametrize("modalities", [BOTH, THREE])
@pytest.mark.parametrize("fusion", ["concat", "gated"])
@pytest.mark.parametrize("permutation", ["any", "derangement", "other-label"])
def test_the_permutation_term_against_a_loop(modalities, fusion, permutation):
    run = begun({**ALONE, "lam": 0.3, "n": 4, "permutation": permutation}, modalities, fusion)
    batch = random_batch(run.model)
    sigma = upcoming(run, batch, permutation, 4)
    terms, context = step(run, batch)
    expected = [slow_divergence(run.model, context.z, m, sigma) for m in modalities]
    assert list(terms) == ["joint", "permutation"]
    assert terms["permutation"].item() == pytest.approx(-0.3 * sum(expected), abs=1e-6)
    assert all(0 < value < math.log(2) for value in expected)


@pytest.mark.parametrize("modalities", [BOTH, THREE])
@pytest.mark.parametrize("fusion", ["concat", "gated"])
@pytest.mark.parametrize("kappa", [-1.0, 0.0, 1.0])
def test_gradients_are_routed(modalities, fusion, kappa):
    """Encoder m gets dL^m + kappa * sum of the others' dL^n, the fusion the sum; and all get dCE."""
    lam = 0.4
    run = begun({**ALONE, "lam": lam, "n": 3, "kappa": kappa}, modalities, fusion)
    batch = random_batch(run.model)
    sigma = upcoming(run, batch, n=3)
    gradients, _ = run.gradients(batch)
    model = small_model(modalities, fusion)
    z = {m: model.encoder_module(m)(batch.inputs[m]) for m in modalities}
    named = dict(model.named_parameters())

    def slope(loss):
        found = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
        return {k: 0.0 if g is None else g for k, g in zip(named, found, strict=True)}

    def dependence(modality):
        p, total = model.fuse(z).softmax(1), 0.0
        for rows in sigma:
            q = model.fuse({m: x[rows] if m == modality else x for m, x in z.items()}).softmax(1)
            c = (p + q) / 2
            total = total + ((p * (p / c).log()).sum(1) + (q * (q / c).log()).sum(1)).mean() / 2
        return total / len(sigma)

    joint = slope(F.cross_entropy(model.fuse(z), batch.target))
    parts = {m: slope(-lam * dependence(m)) for m in modalities}
    owner = {name: m for m in modalities for name, _ in model.encoder_parameters(m)}
    for name, gradient in gradients.items():
        m = owner.get(name)
        expected = joint[name]
        for other in modalities:
            expected = expected + parts[other][name] * (1.0 if m in (None, other) else kappa)
        torch.testing.assert_close(gradient, expected, atol=1e-8, rtol=0)


def test_greedy_is_the_negative_of_collaborative_for_the_others_terms():
    def from_others(kappa):
        found = []
        for value in (kappa, 0.0):
            run = begun({**ALONE, "kappa": value, "n": 3})
            gradients, _ = run.gradients(random_batch(run.model))
            found.append({n: gradients[n] for m in BOTH for n, _ in run.model.encoder_parameters(m)})
        return {name: found[0][name] - found[1][name] for name in found[0]}

    greedy, together = from_others(-1.0), from_others(1.0)
    assert any(value.abs().max() > 1e-6 for value in greedy.values())
    for name, value in greedy.items():
        torch.testing.assert_close(value, -together[name], atol=1e-12, rtol=0)


def test_identity_and_a_head_that_ignores_its_input():
    model = small_model(THREE)
    z = {m: torch.randn(8, d, dtype=torch.float64) for m, d in model.feature_widths().items()}
    identity = torch.arange(8).expand(3, 8)
    assert all(divergence(model, z, m, identity).item() == pytest.approx(0, abs=1e-15) for m in THREE)
    model.head.weight("video").data.zero_()
    sigma = draw_permutations("derangement", torch.arange(8), 5, torch.Generator())
    assert divergence(model, z, "video", sigma).item() == pytest.approx(0, abs=1e-15)
    assert divergence(model, z, "audio", sigma).item() > 1e-3
    # Confident predictions that change completely reach the bound, without NaN in value or gradient.
    model.head.weight("audio").data.mul_(1e4)
    z["audio"].requires_grad_()
    far = divergence(model, z, "audio", sigma)
    assert 0 < far.item() <= math.log(2)
    far.backward()
    assert torch.isfinite(z["audio"].grad).all()


def test_permutations():
    y = torch.tensor([0, 0, 1, 2, 1, 0, 2])
    generator = torch.Generator().manual_seed(0)
    for kind in ("any", "derangement"):
        drawn = draw_permutations(kind, y, 200, generator)
        assert drawn.shape == (200, 7)
        assert torch.equal(drawn.sort(1).values, torch.arange(7).expand(200, 7))
        assert len(set(map(tuple, drawn.tolist()))) > 150
        assert bool((drawn == torch.arange(7)).any()) == (kind == "any")
    counts = torch.bincount(draw_permutations("derangement", y, 6000, generator)[:, 2], minlength=7)
    assert counts[2] == 0
    assert counts[counts > 0].float().div(1000).sub(1).abs().max() < 0.15  # the others equally often
    other = draw_permutations("other-label", y, 200, generator)
    assert (y[other] != y).all()
    assert {int(i) for i in other[:, 3]} == {0, 1, 2, 4, 5}
    same_label = draw_permutations("other-label", torch.zeros(4, dtype=torch.long), 5, generator)
    assert same_label.shape == (5, 4)
    for kind in ("any", "derangement", "other-label"):
        assert draw_permutations(kind, torch.tensor([1]), 2, generator).tolist() == [[0], [0]]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("contrast", [labelled_nt_xent, supervised_contrastive])
def test_the_contrastive_losses_against_loops(count, contrast):
    generator = torch.Generator().manual_seed(1)
    z = [torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(count)]
    y = torch.tensor([0, 1, 0, 2, 1])
    rows = [row / np.linalg.norm(row) for part in z for row in part.numpy()]
    labels = y.tolist() * count
    by_anchor = []
    for a, row in enumerate(rows):
        weights = [math.exp(float(row @ other) / 0.5) if b != a else 0.0 for b, other in enumerate(rows)]
        positives = [b for b in range(len(rows)) if b != a and labels[b] == labels[a]]
        negatives = sum(weights[b] for b in range(len(rows)) if labels[b] != labels[a])
        below = {b: weights[b] + negatives for b in positives}
        if contrast is supervised_contrastive:
            below = dict.fromkeys(positives, sum(weights))
        by_anchor.append([-math.log(weights[b] / below[b]) for b in positives])
    if contrast is supervised_contrastive:
        expected = np.mean([np.mean(pairs) for pairs in by_anchor])
    else:
        expected = np.mean([pair for pairs in by_anchor for pair in pairs])
    assert contrast(z, y, 0.5).item() == pytest.approx(expected, abs=1e-9)


E2 = math.exp(2)  # of two equal features at temperature 0.5
BY_HAND = {
    "nt-xent": (
        6 * math.log(1 + 2 / E2) + 3 * math.log(3) + 3 * math.log(1 + 2 * E2) + 2 * math.log(2 + 3 / E2)
    )
    / 14,
    "supcon": math.log(2 * E2 + 3) - 8 / 6,
}


@pytest.mark.parametrize("options", [{}, {"contrast": "nt-xent"}, {"contrast": "supcon"}])
def test_the_contrastive_term_of_three_samples(options):
    run = begun({"lam": 0.0, "lam_uni": 0.0, "lam_con": 1.0, **options}, width=2)
    context = StepContext(run, replace(random_batch(run.model), target=torch.tensor([0, 0, 1])))
    context.z["audio"] = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    context.z["video"] = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    context.u = torch.zeros(3, 3)
    terms = run.method.losses(context)
    expected = BY_HAND[options.get("contrast", "nt-xent")]
    assert terms["contrastive"].item() == pytest.approx(expected, abs=1e-6)


def test_a_batch_of_one_class_has_no_negatives_to_contrast():
    z = [torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in BOTH]
    loss = labelled_nt_xent(z, torch.zeros(4, dtype=torch.long), 0.5)
    loss.backward()
    assert loss.item() == 0
    assert all(torch.equal(part.grad, torch.zeros_like(part)) for part in z)


def test_features_of_different_widths_are_projected_and_equal_widths_are_not():
    run = begun({"lam": 0.0, "lam_uni": 0.0, "lam_con": 2.0}, THREE)
    assert list(run.modules) == ["projections"]
    terms, context = step(run, random_batch(run.model))
    linears = run.modules["projections"].by_modality()
    aligned = [context.z[m] @ linears[m].weight.T + linears[m].bias for m in THREE]
    assert {x.shape[1] for x in aligned} == {4}
    expected = 2 * labelled_nt_xent(aligned, context.batch.target, 0.5)
    assert terms["contrastive"].item() == pytest.approx(expected.item(), abs=1e-9)
    equal = begun({"lam": 0.0, "lam_uni": 0.0, "lam_con": 1.0, "temperature": 0.2}, THREE, width=4)
    assert list(equal.modules) == []
    terms, context = step(equal, random_batch(equal.model))
    expected = labelled_nt_xent(list(context.z.values()), context.batch.target, 0.2)
    assert terms["contrastive"].item() == pytest.approx(expected.item(), abs=1e-9)


def test_the_reconstruction():
    run = begun({**ALONE, "lam": 0.0, "lam_ceb": 0.6}, THREE)
    assert list(run.modules) == ["decoder"]
    terms, context = step(run, random_batch(run.model))
    w = {k: v.detach().numpy() for k, v in run.modules["decoder"].state_dict().items()}
    u = context.u.detach().numpy()
    told = np.maximum(u @ w["0.weight"].T + w["0.bias"], 0) @ w["2.weight"].T + w["2.bias"]
    wanted = np.concatenate([context.z[m].detach().numpy() for m in THREE], 1)
    expected = 0.6 * float(((wanted - told) ** 2).sum(1).mean())
    assert terms["reconstruction"].item() == pytest.approx(expected, abs=1e-6)
    terms["reconstruction"].backward()
    assert all(p.grad is None for _, p in run.model.fusion_parameters())  # the logits are constants
    assert run.model.encoder_module("audio").last.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("source", ["slice", "aux", "zero-feature"])
def test_with_unimodal_losses_only_it_is_multi_loss(source):
    off = {"lam": 0.0, "lam_con": 0.0, "lam_uni": 0.5, "logits": source}
    runs = [
        begun(off),
        HandRun(create_method("multi-loss", {"weight": 0.5, "logits": source}), small_model()),
    ]
    if source == "aux":
        runs[0].modules.load_state_dict(runs[1].modules.state_dict())
    batches = [random_batch(runs[0].model, seed=seed) for seed in range(3)]
    assert same(*(run.fit(batches) for run in runs))


def test_a_fusion_with_normalisation_and_dropout_is_not_changed():
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.drop, self.linear = nn.BatchNorm1d(10), nn.Dropout(0.5), nn.Linear(10, 3)

        def forward(self, z):
            return self.linear(self.drop(self.norm(torch.cat(list(z.values()), 1))))

    from equipoise.models import MultimodalModel

    small = small_model()
    model = MultimodalModel(small.encoders, Head().double(), 3)
    run = HandRun(create_method("mcr", {**ALONE, "n": 2}), model)
    context = StepContext(run, random_batch(model))
    run.method.forward(context)
    before, stream = model.fusion.norm.running_mean.clone(), torch.get_rng_state()
    run.method.losses(context)
    assert torch.equal(model.fusion.norm.running_mean, before)
    assert torch.equal(torch.get_rng_state(), stream)
    assert model.fusion.norm.training


def test_modules_and_options():
    assert list(begun({}).modules) == ["heads", "projections"]
    assert list(begun({"lam_uni": 0.0, "lam_con": 0.0, "lam": 0.0}).modules) == []
    for options in ({"kappa": -1.5}, {"n": 0}, {"temperature": 0.0}, {"lam": -1.0}, {"lam_ceb": -1.0}):
        with pytest.raises(UsageError):
            create_method("mcr", options)
    with pytest.raises(UnknownNameError, match="value of contrast"):
        create_method("mcr", {"contrast": "clip"})
    with pytest.raises(UnknownNameError, match="did you mean derangement"):
        create_method("mcr", {"permutation": "derangements"})
    with pytest.raises(UsageError, match="at least 2 modalities"):
        create_method("mcr").check(small_model(("audio",)))
