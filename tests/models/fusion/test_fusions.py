"""The non-additive fusions, each against its formula in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from equipoise.models import (
    AverageFusion,
    FiLMFusion,
    GatedFusion,
    LowRankBilinearFusion,
    MultimodalModel,
    OwnHeads,
    SharedFusion,
    build_model,
    unimodal_logits,
)
from equipoise.models.build import build_fusion
from equipoise.models.fusion.shared import entropy_weights
from equipoise.types import ModelError, UsageError

ODD_NAMES = ["a.b", "train", "keys", "type", "Ärger", "weight"]
WIDTHS = [3, 1, 4, 2, 6, 5]
NEW = ["gated", "film", "low-rank-bilinear", "shared"]


def widths_of(count: int) -> dict[str, int]:
    return dict(zip(ODD_NAMES[:count], WIDTHS, strict=False))


def features(widths: dict[str, int], batch: int = 4) -> dict[str, torch.Tensor]:
    return {m: torch.randn(batch, d, dtype=torch.float64, requires_grad=True) for m, d in widths.items()}


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def affine(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    y = x @ array(layer.weight).T
    return y if layer.bias is None else y + array(layer.bias)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def assert_equal(found: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(array(found), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_gated_equals_the_formula(count):
    fusion = GatedFusion(widths_of(count), 5, width=7).double()
    z = features(fusion.widths)
    everything = np.concatenate([array(x) for x in z.values()], axis=1)
    hidden = np.zeros((4, 7))
    for k, x in enumerate(z.values()):
        unit = array(fusion.units[k].weight)
        gate = array(fusion.gates[k].weight)
        for i in range(7):
            opened = sigmoid(everything @ gate[i])
            hidden[:, i] += opened * np.tanh(array(x) @ unit[i])
    assert_equal(fusion(z), affine(fusion.output, hidden))
    assert (fusion.units[0].bias, fusion.gates[0].bias) == (None, None)


@pytest.mark.parametrize(("count", "conditioned"), [(2, None), (2, "train"), (3, "train"), (6, "Ärger")])
def test_film_equals_the_formula(count, conditioned):
    fusion = FiLMFusion(widths_of(count), 5, conditioned=conditioned, width=7).double()
    chosen = conditioned or "a.b"
    assert fusion.conditioned == chosen
    z = features(fusion.widths)
    others = np.concatenate([array(x) for m, x in z.items() if m != chosen], axis=1)
    modulation = affine(fusion.modulation, others)
    scale, shift = 1 + modulation[:, :7], modulation[:, 7:]
    hidden = affine(fusion.projection, array(z[chosen]))
    assert_equal(fusion(z), affine(fusion.output, scale * hidden + shift))


def test_film_of_one_modality_modulates_nothing():
    fusion = FiLMFusion({"a": 3}, 5).double()
    z = features({"a": 3})
    assert_equal(fusion(z), affine(fusion.output, affine(fusion.projection, array(z["a"]))))


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_low_rank_bilinear_equals_the_sum_over_the_full_tensor(count):
    fusion = LowRankBilinearFusion(widths_of(count), 5, rank=3).double()
    for factor in fusion.factors:
        nn.init.normal_(factor.bias)
    z = features(fusion.widths, batch=2)
    expected = np.tile(array(fusion.output.bias), (2, 1))
    ones = [np.concatenate([array(x), np.ones((2, 1))], axis=1) for x in z.values()]
    for r in range(3):
        for b in range(2):
            data, weight = np.ones(()), np.ones(())
            for k in range(count):  # the outer product of all features, and a weight for each of its entries
                row = np.append(array(fusion.factors[k].weight[r]), array(fusion.factors[k].bias[r]))
                data, weight = np.multiply.outer(data, ones[k][b]), np.multiply.outer(weight, row)
            expected[b] += (data * weight).sum() * array(fusion.output.weight[:, r])
    assert_equal(fusion(z), expected)


def test_low_rank_bilinear_works_without_a_modality():
    fusion = LowRankBilinearFusion({"a": 3, "v": 2}, 5).double()
    z = features({"a": 3, "v": 2})
    z["v"] = torch.zeros_like(z["v"])
    alone = affine(fusion.output, affine(fusion.factors[0], array(z["a"])))
    assert_equal(fusion(z), alone)  # at the start an absent modality multiplies by one
    assert fusion(z).std(dim=0).min() > 0


class TestShared:
    @pytest.mark.parametrize("hidden", [0, 6])
    @pytest.mark.parametrize("combine", ["mean", "sum", "entropy"])
    @pytest.mark.parametrize("count", [1, 2, 3, 6])
    def test_equals_the_formula(self, count, combine, hidden):
        fusion = SharedFusion(widths_of(count), 5, combine=combine, hidden=hidden).double()
        z = features(fusion.widths)
        answers = []
        for k, x in enumerate(z.values()):
            h = array(x)
            if h.shape[1] != max(fusion.widths.values()):
                h = h @ array(fusion.projections[k].weight).T
            if hidden:
                h = np.maximum(affine(fusion.classifier[0], h), 0)
            answers.append(affine(fusion.classifier[2] if hidden else fusion.classifier, h))
        for m, answer in zip(z, answers, strict=True):
            assert_equal(fusion.own_logits(m, z[m]), answer)
        weights = np.full((count, 4), 1.0 if combine == "sum" else 1 / count)
        if combine == "entropy":
            for b in range(4):
                certainty = []
                for answer in answers:
                    p = np.exp(answer[b]) / np.exp(answer[b]).sum()
                    certainty.append(np.exp((p * np.log(p)).sum()))
                weights[:, b] = np.array(certainty) / sum(certainty)
        assert_equal(fusion(z), sum(w[:, None] * u for w, u in zip(weights, answers, strict=True)))

    def test_projects_only_where_widths_differ(self):
        equal = SharedFusion({"a": 4, "v": 4}, 3)
        z = torch.randn(2, 4)
        assert torch.equal(equal.common("v", z), z)
        assert len(list(equal.parameters())) == 2
        mixed = SharedFusion({"a": 4, "v": 2}, 3)
        assert mixed.width == 4
        assert torch.equal(mixed.common("a", z), z)
        assert torch.equal(mixed.common("v", z[:, :2]), z[:, :2] @ mixed.projections[1].weight.T)
        chosen = SharedFusion({"a": 4, "v": 4}, 3, width=6)
        assert chosen.common("a", z).shape == (2, 6)
        assert chosen.classifier.in_features == 6
        assert (mixed.head, callable(mixed.own_logits)) == (None, True)

    def test_refuses_a_wrong_feature_by_name(self):
        fusion = SharedFusion({"a": 4, "v": 2}, 3)
        with pytest.raises(ModelError, match="no modality 't'"):
            fusion.own_logits("t", torch.ones(1, 4))
        with pytest.raises(ModelError, match="modality 'v'"):
            fusion.common("v", torch.ones(1, 4))

    @pytest.mark.parametrize("head_grad", [True, False])
    def test_is_the_shared_head_of_unimodal_logits(self, head_grad):
        widths = {"a": 4, "v": 2}
        encoders = {m: nn.Linear(3, d) for m, d in widths.items()}
        model = MultimodalModel(encoders, SharedFusion(widths, 5))
        z = model.encode({m: torch.randn(2, 3) for m in widths})
        for source in ("shared", "aux"):
            logits = unimodal_logits(model, z, source, head_grad=head_grad)
            assert all(torch.equal(logits[m], model.fusion.own_logits(m, z[m])) for m in widths)
        assert "own_heads" in model.capabilities
        logits["v"].sum().backward()
        assert (model.fusion.classifier.weight.grad is not None) is head_grad


class TestEntropyWeights:
    def test_equal_entropies_give_equal_weights(self):
        first = torch.randn(5, 4, dtype=torch.float64)
        turned = first[:, [2, 0, 3, 1]]  # the same probabilities for other classes
        weights = entropy_weights(torch.stack([first, turned, first + 3.0]))
        torch.testing.assert_close(weights, torch.full_like(weights, 1 / 3), rtol=0, atol=1e-12)

    def test_the_more_certain_modality_has_more_weight_and_weights_sum_to_one(self):
        logits = torch.stack([torch.zeros(2, 3), torch.tensor([[9.0, 0.0, 0.0], [1.0, 0.0, 0.0]])]).double()
        weights = entropy_weights(logits)
        torch.testing.assert_close(weights.sum(dim=0), torch.ones(2).double())
        assert weights[1, 0] > weights[1, 1] > 0.5

    def test_a_sample_does_not_depend_on_its_batch(self):
        fusion = SharedFusion({"a": 3, "v": 3}, 4, combine="entropy").double()
        z = {m: 5 * torch.randn(6, 3, dtype=torch.float64) for m in "av"}
        together = fusion(z)
        for b in range(6):
            alone = fusion({m: x[b : b + 1] for m, x in z.items()})
            torch.testing.assert_close(alone[0], together[b], rtol=0, atol=1e-12)

    def test_unbounded_certainty_is_finite(self):
        logits = torch.tensor([[[1e4, 0.0]], [[0.0, 0.0]]], requires_grad=True)
        weights = entropy_weights(logits)
        weights[0].sum().backward()
        assert torch.isfinite(logits.grad).all()
        # entropies 0 and log 2, so that the weights are 1 : 1/2
        assert weights[:, 0].tolist() == pytest.approx([2 / 3, 1 / 3])


class TestOwnHeads:
    def test_is_one_linear_layer_per_modality(self):
        widths = widths_of(6)
        heads = OwnHeads(widths, 5).double()
        z = features(widths)
        logits = heads(dict(reversed(z.items())))
        assert list(logits) == list(heads.by_modality()) == list(widths)
        for k, m in enumerate(widths):
            assert_equal(logits[m], affine(heads.linears[k], array(z[m])))
            assert torch.equal(heads.own_logits(m, z[m]), logits[m])
            assert heads.by_modality()[m] is heads.linears[k]
        assert list(heads({"keys": z["keys"]})) == ["keys"]

    def test_serves_as_the_heads_of_unimodal_logits(self):
        model = build_model({"a": ((9,), "vector"), "b.c": ((4, 3), "sequence")}, 6)
        heads = OwnHeads(model.feature_widths(), 6)
        z = {m: torch.randn(2, 128) for m in model.modalities}
        logits = unimodal_logits(model, z, "aux", heads=heads.by_modality())
        assert all(torch.equal(logits[m], heads(z)[m]) for m in z)

    def test_late_fusion_averages_it(self):
        fusion = AverageFusion({"a": 3, "b.c": 2}, 4, rule="logit").double()
        z = features({"a": 3, "b.c": 2})
        torch.testing.assert_close(fusion(z), (fusion.own(z)["a"] + fusion.own(z)["b.c"]) / 2)
        assert fusion.own.by_modality() == dict(zip(["a", "b.c"], fusion.own.linears, strict=True))

    def test_draws_the_same_weights_as_separate_layers(self):
        torch.manual_seed(3)
        own = OwnHeads({"a": 3, "v": 2}, 4)
        torch.manual_seed(3)
        layers = [nn.Linear(3, 4), nn.Linear(2, 4)]
        for one, two in zip(own.linears, layers, strict=True):
            assert torch.equal(one.weight, two.weight)
            assert torch.equal(one.bias, two.bias)

    def test_errors_name_the_problem(self):
        heads = OwnHeads({"a": 3, "v": 2}, 4)
        with pytest.raises(ModelError, match="no head of 't'"):
            heads({"t": torch.ones(1, 3)})
        with pytest.raises(ModelError, match=r"modality 'v' takes \[B, 2\]"):
            heads({"v": torch.ones(1, 3)})
        for widths, classes in [({}, 2), ({"": 1}, 2), ({"a": 0}, 2), ({"a": 1}, 0)]:
            with pytest.raises(ModelError):
                OwnHeads(widths, classes)


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("count", [1, 2, 6])
def test_every_modality_and_parameter_gets_a_gradient(name, count):
    fusion = build_fusion(name, widths_of(count), 5).double()
    z = features(fusion.widths)
    logits = fusion(z)
    assert logits.shape == (4, 5)
    logits.square().sum().backward()
    assert all(x.grad.abs().sum() > 0 for x in z.values())
    assert all(p.grad is not None for p in fusion.parameters())
    assert fusion.head is None


@pytest.mark.parametrize("name", NEW)
def test_state_dict_round_trip_and_wrong_features(name):
    first, second = (build_fusion(name, widths_of(3), 5, seed=seed).double() for seed in (1, 2))
    z = features(first.widths)
    assert not torch.equal(first(z), second(z))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(z), second(z))
    assert torch.equal(first(dict(reversed(z.items()))), first(z))
    with pytest.raises(ModelError, match="misses the features of 'keys'"):
        first({m: z[m] for m in ("a.b", "train")})
    with pytest.raises(ModelError, match="modality 'train'"):
        first({**z, "train": z["keys"]})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gated", {"width": 0}),
        ("film", {"width": 2.5}),
        ("film", {"conditioned": "t"}),
        ("low-rank-bilinear", {"rank": 0}),
        ("shared", {"combine": "median"}),
        ("shared", {"hidden": -1}),
        ("shared", {"width": -3}),
    ],
)
def test_invalid_options_are_refused_by_name(name, options):
    with pytest.raises(UsageError, match=next(iter(options))):
        build_fusion(name, {"a": 2, "v": 3}, 2, options)


@pytest.mark.parametrize("name", NEW)
def test_is_built_by_name_for_one_modality_and_for_many(name):
    shapes = {"audio": ((9,), "vector"), "text": ((4, 3), "sequence"), "type": ((1, 6, 6), "image")}
    for only in (("text",), ("audio", "text"), None):
        model = build_model(shapes, 5, fusion=name, only=only)
        x = {m: torch.randn(2, *shape) for m, (shape, _) in shapes.items()}
        assert model(x).logits.shape == (2, 5)
        groups = [model.encoder_parameters(m) for m in model.modalities] + [model.fusion_parameters()]
        assert sum(len(group) for group in groups) == len(list(model.parameters()))
