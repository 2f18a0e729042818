"""The six logit sources against their definitions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from equipoise.models import (
    AverageFusion,
    ConcatFusion,
    MultimodalModel,
    SumFusion,
    build_model,
    unimodal_logits,
)
from equipoise.models.unimodal_logits import LOGIT_SOURCES, prototype_logits
from equipoise.types import Batch, ModelError, UnknownNameError

NAMES = ["a.b", "train", "keys", "type", "Ärger", "fusion"]
WIDTHS = [3, 1, 4, 2, 6, 5]


class Gate(nn.Module):
    """A fusion that is not additive, with batch normalisation and dropout inside."""

    num_classes = 3

    def __init__(self, widths):
        super().__init__()
        self.norm = nn.BatchNorm1d(sum(widths.values()))
        self.drop = nn.Dropout(0.5)
        self.layer = nn.Linear(sum(widths.values()), 3)

    def forward(self, z):
        return self.layer(self.drop(self.norm(torch.cat(list(z.values()), dim=1)).sigmoid()))


def encoder(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, width))


def model_of(count: int, fusion=ConcatFusion) -> MultimodalModel:
    widths = dict(zip(NAMES[:count], WIDTHS, strict=False))
    built = fusion(widths) if fusion is Gate else fusion(widths, 3)
    model = MultimodalModel({m: encoder(d) for m, d in widths.items()}, built).double()
    for norm in (part for part in model.modules() if isinstance(part, nn.BatchNorm1d)):
        nn.init.normal_(norm.running_mean)
    return model


def inputs(model, batch: int = 4) -> dict[str, torch.Tensor]:
    return {m: torch.randn(batch, 5, dtype=torch.float64) for m in model.modalities}


def heads_of(model) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(d, 3) for d in model.feature_widths().values()).double()


def no_gradient(module: nn.Module) -> bool:
    return all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize("fusion", [ConcatFusion, SumFusion])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_slices_sum_to_the_joint_logits(fusion, count):
    model = model_of(count, fusion)
    output = model(inputs(model))
    slices = unimodal_logits(model, output.features)
    assert list(slices) == list(model.modalities)
    torch.testing.assert_close(sum(slices.values()), output.logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("fusion", [ConcatFusion, SumFusion])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_zero_feature_of_a_linear_head_is_the_slice_with_the_full_bias(fusion, count):
    model = model_of(count, fusion)
    nn.init.normal_(model.fusion.linear.bias if fusion is ConcatFusion else model.fusion.bias)
    z = model.encode(inputs(model))
    slices, zeroed = unimodal_logits(model, z), unimodal_logits(model, z, "zero-feature")
    rest = model.head.bias() * (1 - 1 / count)
    for m in model.modalities:
        torch.testing.assert_close(zeroed[m], slices[m] + rest, rtol=0, atol=1e-12)


@pytest.mark.parametrize("fusion", [ConcatFusion, AverageFusion, Gate])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_zero_input_is_the_model_with_the_other_inputs_zeroed(fusion, count):
    model = model_of(count, fusion).eval()
    x = inputs(model)
    logits = unimodal_logits(model, model.encode(x), "zero-input", batch=x)
    for m in model.modalities:
        alone = {n: x[n] if n == m else torch.zeros_like(x[n]) for n in model.modalities}
        torch.testing.assert_close(logits[m], model(alone).logits, rtol=0, atol=1e-12)
    batch = Batch(x, torch.zeros(4).long(), torch.arange(4))
    again = unimodal_logits(model, model.encode(batch), "zero-input", batch=batch)
    assert all(torch.equal(again[m], logits[m]) for m in logits)


@pytest.mark.parametrize("source", ["zero-feature", "zero-input"])
@pytest.mark.parametrize("fusion", [ConcatFusion, Gate])
def test_zeroed_passes_have_no_side_effects(source, fusion):
    model = model_of(3, fusion).train()
    model.encoders["train"].eval()
    model.encoders["keys"][1].eval()
    x = inputs(model)
    z = model.encode(x)
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    modes = [part.training for part in model.modules()]
    assert len(set(modes)) == 2
    assert any("num_batches_tracked" in name for name in buffers)
    state = torch.get_rng_state()
    first = unimodal_logits(model, z, source, batch=x)
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    assert [part.training for part in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    second = unimodal_logits(model, z, source, batch=x)
    assert all(torch.equal(first[m], second[m]) for m in first)


@pytest.mark.parametrize("source", ["zero-feature", "zero-input"])
def test_modes_are_restored_after_an_error(source):
    model = model_of(2, Gate).train()
    x = inputs(model)
    z = {m: feature[:, :1] for m, feature in model.encode(x).items()}
    with pytest.raises(RuntimeError):
        unimodal_logits(model, z, source, batch=x, head_grad=False)
    assert all(part.training for part in model.modules())
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("source", ["slice", "zero-feature", "zero-input", "aux", "shared"])
@pytest.mark.parametrize("head_grad", [True, False])
def test_head_grad_controls_whether_the_head_is_trained(source, head_grad):
    model = model_of(2).train()
    head = nn.Linear(3, 3).double()
    heads = heads_of(model)
    if source == "shared":
        model = MultimodalModel(
            {m: encoder(3) for m in "av"}, ConcatFusion(dict.fromkeys("av", 3), 3)
        ).double()
    x = inputs(model)
    z = model.encode(x)
    named = dict(zip(model.modalities, heads, strict=True))
    logits = unimodal_logits(model, z, source, batch=x, heads=named, shared_head=head, head_grad=head_grad)
    sum(u.square().sum() for u in logits.values()).backward()
    assert not any(no_gradient(e) for e in model.encoders.values())
    reads = {"aux": heads, "shared": head}.get(source, model.fusion)
    assert no_gradient(reads) is not head_grad
    assert all(no_gradient(other) for other in (heads, head, model.fusion) if other is not reads)
    assert all(p.requires_grad for part in (model, heads, head) for p in part.parameters())


@pytest.mark.parametrize("source", LOGIT_SOURCES)
def test_detached_features_carry_no_gradient_to_the_encoders(source):
    model = MultimodalModel({m: encoder(3) for m in "av"}, ConcatFusion(dict.fromkeys("av", 3), 3)).double()
    x = inputs(model)
    z = {m: feature.detach().requires_grad_() for m, feature in model.encode(x).items()}
    head = nn.Linear(3, 3).double()
    logits = unimodal_logits(
        model, z, source, batch=x, heads=dict.fromkeys("av", head), shared_head=head,
        prototypes={m: torch.randn(3, 3).double() for m in "av"}, head_grad=False,
    )  # fmt: skip
    grads = torch.autograd.grad(logits["a"].sum(), [z["a"], z["v"]], allow_unused=True)
    assert grads[0].abs().sum() > 0
    assert grads[1] is None  # u^a does not depend on z^v


@pytest.mark.parametrize("source", ["zero-feature", "zero-input"])
def test_frozen_parameters_stay_frozen(source):
    model = model_of(2)
    model.fusion.linear.weight.requires_grad_(False)
    model.encoders["a.b"].requires_grad_(False)
    before = [p.requires_grad for p in model.parameters()]
    x = inputs(model)
    unimodal_logits(model, model.encode(x), source, batch=x, head_grad=False)
    assert [p.requires_grad for p in model.parameters()] == before


def test_aux_uses_the_head_of_each_modality():
    model = model_of(3)
    z = model.encode(inputs(model))
    heads = dict(zip(model.modalities, heads_of(model), strict=True))
    logits = unimodal_logits(model, z, "aux", heads=heads)
    assert all(torch.equal(logits[m], heads[m](z[m])) for m in z)
    only = unimodal_logits(model, {"train": z["train"]}, "aux", heads={"train": heads["train"]})
    assert list(only) == ["train"]


@pytest.mark.parametrize("head_grad", [True, False])
def test_aux_of_late_fusion_uses_its_classifiers(head_grad):
    model = model_of(3, AverageFusion)
    output = model(inputs(model))
    logits = unimodal_logits(model, output.features, "aux", head_grad=head_grad)
    assert all(torch.equal(logits[m], model.fusion.own_logits(m, z)) for m, z in output.features.items())
    mean = torch.stack([u.softmax(1) for u in logits.values()]).mean(0)
    torch.testing.assert_close(output.logits.exp(), mean, rtol=0, atol=1e-12)
    sum(u.sum() for u in logits.values()).backward()
    assert no_gradient(model.fusion) is not head_grad


def test_shared_needs_equal_widths():
    model = model_of(2)
    z = model.encode(inputs(model))
    with pytest.raises(ModelError, match=r"different widths.*'aux'"):
        unimodal_logits(model, z, "shared", shared_head=nn.Linear(3, 3))
    head = nn.Linear(3, 3).double()
    alone = unimodal_logits(model, {"a.b": z["a.b"]}, "shared", shared_head=head)
    assert torch.equal(alone["a.b"], head(z["a.b"]))


class TestPrototypes:
    def test_is_the_negative_distance(self):
        z = torch.tensor([[3.0, 4.0], [0.0, 1.0]], dtype=torch.float64)
        centres = torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
        logits = prototype_logits(z, centres)
        expected = -torch.tensor([[25.0, 16.0, 0.0], [1.0, 10.0, 18.0]], dtype=torch.float64).sqrt()
        torch.testing.assert_close(logits, expected, rtol=0, atol=1.1e-6)
        assert logits[0, 2].item() == pytest.approx(-1e-6)

    def test_gradient_at_a_prototype_is_finite_and_prototypes_get_none(self):
        centres = torch.randn(4, 5, requires_grad=True)
        z = centres.detach()[:2].clone().requires_grad_()
        prototype_logits(z, centres).softmax(dim=1)[:, 0].sum().backward()
        assert torch.isfinite(z.grad).all()
        assert centres.grad is None

    def test_half_precision_is_converted(self):
        z = torch.full((1, 300), 60.0, dtype=torch.float16)
        logits = prototype_logits(z, torch.zeros(2, 300, dtype=torch.float16))
        assert logits.dtype == torch.float32
        assert logits[0, 0].item() == pytest.approx(-60 * 300**0.5, rel=1e-5)

    def test_through_the_model(self):
        model = model_of(2)
        z = model.encode(inputs(model))
        centres = {m: torch.randn(7, feature.shape[1]).double() for m, feature in z.items()}
        logits = unimodal_logits(model, z, "proto", prototypes=centres)
        assert all(torch.equal(logits[m], prototype_logits(z[m], centres[m])) for m in z)
        with pytest.raises(ModelError, match=r"\[C, d\]"):
            prototype_logits(z["a.b"], torch.zeros(7, 2))


def test_unsupported_sources_name_an_alternative():
    model = model_of(2, Gate)
    x = inputs(model)
    z = model.encode(x)
    for source, arguments, words in [
        ("slice", {}, "additive head.*'zero-feature'.*'aux'"),
        ("zero-input", {}, "batch=batch"),
        ("aux", {}, "heads of modality 'a.b'"),
        ("aux", {"heads": {"a.b": nn.Linear(3, 3).double()}}, "heads of modality 'train'"),
        ("shared", {}, "shared_head="),
        ("proto", {}, "prototypes of modality"),
    ]:
        with pytest.raises(ModelError, match=words):
            unimodal_logits(model, z, source, **arguments)
    with pytest.raises(ModelError, match="missing: 'train'"):
        unimodal_logits(model, {"a.b": z["a.b"]}, "zero-feature")
    with pytest.raises(ModelError, match="misses the modality 'train'"):
        unimodal_logits(model, z, "zero-input", batch={"a.b": x["a.b"]})
    with pytest.raises(ModelError, match="unknown modality 'x'"):
        unimodal_logits(model, {**z, "x": z["a.b"]}, "slice")
    with pytest.raises(UnknownNameError, match="slice"):
        unimodal_logits(model, z, "slices")


def test_every_source_on_a_model_built_by_name():
    shapes = {"audio": ((9,), "vector"), "video": ((2, 1, 8, 8), "video"), "text": ((4, 3), "sequence")}
    model = build_model(shapes, 6)
    x = {m: torch.randn(3, *shape) for m, (shape, _) in shapes.items()}
    z = model.encode(x)
    head = nn.Linear(128, 6)
    given = {"batch": x, "heads": dict.fromkeys(z, head), "shared_head": head}
    given["prototypes"] = {m: torch.randn(6, 128) for m in z}
    for source in LOGIT_SOURCES:
        logits = unimodal_logits(model, z, source, **given)
        assert {m: tuple(u.shape) for m, u in logits.items()} == dict.fromkeys(shapes, (3, 6))
