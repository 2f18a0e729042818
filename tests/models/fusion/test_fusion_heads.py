"""Fusions against hand-computed numbers, and the views of their heads."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from equipoise.models import FUSIONS, AverageFusion, ConcatFusion, SumFusion
from equipoise.models.build import build_fusion
from equipoise.models.fusion.head import ConcatHead, HeadView, SumHead
from equipoise.types import ModelError, UsageError

ODD_NAMES = ["a.b", "train", "keys", "type", "Ärger", "weight"]
WIDTHS = [3, 1, 4, 2, 6, 5]


def widths_of(count: int) -> dict[str, int]:
    return dict(zip(ODD_NAMES[:count], WIDTHS, strict=False))


def features(widths: dict[str, int], batch: int = 4) -> dict[str, torch.Tensor]:
    return {m: torch.randn(batch, d, dtype=torch.float64, requires_grad=True) for m, d in widths.items()}


def set_to(parameter: torch.Tensor, values: list) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(values))


def test_concat_by_hand():
    fusion = ConcatFusion({"a": 2, "v": 1}, 2).double()
    set_to(fusion.linear.weight, [[1.0, 2.0, 3.0], [-1.0, 0.0, 0.5]])
    set_to(fusion.linear.bias, [0.5, -1.0])
    z = {"a": torch.tensor([[1.0, 2.0]]).double(), "v": torch.tensor([[4.0]]).double()}
    assert fusion(z).tolist() == [[17.5, 0.0]]  # 1 + 4 + 12 + 0.5; -1 + 0 + 2 - 1
    assert fusion.head.slice("a", z["a"]).tolist() == [[5.25, -1.5]]
    assert fusion.head.slice("v", z["v"]).tolist() == [[12.25, 1.5]]
    assert fusion.head.weight("v").tolist() == [[3.0], [0.5]]


def test_sum_by_hand():
    fusion = SumFusion({"a": 2, "v": 1}, 2).double()
    set_to(fusion.linears[0].weight, [[1.0, 2.0], [-1.0, 0.0]])
    set_to(fusion.linears[1].weight, [[3.0], [0.5]])
    set_to(fusion.bias, [0.5, -1.0])
    z = {"v": torch.tensor([[4.0]]).double(), "a": torch.tensor([[1.0, 2.0]]).double()}
    assert fusion(z).tolist() == [[17.5, 0.0]]
    assert fusion.head.slice("a", z["a"]).tolist() == [[5.25, -1.5]]
    assert fusion.head.bias().tolist() == [0.5, -1.0]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        # p^a = (0.9, 0.1), p^v = (0.5, 0.5)
        ("probability", [math.log(0.7), math.log(0.3)]),
        ("logit", [math.log(9.0) / 2, 0.0]),
        ("log-probability", [math.log(0.45) / 2, math.log(0.05) / 2]),
    ],
)
def test_average_by_hand(rule, expected):
    fusion = AverageFusion({"a": 1, "v": 1}, 2, rule=rule).double()
    for head, bias in zip(fusion.own.linears, [[math.log(9.0), 0.0], [0.0, 0.0]], strict=True):
        nn.init.zeros_(head.weight)
        with torch.no_grad():
            head.bias.copy_(torch.tensor(bias, dtype=torch.float64))
    z = {m: torch.ones(1, 1, dtype=torch.float64) for m in "av"}
    assert fusion(z)[0].tolist() == pytest.approx(expected, abs=1e-12)
    assert fusion.own_logits("a", z["a"])[0].tolist() == pytest.approx([math.log(9.0), 0.0])
    assert fusion.head is None


def test_average_of_probabilities_does_not_underflow():
    fusion = AverageFusion({"a": 1, "v": 1}, 2)
    z = {"a": torch.full((1, 1), 1e4, requires_grad=True), "v": torch.full((1, 1), 1e4)}
    logits = fusion(z)
    logits[0, 0].backward()
    assert torch.isfinite(logits).all()
    assert torch.isfinite(z["a"].grad).all()


@pytest.mark.parametrize("name", ["concat", "sum"])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_slices_sum_to_the_joint_logits(name, count):
    widths = widths_of(count)
    fusion = build_fusion(name, widths, 5).double()
    nn.init.normal_(fusion.bias if name == "sum" else fusion.linear.bias)
    z = features(widths)
    assert fusion.head.modalities == tuple(widths)
    total = sum(fusion.head.slice(m, z[m]) for m in widths)
    torch.testing.assert_close(total, fusion(z), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["concat", "sum"])
def test_the_view_follows_the_head_and_works_in_a_copy(name):
    widths = widths_of(3)
    fusion = build_fusion(name, widths, 5)
    view, twin = fusion.head, copy.deepcopy(fusion)
    with torch.no_grad():
        view.weight("train").fill_(7.0)
        twin.head.weight("train").fill_(-1.0)
    assert (fusion.head.weight("train") == 7.0).all()
    assert (twin.head.weight("train") == -1.0).all()
    assert fusion.head.weight("train").shape == (5, 1)
    flat = torch.cat([fusion.head.weight(m) for m in widths], dim=1)
    weights = [fusion.linear.weight] if name == "concat" else [linear.weight for linear in fusion.linears]
    assert torch.equal(flat, torch.cat(weights, dim=1))


@pytest.mark.parametrize("name", ["concat", "sum"])
def test_head_grad_controls_whether_the_head_is_trained(name):
    widths = widths_of(2)
    fusion = build_fusion(name, widths, 5).double()
    z = features(widths)
    fusion.head.slice("a.b", z["a.b"], head_grad=False).square().sum().backward()
    assert all(p.grad is None for p in fusion.parameters())
    assert z["a.b"].grad.abs().sum() > 0
    without = z["a.b"].grad.clone()
    z["a.b"].grad = None
    fusion.head.slice("a.b", z["a.b"], head_grad=True).square().sum().backward()
    assert torch.equal(z["a.b"].grad, without)
    if name == "concat":
        assert fusion.linear.weight.grad[:, :3].abs().sum() > 0
        assert (fusion.linear.weight.grad[:, 3:] == 0).all()
    else:
        assert fusion.linears[0].weight.grad.abs().sum() > 0
        assert fusion.linears[1].weight.grad is None


def test_views_of_layers_with_and_without_biases():
    z = torch.randn(3, 2, dtype=torch.float64)
    bare = nn.Linear(4, 2, bias=False).double()
    assert ConcatHead(bare, {"a": 2, "v": 2}).bias().tolist() == [0.0, 0.0]
    layers = {"a": nn.Linear(2, 2).double(), "v": nn.Linear(2, 2).double()}
    head = SumHead(layers)  # a sum of layers with one bias each
    total = head.slice("a", z) + head.slice("v", z)
    torch.testing.assert_close(total, layers["a"](z) + layers["v"](z), rtol=0, atol=1e-12)


def test_an_existing_linear_layer_can_be_a_fusion():
    linear = nn.Linear(5, 3)
    state = torch.get_rng_state()
    fusion = ConcatFusion.from_linear(linear, {"a": 2, "v": 3})
    assert torch.equal(torch.get_rng_state(), state)
    assert fusion.linear is linear
    assert [id(p) for p in fusion.parameters()] == [id(p) for p in linear.parameters()]
    z = {"a": torch.randn(4, 2), "v": torch.randn(4, 3)}
    assert torch.equal(fusion(z), linear(torch.cat([z["a"], z["v"]], dim=1)))
    with pytest.raises(ModelError, match="add up to 4"):
        ConcatFusion.from_linear(linear, {"a": 2, "v": 2})


@pytest.mark.parametrize("name", ["concat", "sum", "average"])
def test_reordering_the_modalities_permutes(name):
    widths = widths_of(3)
    order = ["keys", "a.b", "train"]
    first, second = (build_fusion(name, w, 5).double() for w in (widths, {m: widths[m] for m in order}))
    with torch.no_grad():
        if name == "average":
            for m in order:
                source = first.own.linears[first.modalities.index(m)]
                second.own.linears[second.modalities.index(m)].load_state_dict(source.state_dict())
        else:
            for m in order:
                second.head.weight(m).copy_(first.head.weight(m))
            second.head.bias().copy_(first.head.bias())
    z = features(widths)
    torch.testing.assert_close(second(z), first(z), rtol=0, atol=1e-12)
    if name != "average":
        for m in widths:
            torch.testing.assert_close(
                second.head.slice(m, z[m]), first.head.slice(m, z[m]), rtol=0, atol=1e-12
            )


def test_registry_options_and_errors():
    assert set(FUSIONS) == {"concat", "sum", "average", "gated", "film", "low-rank-bilinear", "shared"}
    with pytest.raises(UsageError, match="rule"):
        build_fusion("average", {"a": 1}, 2, {"rule": "median"})
    with pytest.raises(UsageError, match=r"no option 'rule'.*none"):
        build_fusion("concat", {"a": 1}, 2, {"rule": "logit"})
    with pytest.raises(UsageError, match="concat"):
        build_fusion("concatenate", {"a": 1}, 2)
    for widths, classes in [({}, 2), ({"": 1}, 2), ({"a": 0}, 2), ({"a": 1}, 0), ({3: 1}, 2)]:
        with pytest.raises(ModelError):
            build_fusion("sum", widths, classes)


@pytest.mark.parametrize("name", ["concat", "sum", "average"])
def test_wrong_features_are_refused_by_name(name):
    fusion = build_fusion(name, {"a": 2, "v": 3}, 2)
    with pytest.raises(ModelError, match="misses the features of 'v'"):
        fusion({"a": torch.ones(1, 2)})
    with pytest.raises(ModelError, match="modality 'v'"):
        fusion({"a": torch.ones(1, 2), "v": torch.ones(1, 2)})
    view = fusion.head
    if view is None:
        with pytest.raises(ModelError, match="'t'"):
            fusion.own_logits("t", torch.ones(1, 2))
        return
    assert isinstance(view, HeadView)
    with pytest.raises(ModelError, match="'t'"):
        view.weight("t")
    with pytest.raises(ModelError, match="modality 'a'"):
        view.slice("a", torch.ones(1, 3))
