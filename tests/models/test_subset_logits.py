"""Joint logits of subsets of modalities."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import nn

from equipoise.models import (
    ConcatFusion,
    MultimodalModel,
    SumFusion,
    build_model,
    subset_logits,
    unimodal_logits,
)
from equipoise.models.subset_logits import ABSENCES, answers_to_zeros
from equipoise.types import Batch, ModelError, UnknownNameError

WIDTHS = {"a.b": 3, "train": 1, "keys": 4}
SUBSETS = [subset for size in range(4) for subset in combinations(WIDTHS, size)]


class Gate(nn.Module):
    """A fusion that is not additive, with batch normalisation and dropout inside."""

    num_classes = 5

    def __init__(self, widths, classes):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(sum(widths.values())), nn.Dropout(0.5)
        self.layer = nn.Linear(sum(widths.values()), classes)

    def forward(self, z):
        return self.layer(self.drop(self.norm(torch.cat(list(z.values()), dim=1)).sigmoid()))


def model_of(fusion=ConcatFusion) -> MultimodalModel:
    encoders = {m: nn.Sequential(nn.Linear(6, d), nn.BatchNorm1d(d)) for m, d in WIDTHS.items()}
    return MultimodalModel(encoders, fusion(WIDTHS, 5)).double()


def inputs(batch: int = 4) -> dict[str, torch.Tensor]:
    return {m: torch.randn(batch, 6, dtype=torch.float64) for m in WIDTHS}


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("fusion", [ConcatFusion, SumFusion])
@pytest.mark.parametrize("subset", SUBSETS)
def test_an_additive_head_adds_the_present_modalities_and_the_bias(fusion, subset):
    model = model_of(fusion)
    nn.init.normal_(model.fusion.linear.bias if fusion is ConcatFusion else model.fusion.bias)
    z = model.encode(inputs())
    expected = model.head.bias().expand(4, 5)
    for m in subset:
        expected = expected + z[m] @ model.head.weight(m).T
    assert_close(subset_logits(model, z, subset), expected)


@pytest.mark.parametrize("fusion", [ConcatFusion, Gate])
@pytest.mark.parametrize("subset", SUBSETS)
def test_zero_input_is_the_model_with_the_other_inputs_zeroed(fusion, subset):
    model = model_of(fusion).train()
    for _ in range(3):
        model(inputs())
    model.eval()
    x = inputs()
    batch = Batch(x, torch.zeros(4).long(), torch.arange(4))
    z = model.encode(x)
    logits = subset_logits(model, z, subset, kind="zero-input", batch=batch)
    assert_close(logits, model({m: x[m] if m in subset else 0 * x[m] for m in WIDTHS}).logits)
    cached = subset_logits(model, z, reversed(subset), absent=answers_to_zeros(model, batch))
    assert torch.equal(cached, logits)


def test_singletons_are_the_unimodal_logits():
    model = model_of(Gate)
    x = inputs()
    z = model.encode(x)
    for kind in ABSENCES:
        logits = unimodal_logits(model, z, kind, batch=x)
        for m in WIDTHS:
            assert torch.equal(subset_logits(model, z, [m], kind=kind, batch=x), logits[m])
            assert torch.equal(subset_logits(model, z, m, kind=kind, batch=x), logits[m])


def test_any_tensor_can_replace_an_absent_modality():
    model = model_of(Gate).eval()
    z = model.encode(inputs())
    permuted = {m: feature.flip(0) for m, feature in z.items()}
    logits = subset_logits(model, {"train": z["train"]}, ["train"], absent=permuted)
    assert_close(logits, model.fuse({**permuted, "train": z["train"]}))
    assert_close(subset_logits(model, z, list(WIDTHS)), model.fuse(z))


@pytest.mark.parametrize("kind", ABSENCES)
def test_passes_have_no_side_effects(kind):
    model = model_of(Gate).train()
    model.encoders["train"].eval()
    x = inputs()
    z = model.encode(x)
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    modes, state = [part.training for part in model.modules()], torch.get_rng_state()
    first = subset_logits(model, z, ["a.b", "keys"], kind=kind, batch=x)
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    assert [part.training for part in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(subset_logits(model, z, ["a.b", "keys"], kind=kind, batch=x), first)


@pytest.mark.parametrize("head_grad", [True, False])
def test_gradients_flow_to_the_present_encoders_and_on_request_to_the_head(head_grad):
    model = model_of(Gate)
    z = model.encode(inputs())
    subset_logits(model, z, ["a.b", "keys"], head_grad=head_grad).square().sum().backward()
    learnt = {m for m in WIDTHS if model.encoder_module(m)[0].weight.grad is not None}
    assert learnt == {"a.b", "keys"}
    assert (model.fusion.layer.weight.grad is not None) is head_grad
    assert all(p.requires_grad for p in model.parameters())


def test_intermediate_fusion():
    shapes = {"audio": ((9,), "vector"), "text": ((4, 3), "sequence")}
    model = build_model(shapes, 5, fusion="mmtm").double().eval()
    x = {m: torch.randn(2, *shape, dtype=torch.float64) for m, (shape, _) in shapes.items()}
    z = model.encode(x)
    zeros = model.encode({m: torch.zeros_like(value) for m, value in x.items()})
    logits = subset_logits(model, z, ["text"], kind="zero-input", batch=x)
    assert_close(logits, model.fuse({"audio": zeros["audio"], "text": z["text"]}))


def test_missing_and_unknown_modalities_are_named():
    model = model_of()
    x = inputs()
    z = model.encode(x)
    with pytest.raises(ModelError, match="subset names the unknown modality 't'"):
        subset_logits(model, z, ["t"])
    with pytest.raises(ModelError, match="features name the unknown modality 't'"):
        subset_logits(model, {**z, "t": z["keys"]}, ["keys"])
    with pytest.raises(ModelError, match="present modality 'keys'"):
        subset_logits(model, {"train": z["train"]}, ["keys"])
    with pytest.raises(ModelError, match="missing: 'a.b', 'keys'"):
        subset_logits(model, {"train": z["train"]}, ["train"])
    with pytest.raises(ModelError, match="no features for 'keys'"):
        subset_logits(model, z, ["train"], absent={"a.b": z["a.b"]})
    with pytest.raises(ModelError, match="batch=batch"):
        subset_logits(model, z, ["train"], kind="zero-input")
    with pytest.raises(UnknownNameError, match="zero-input"):
        subset_logits(model, z, ["train"], kind="zero-inputs")
