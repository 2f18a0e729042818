"""DGL: which loss updates which weights, against separate backward passes."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch.nn import functional as F

from equipoise.methods import create_method
from equipoise.models import MidFusionModel
from equipoise.models.build import build_fusion
from equipoise.models.encoders.mlp import MLP
from equipoise.types import Batch, UnknownNameError, UsageError
from hand_run import CLASSES, INPUT, HandRun, random_batch, same, small_model

THREE = ("audio", "video", "text")


def slow_gradients(model, batch, alpha, logits):
    """One backward pass for each encoder, and one for the fusion on detached features."""
    found = {}
    for m in model.modalities:
        copy = deepcopy(model)
        z = {n: copy.encoder_module(n)(batch.inputs[n]) for n in copy.modalities}
        if logits == "slice":
            u = z[m] @ copy.head.weight(m).T + copy.head.bias() / len(z)
        elif logits == "paired":
            u = copy.fuse(dict.fromkeys(z, z[m]))
        else:
            u = copy.fuse({n: z[n] if n == m else torch.zeros_like(z[n]) for n in z})
        (alpha * F.cross_entropy(u, batch.target)).backward()
        found |= {name: p.grad for name, p in copy.encoder_parameters(m)}
    copy = deepcopy(model)
    with torch.no_grad():
        z = {n: copy.encoder_module(n)(batch.inputs[n]) for n in copy.modalities}
    F.cross_entropy(copy.fuse(z), batch.target).backward()
    return found | {name: p.grad for name, p in copy.fusion_parameters()}


@pytest.mark.parametrize("modalities", [("audio", "video"), ("video", "audio"), THREE])
@pytest.mark.parametrize(
    ("fusion", "logits"),
    [
        ("concat", "zero-feature"),
        ("sum", "slice"),
        ("gated", "zero-feature"),
        ("film", "zero-feature"),
        ("low-rank-bilinear", "paired"),
        ("film", "paired"),
    ],
)
def test_gradients_against_separate_passes(modalities, fusion, logits):
    model = small_model(modalities, fusion, width=4)
    run = HandRun(create_method("dgl", {"alpha": 2.5, "logits": logits}), model)
    batch = random_batch(model)
    expected = slow_gradients(model, batch, 2.5, logits)
    found, _ = run.gradients(batch)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)
        assert gradient.abs().max() > 0


def test_the_weight_of_the_unimodal_losses_never_changes_the_fusion():
    found = {}
    for alpha in (0.0, 0.5, 4.0):
        model = small_model()
        run = HandRun(create_method("dgl", {"alpha": alpha}), model)
        gradients, _ = run.gradients(random_batch(model))
        found[alpha] = {name: gradients[name] for name, _ in model.fusion_parameters()}
    assert same(found[0.0], found[0.5])
    assert same(found[0.0], found[4.0])


def test_an_encoder_gets_no_gradient_from_other_modalities():
    gradients = []
    for seed in (1, 2):
        model = small_model()
        batch, other = random_batch(model), random_batch(model, seed=seed + 5)
        mixed = Batch(
            {"audio": batch.inputs["audio"], "video": other.inputs["video"]}, batch.target, batch.index
        )
        found, _ = HandRun(create_method("dgl"), model).gradients(mixed)
        gradients.append({name: found[name] for name, _ in model.encoder_parameters("audio")})
    assert same(*gradients)


def test_without_unimodal_losses_the_encoders_do_not_change():
    model = small_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    HandRun(create_method("dgl", {"alpha": 0.0}), model).fit([random_batch(model, seed=s) for s in range(3)])
    for m in model.modalities:
        assert all(torch.equal(before[name], p) for name, p in model.encoder_parameters(m))
    assert not torch.equal(before["fusion.linear.weight"], model.fusion.linear.weight)


def test_a_constant_modality_gives_finite_gradients():
    model = small_model()
    batch = random_batch(model)
    batch.inputs["audio"].zero_()
    found, _ = HandRun(create_method("dgl"), model).gradients(batch)
    assert all(torch.isfinite(g).all() for g in found.values())


def test_refusals():
    with pytest.raises(UnknownNameError, match="value of logits"):
        create_method("dgl", {"logits": "aux"})
    with pytest.raises(UsageError, match="alpha is"):
        create_method("dgl", {"alpha": -1.0})
    with pytest.raises(UsageError, match="one output width"):
        create_method("dgl", {"logits": "paired"}).check(small_model())
    with pytest.raises(UsageError, match="additive_head"):
        create_method("dgl", {"logits": "slice"}).check(small_model(fusion="gated"))
    encoders = {m: MLP(INPUT, hidden=(6, 5), dropout=0.0) for m in ("audio", "video")}
    mixed = MidFusionModel(encoders, build_fusion("concat", {"audio": 5, "video": 5}, CLASSES, {}, 0))
    with pytest.raises(UsageError, match="does not fit a model with mid_fusion"):
        create_method("dgl").check(mixed)
