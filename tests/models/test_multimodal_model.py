"""The multimodal model: forward, pooling, parameter groups, odd names."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from equipoise.models import (
    AverageFusion,
    ConcatFusion,
    MultimodalModel,
    SumFusion,
    build_model,
)
from equipoise.pooling import pool_features
from equipoise.types import Batch, ModelError

ODD = ["a.b", "train", "keys", "type", "Ärger", "fusion", "encoder_list", " "]


def small(names=("a", "v"), widths=(3, 4), fusion=ConcatFusion, classes=2) -> MultimodalModel:
    encoders = {m: nn.Linear(5, d) for m, d in zip(names, widths, strict=True)}
    return MultimodalModel(encoders, fusion(dict(zip(names, widths, strict=True)), classes))


def inputs(model: MultimodalModel, batch: int = 3) -> dict[str, torch.Tensor]:
    return {m: torch.randn(batch, 5) for m in model.modalities}


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_forward_is_bitwise_the_head_on_concatenated_features():
    model = small()
    x = inputs(model)
    output = model(x)
    features = [encoder(x[m]) for m, encoder in model.encoders.items()]
    assert torch.equal(output.logits, model.fusion.linear(torch.cat(features, dim=1)))
    assert list(output.features) == ["a", "v"]
    for feature, own in zip(features, output.features.values(), strict=True):
        assert torch.equal(feature, own)
    assert (model.modalities, model.num_outputs, model.task) == (("a", "v"), 2, "classification")


def test_a_batch_and_its_inputs_give_the_same():
    model = small()
    x = inputs(model)
    batch = Batch(
        {"v": x["v"], "other": torch.zeros(3, 1), "a": x["a"]}, torch.zeros(3).long(), torch.arange(3)
    )
    assert torch.equal(model(batch).logits, model(x).logits)
    assert list(model.encode(batch)) == ["a", "v"]
    with pytest.raises(ModelError, match="Batch or a mapping"):
        model(torch.zeros(3, 5))


def test_encode_only():
    model = small()
    x = inputs(model)
    calls = []
    for m, encoder in model.encoders.items():
        encoder.register_forward_hook(lambda *_, m=m: calls.append(m))
    assert list(model.encode(x, only=["v"])) == ["v"]
    assert list(model.encode({"v": x["v"]}, only="v")) == ["v"]
    assert list(model.encode(x, only=["v", "a"])) == ["a", "v"]
    assert model.encode(x, only=[]) == {}
    assert calls == ["v", "v", "a", "v"]


def test_unknown_and_missing_modalities_are_refused_by_name():
    model = small()
    x = inputs(model)
    with pytest.raises(ModelError, match=r"no modality 't'.*'a', 'v'"):
        model.encode(x, only=["t"])
    with pytest.raises(ModelError, match=r"misses the modality 'v'.*it has 'a'"):
        model.encode({"a": x["a"]})
    z = model.encode(x)
    with pytest.raises(ModelError, match="without the features of 'v'"):
        model.fuse({"a": z["a"]})
    with pytest.raises(ModelError, match="no modality 't'"):
        model.fuse({**z, "t": z["a"]})
    for ask in (model.encoder_module, model.encoder_parameters):
        with pytest.raises(ModelError, match="no modality 't'"):
            ask("t")


@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 3), (2, 3, 4, 5), (2, 3, 4, 5, 6)])
def test_pooling(shape):
    features = torch.randn(shape, dtype=torch.float64)
    pooled = pool_features(features)
    if len(shape) == 2:
        assert pooled is features
        return
    dims = (1,) if len(shape) == 3 else tuple(range(2, len(shape)))
    torch.testing.assert_close(pooled, features.mean(dim=dims), rtol=0, atol=1e-14)
    assert pooled.shape == (2, 3)


def test_outputs_of_any_kind_of_encoder_are_pooled_and_checked():
    maps = MultimodalModel(
        {"m": nn.Conv2d(1, 3, 3), "s": Lambda(lambda x: x)}, ConcatFusion({"m": 3, "s": 4}, 2)
    )
    z = maps.encode({"m": torch.randn(2, 1, 8, 8), "s": torch.ones(2, 6, 4)})
    assert {m: tuple(x.shape) for m, x in z.items()} == {"m": (2, 3), "s": (2, 4)}
    assert z["s"].tolist() == [[1.0] * 4] * 2
    for function, words in [
        (lambda x: (x,), "modality 's'.*one tensor, found tuple"),
        (lambda x: x[:, 0], r"modality 's'.*features of shape \["),
        (lambda x: x.repeat(3, 1), "modality 's'.*6 features for 2"),
    ]:
        model = MultimodalModel({"s": Lambda(function)}, ConcatFusion({"s": 4}, 2))
        with pytest.raises(ModelError, match=words):
            model.encode({"s": torch.ones(2, 4)})


@pytest.mark.parametrize("fusion", [ConcatFusion, SumFusion, AverageFusion])
def test_parameter_groups_partition_the_model(fusion):
    model = small(tuple(ODD), range(1, 9), fusion)
    groups = [model.encoder_parameters(m) for m in model.modalities]
    groups += [model.fusion_parameters(), model.shared_parameters()]
    named = [pair for group in groups for pair in group]
    assert dict(named) == dict(model.named_parameters())
    assert len(named) == len(list(model.parameters()))
    assert model.shared_parameters() == []
    for m in model.modalities:
        assert [p for _, p in model.encoder_parameters(m)] == list(model.encoder_module(m).parameters())
    assert [p for _, p in model.fusion_parameters()] == list(model.fusion.parameters())


def test_shared_parameters_are_in_no_other_group():
    stem, tied = nn.Linear(5, 5), nn.Linear(5, 3)
    encoders = {m: nn.Sequential(stem, nn.Linear(5, 3)) for m in "abc"}
    encoders["d"] = tied
    fusion = ConcatFusion(dict.fromkeys("abcd", 3), 2)
    fusion.other = tied
    model = MultimodalModel(encoders, fusion)
    shared = {id(p) for _, p in model.shared_parameters()}
    assert shared == {id(p) for p in (*stem.parameters(), *tied.parameters())}
    assert [len(model.encoder_parameters(m)) for m in "abcd"] == [2, 2, 2, 0]
    assert [p for _, p in model.fusion_parameters()] == list(fusion.linear.parameters())


def test_one_encoder_for_two_modalities_is_shared():
    encoder = nn.Linear(5, 3)
    model = MultimodalModel({"a": encoder, "b": encoder}, ConcatFusion({"a": 3, "b": 3}, 2))
    assert model.encoder_parameters("a") == model.encoder_parameters("b") == []
    assert len(model.shared_parameters()) == 2
    assert model.encoder_module("a") is model.encoder_module("b")


@pytest.mark.parametrize("fusion", [ConcatFusion, SumFusion, AverageFusion])
def test_state_dict_round_trip_with_odd_names(fusion):
    first, second = (small(tuple(ODD), range(1, 9), fusion) for _ in range(2))
    x = inputs(first)
    assert not torch.equal(first(x).logits, second(x).logits)
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    second.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(first(x).logits, second(x).logits)
    assert torch.equal(copy.deepcopy(first)(x).logits, first(x).logits)


def test_reordering_the_modalities_permutes_the_model():
    shapes = {"a": ((5,), "vector"), "b.c": ((4, 3), "sequence"), "keys": ((1, 6, 6), "image")}
    order = ["keys", "a", "b.c"]
    first = build_model(shapes, 3, seed=4).double().eval()
    second = build_model({m: shapes[m] for m in order}, 3, seed=4).double().eval()
    with torch.no_grad():
        for m in order:
            second.head.weight(m).copy_(first.head.weight(m))
        second.head.bias().copy_(first.head.bias())
    x = {m: torch.randn(2, *shape, dtype=torch.float64) for m, (shape, _) in shapes.items()}
    one, two = first(x), second(x)
    torch.testing.assert_close(one.logits, two.logits, rtol=0, atol=1e-12)
    assert list(two.features) == order
    assert all(torch.equal(one.features[m], two.features[m]) for m in order)


def test_head_and_capabilities():
    assert small().capabilities == {"additive_head"}
    assert small(widths=(3, 3)).capabilities == {"additive_head", "shared_head"}
    assert small(fusion=AverageFusion).capabilities == {"own_heads"}
    assert small(fusion=AverageFusion).head is None
    assert small().head.modalities == ("a", "v")

    class Gate(nn.Module):
        head = nn.Linear(3, 2)  # a layer called head is not treated as an additive head

        def forward(self, z):
            return self.head(z["a"] * z["v"].sigmoid())

    encoders = {m: nn.Sequential(nn.Linear(5, 3)) for m in "av"}
    model = MultimodalModel(encoders, Gate(), num_classes=2)
    assert model.head is None
    assert model.capabilities == frozenset()
    assert model(inputs(model)).logits.shape == (3, 2)
    with pytest.raises(ModelError, match="out_features"):
        model.feature_widths()
    encoders["a"].out_features = encoders["v"].out_features = 3
    assert model.feature_widths() == {"a": 3, "v": 3}
    assert model.capabilities == {"shared_head"}


def test_unsupported_parts_are_refused():
    linear, concat = nn.Linear(5, 3), ConcatFusion({"a": 3}, 2)
    for encoders, fusion, classes, words in [
        ({}, concat, 2, "at least one"),
        ({"": linear}, concat, 2, "non-empty"),
        ({"a": 3}, concat, 2, "'a' must be a torch module"),
        ({"a": linear}, "concat", 2, "'fusion' must be a torch module"),
        ({"a": linear}, nn.Linear(3, 2), 2, "from_linear"),
        ({"a": linear}, Lambda(lambda z: z["a"]), None, "num_classes=C"),
        ({"a": linear}, concat, 3, "2 classes, but num_classes is 3"),
        ({"b": linear}, concat, 2, "same modalities in the same order"),
        ({"a": nn.Linear(5, 4)}, concat, 2, "returns 4 features, the fusion takes 3"),
    ]:
        with pytest.raises(ModelError, match=words):
            MultimodalModel(encoders, fusion, classes)
    with pytest.raises(ModelError, match="same order"):
        MultimodalModel({"v": nn.Linear(5, 3), "a": nn.Linear(5, 3)}, ConcatFusion({"a": 3, "v": 3}, 2))
