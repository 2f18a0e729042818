"""MMPareto: gradients against a search over the weights, parameter by parameter."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from equipoise.methods import create_method
from equipoise.methods.mmpareto import pareto_gradient
from equipoise.models import MultimodalModel
from equipoise.types import UnknownNameError, UsageError
from hand_run import CLASSES, WIDTHS, HandRun, random_batch, small_model

THREE = ("audio", "video", "text")


def losses(model, heads, batch, logits="aux"):
    """CE(u, y) and {m: CE(u^m, y)} from the modules."""
    z = {m: model.encoder_module(m)(batch.inputs[m]) for m in model.modalities}
    joint = F.cross_entropy(model.fuse(z), batch.target)
    own = {}
    for i, m in enumerate(model.modalities):
        if logits == "aux":
            u = heads.linears[i](z[m])
        else:
            u = model.fuse({n: z[n] if n == m else torch.zeros_like(z[n]) for n in z})
        own[m] = F.cross_entropy(u, batch.target)
    return joint, own


def slow_mix(joint, own, scope):
    """h of one encoder in NumPy: golden-section search for the weight of the shortest mixture."""
    gj, gm = (np.concatenate([g.numpy().ravel() for g in side]) for side in (joint, own))
    cosine = gj @ gm / (np.linalg.norm(gj) * np.linalg.norm(gm))
    a = 0.5
    if cosine < 0:
        low, high, golden = 0.0, 1.0, (5**0.5 - 1) / 2
        for _ in range(200):
            left, right = high - golden * (high - low), low + golden * (high - low)
            shorter = np.linalg.norm(left * gj + (1 - left) * gm) < np.linalg.norm(
                right * gj + (1 - right) * gm
            )
            low, high = (low, right) if shorter else (left, high)
        a = (low + high) / 2
    mixed = [2 * a * j.numpy() + 2 * (1 - a) * m.numpy() for j, m in zip(joint, own, strict=True)]
    total = [j.numpy() + m.numpy() for j, m in zip(joint, own, strict=True)]
    if scope == "encoder":
        flat = [np.concatenate([x.ravel() for x in side]) for side in (total, mixed)]
        factor = max(1.0, np.linalg.norm(flat[0]) / np.linalg.norm(flat[1]))
        return cosine, [h * factor for h in mixed]
    return cosine, [
        h * max(1.0, np.linalg.norm(t) / max(np.linalg.norm(h), 1e-300))
        for h, t in zip(mixed, total, strict=True)
    ]


def conflicting(run, seed):
    """Invert the auxiliary heads of a run relative to the joint head, for all modalities but the last."""
    model, generator = run.model, torch.Generator().manual_seed(seed)
    heads = run.modules["heads"].by_modality()
    for m in model.modalities[:-1]:
        heads[m].weight.data = -model.head.weight(m).detach().clone()
        heads[m].weight.data += 0.1 * torch.randn(heads[m].weight.shape, generator=generator).double()


def setting(modalities=("audio", "video"), fusion="concat", seed=1, **options):
    model = small_model(modalities, fusion)
    run = HandRun(create_method("mmpareto", options), model)
    if fusion == "concat" and "logits" not in options:
        conflicting(run, seed)
    return run, random_batch(model, seed=seed)


def separate(run, batch, logits="aux"):
    """Gradients {name: G} of the joint loss and of each unimodal loss, on copies."""
    model, heads = deepcopy(run.model), deepcopy(run.modules["heads"]) if "heads" in run.modules else None
    joint, own = losses(model, heads, batch, logits)
    named = dict(model.named_parameters())

    def gradients(loss):
        found = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
        return dict(zip(named, found, strict=True))

    return gradients(joint), {m: gradients(loss) for m, loss in own.items()}


@pytest.mark.parametrize("modalities", [("audio", "video"), ("video", "audio"), THREE])
@pytest.mark.parametrize("norm_scope", ["tensor", "encoder"])
def test_encoder_gradients_against_a_search(modalities, norm_scope):
    for seed in range(3):
        run, batch = setting(modalities, seed=seed, norm_scope=norm_scope)
        joint, own = separate(run, batch)
        found, _ = run.gradients(batch)
        cosines = {}
        for m in modalities:
            names = [name for name, _ in run.model.encoder_parameters(m)]
            sides = [[side[n] for n in names] for side in (joint, own[m])]
            cosines[m], expected = slow_mix(*sides, norm_scope)
            for name, h in zip(names, expected, strict=True):
                np.testing.assert_allclose(found[name].numpy(), 1.5 * h, rtol=1e-6, atol=1e-7)
        assert cosines[modalities[0]] < 0


@pytest.mark.parametrize(("fusion", "logits"), [("gated", "aux"), ("film", "zero-feature"), ("sum", "slice")])
def test_other_fusions_and_sources(fusion, logits):
    run, batch = setting(THREE, fusion, logits=logits, gamma=2.0)
    if logits == "slice":  # the slice with its part of the bias, instead of the whole bias
        run.model.fusion.bias.data.zero_()
    joint, own = separate(run, batch, "aux" if logits == "aux" else "zero-feature")
    found, _ = run.gradients(batch)
    for m in THREE:
        names = [name for name, _ in run.model.encoder_parameters(m)]
        _, expected = slow_mix([joint[n] for n in names], [own[m][n] for n in names], "tensor")
        for name, h in zip(names, expected, strict=True):
            np.testing.assert_allclose(found[name].numpy(), 2 * h, rtol=1e-6, atol=1e-7)


def test_heads_get_the_gradients_of_multi_loss():
    for logits in ("aux", "slice", "zero-feature"):
        run, batch = setting(logits=logits)
        other = HandRun(create_method("multi-loss", {"logits": logits}), small_model())
        other.modules.load_state_dict(run.modules.state_dict())
        found, _ = run.gradients(batch)
        expected, _ = other.gradients(batch)
        for name, _ in run.model.fusion_parameters():
            torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-12)
        for one, two in zip(run.modules.parameters(), other.modules.parameters(), strict=True):
            torch.testing.assert_close(one.grad, two.grad, rtol=0, atol=1e-12)


def random_sides(seed, turn):
    """Two gradients of three tensors; conflicting for `turn` of -1."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(4, 3), (4,), (2, 2, 2)]
    joint = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    own = [turn * j + 0.8 * torch.randn(j.shape, generator=generator, dtype=torch.float64) for j in joint]
    return joint, own


@pytest.mark.parametrize("scope", ["tensor", "encoder"])
def test_gradients_that_agree_are_added_exactly(scope):
    for seed in range(20):
        joint, own = random_sides(seed, 1)
        for h, j, m in zip(pareto_gradient(joint, own, scope), joint, own, strict=True):
            assert torch.equal(h, j + m)


def dot(left, right):
    return float(sum((a * b).sum() for a, b in zip(left, right, strict=True)))


def test_with_conflicts_neither_loss_increases_and_the_length_is_kept():
    for seed in range(50):
        joint, own = random_sides(seed, -(0.8 + seed / 10))
        assert dot(joint, own) < 0
        for scope in ("tensor", "encoder"):
            h = pareto_gradient(joint, own, scope)
            total = [j + m for j, m in zip(joint, own, strict=True)]
            assert dot(h, h) >= dot(total, total) * (1 - 1e-9)
            if scope == "encoder":
                assert dot(h, joint) >= -1e-9
                assert dot(h, own) >= -1e-9
            else:
                for one, sum_of in zip(h, total, strict=True):
                    assert one.norm() >= sum_of.norm() * (1 - 1e-9)


def test_zero_gradients_give_finite_results():
    joint = [torch.ones(2, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)]
    for own in ([-joint[0], joint[1]], [torch.zeros_like(joint[0]), joint[1]]):
        for scope in ("tensor", "encoder"):
            h = pareto_gradient(joint, own, scope)
            assert all(torch.isfinite(x).all() for x in h)
    opposite = pareto_gradient(joint, [-joint[0], joint[1]], "encoder")
    assert not any(x.any() for x in opposite)


def test_frozen_parameters_get_no_gradient():
    run, batch = setting()
    frozen = run.model.encoder_module("audio").first
    frozen.requires_grad_(False)
    found, _ = run.gradients(batch)
    assert frozen.weight.grad is None
    assert any(name.endswith("last.weight") for name in found)
    run.fit([batch])


class TwoBiases(nn.Module):
    """A fusion for two of whose parameters autograd returns the same gradient tensor."""

    modalities, num_classes = ("audio", "video"), CLASSES

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Parameter(torch.zeros(CLASSES)), nn.Parameter(torch.zeros(CLASSES))
        self.widths = {m: WIDTHS[m] for m in self.modalities}

    def forward(self, z):
        return z["audio"][:, :CLASSES] + z["video"][:, :CLASSES] + (self.one + self.other)


def test_gradients_have_separate_storage():
    """Otherwise clipping would scale one of them twice."""
    model = MultimodalModel(small_model().encoders, TwoBiases().double())
    run = HandRun(create_method("mmpareto"), model)
    run.gradients(random_batch(model))
    pointers = [p.grad.data_ptr() for p in [*model.parameters(), *run.modules.parameters()]]
    assert len(pointers) == len(set(pointers))


def test_invalid_options_are_refused():
    with pytest.raises(UnknownNameError, match="value of norm_scope"):
        create_method("mmpareto", {"norm_scope": "layer"})
    with pytest.raises(UnknownNameError, match="value of logits"):
        create_method("mmpareto", {"logits": "zero-input"})
    with pytest.raises(UsageError, match="gamma is"):
        create_method("mmpareto", {"gamma": -1.0})
    with pytest.raises(UsageError, match="additive_head"):
        create_method("mmpareto", {"logits": "slice"}).check(small_model(fusion="gated"))
