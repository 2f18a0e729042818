"""Crossmodal attention against a slow definition; order of modalities and missing modalities."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from equipoise.models import CrossmodalModel, build_model, with_fusion
from equipoise.models.build import build_fusion, describe
from equipoise.models.custom import check_contract
from equipoise.models.mid_fusion.crossmodal import CrossmodalLayer
from equipoise.types import ModelError, UsageError

SHAPES = {
    "audio": ((9,), "vector"),
    "a.b": ((2, 1, 8, 8), "video"),
    "text": ((4,), "tokens"),
    "type": ((5, 3), "sequence"),
}
ENCODERS = {"type": "transformer", "text": "token-transformer"}
OPTIONS = {
    "audio": {"hidden": (5, 6), "dropout": 0.0},
    "a.b": {"channels": (3, 4)},
    "text": {"width": 8, "vocabulary": 20, "dropout": 0.0},
    "type": {"width": 8, "dropout": 0.0},
}


def built(names=tuple(SHAPES), seed: int = 0, **options) -> CrossmodalModel:
    model = build_model(
        {m: SHAPES[m] for m in names},
        5,
        encoders={m: name for m, name in ENCODERS.items() if m in names},
        encoder_options={m: OPTIONS[m] for m in names},
        fusion="mult",
        fusion_options={"width": 8, "heads": 2, "dropout": 0.0, **options},
        seed=seed,
    )
    assert isinstance(model, CrossmodalModel)
    return model.double()


def inputs(batch: int = 3) -> dict[str, torch.Tensor]:
    x = {m: torch.randn(batch, *shape).double() for m, (shape, kind) in SHAPES.items() if kind != "tokens"}
    return {**x, "text": torch.tensor([[3, 9, 0, 0], [1, 2, 3, 4], [7, 0, 0, 0]])[:batch]}


def normed(x: torch.Tensor, norm) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias)


def slow_layer(layer: CrossmodalLayer, x, y, padding):
    """One head, one query and one key at a time."""
    wq, wk, wv = layer.attention.in_proj_weight.chunk(3)
    bq, bk, bv = layer.attention.in_proj_bias.chunk(3)
    result = x.clone()
    for b in range(len(x)):
        keys = [s for s in range(y.shape[1]) if padding is None or not padding[b, s]]
        source = [normed(y[b, s], layer.norm) for s in keys]
        for t in range(x.shape[1]):
            query = wq @ normed(x[b, t], layer.norm) + bq
            scores = torch.stack([query @ (wk @ s + bk) / math.sqrt(len(query)) for s in source])
            weights = scores.exp() / scores.exp().sum()
            read = sum(w * (wv @ s + bv) for w, s in zip(weights, source, strict=True))
            out = layer.attention.out_proj
            result[b, t] = x[b, t] + out.weight @ read + out.bias
    first, _, _, second = layer.forward_layers
    return result + second(F.gelu(first(normed(result, layer.norm_forward))))


def randomised(module):
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn_like(p) * 0.5)
    return module


@pytest.mark.parametrize("masked", [True, False])
def test_a_crossmodal_layer_equals_its_slow_definition(masked):
    layer = randomised(CrossmodalLayer(6, 1, 0.0).double())
    x, y = torch.randn(2, 3, 6).double(), torch.randn(2, 4, 6).double()
    padding = torch.tensor([[False, False, True, True], [False, True, False, True]]) if masked else None
    expected = slow_layer(layer, x, y, padding)
    torch.testing.assert_close(layer(x, y, padding), expected, rtol=0, atol=1e-10)


def test_two_modalities_by_the_formulas_of_the_paper():
    """Layer by layer: every crossmodal layer reads the encoder output of the other modality."""
    model = built(("text", "type"), heads=1, layers=2, self_layers=1).eval()
    block = randomised(model.block_list[0])
    x = inputs()
    text, other = (model.encoder_module(m) for m in ("text", "type"))
    maps, padding = {}, x["text"] == 0
    steps = text.embedding(x["text"]) + text_positions(4)
    for layer in text.layers:
        steps = layer(steps, src_key_padding_mask=padding)
    maps["text"] = steps
    maps["type"] = other.layers(other.projection(x["type"]) + text_positions(5))
    own = {m: maps[m] @ block.projections[k].weight.T for k, m in enumerate(maps)}
    masks = {"text": padding, "type": None}
    features = {}
    for k, (m, n) in enumerate((("text", "type"), ("type", "text"))):
        target, steps = block.targets[k], own[m]
        for layer in target.crossmodal[0]:
            steps = slow_layer(layer, steps, own[n], masks[n])
        steps = target.self_attention[0](steps, src_key_padding_mask=masks[m])
        features[m] = model.encoder_module(m).norm(maps[m] + target.projection(normed(steps, target.norm)))
    z = model.encode(x)
    kept = (~padding).double()[:, :, None]
    pooled = (features["text"] * kept).sum(dim=1) / kept.sum(dim=1)
    torch.testing.assert_close(z["text"], pooled, rtol=0, atol=1e-6)
    torch.testing.assert_close(z["type"], features["type"].mean(dim=1), rtol=0, atol=1e-6)
    logits = (
        torch.cat([z["text"], z["type"]], dim=1) @ model.fusion.linear.weight.T + model.fusion.linear.bias
    )
    torch.testing.assert_close(model(x).logits, logits, rtol=0, atol=1e-12)


def text_positions(length: int, width: int = 8) -> torch.Tensor:
    angle = [[t / 10000 ** (2 * (i // 2) / width) for i in range(width)] for t in range(length)]
    rows = [[math.cos(a) if i % 2 else math.sin(a) for i, a in enumerate(row)] for row in angle]
    return torch.tensor(rows, dtype=torch.float32).double()


def test_a_stream_between_two_of_many_modalities_does_not_depend_on_their_order():
    model, turned = built().eval(), built(tuple(reversed(SHAPES)), seed=5).eval()
    here, there = model.block_list[0], turned.block_list[0]
    places = {m: (i, len(SHAPES) - 1 - i) for i, m in enumerate(SHAPES)}
    for i, j in places.values():
        there.projections[j].load_state_dict(here.projections[i].state_dict())
    # The streams are concatenated in the model's order, so that the joined parts are permuted with them.
    for m, (i, j) in places.items():
        one, two = here.targets[i], there.targets[j]
        for n, layers in zip(one.sources, one.crossmodal, strict=True):
            two.crossmodal[two.sources.index(n)].load_state_dict(layers.state_dict())
        assert [*reversed(one.sources)] == [*two.sources]
        own, others = (
            torch.randn(3, 4, 8).double(),
            {n: torch.randn(3, 2, 8).double() for n in SHAPES if n != m},
        )
        streams = [run_stream(one, n, own, others[n]) for n in one.sources]
        again = [run_stream(two, n, own, others[n]) for n in one.sources]
        assert all(torch.equal(a, b) for a, b in zip(streams, again, strict=True))


def run_stream(target, source, own, other):
    x = own
    for layer in target.crossmodal[target.sources.index(source)]:
        x = layer(x, other)
    return x


def test_two_modalities_in_another_order_give_the_same_features():
    model, turned = built(("text", "audio")).eval(), built(("audio", "text"), seed=5).eval()
    for m in ("audio", "text"):
        turned.encoder_module(m).load_state_dict(model.encoder_module(m).state_dict())
    here, there = model.block_list[0], turned.block_list[0]
    for i in range(2):
        there.projections[1 - i].load_state_dict(here.projections[i].state_dict())
        there.targets[1 - i].load_state_dict(here.targets[i].state_dict())
    x = inputs()
    z, w = model.encode(x), turned.encode(x)
    assert list(w) == ["audio", "text"]
    for m in z:
        torch.testing.assert_close(z[m], w[m], rtol=0, atol=1e-12)


def test_every_modality_reads_all_and_a_single_one_reads_itself():
    model = built().eval()
    x = inputs()
    z = model.encode(x)
    assert {m: feature.shape[1] for m, feature in z.items()} == model.feature_widths()
    for changed in SHAPES:
        moved = model.encode({**x, changed: (x[changed] + 1)})
        assert all(not torch.equal(z[m], moved[m]) for m in SHAPES)
    alone = model.encode({"type": x["type"]}, only="type")["type"]
    assert torch.equal(model.encode(x, only=["type"])["type"], alone)
    assert not torch.allclose(alone, z["type"])
    assert not torch.allclose(alone, model.encoder_module("type")(x["type"]))
    pair = model.encode(x, only=["type", "audio"])
    assert list(pair) == ["audio", "type"]
    assert not torch.allclose(pair["type"], alone)


def test_samples_do_not_mix():
    model = built().eval()
    x = inputs()
    z = model.encode(x)
    for b in range(3):
        alone = model.encode({m: value[b : b + 1] for m, value in x.items()})
        for m in SHAPES:
            torch.testing.assert_close(alone[m][0], z[m][b], rtol=0, atol=1e-12)


def test_contract_groups_hooks_and_gradients():
    model = built()
    assert check_contract(model.float(), SHAPES, 5) is model
    assert model.capabilities == {"mid_fusion", "additive_head"}
    assert describe(model) == "mult(audio=mlp, a.b=frame-cnn, text=token-transformer, type=transformer)"
    model.double()(inputs()).logits.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    groups = [model.encoder_parameters(m) for m in SHAPES] + [model.fusion_parameters()]
    assert dict(pair for group in groups for pair in group) == dict(model.named_parameters())
    assert {p for _, p in model.fusion_parameters()} == {
        *model.fusion.parameters(),
        *model.block_list.parameters(),
    }
    seen = []
    model.encoder_module("type").register_forward_hook(lambda mod, args, out: seen.append(out))
    z = model.encode(inputs())
    assert len(seen) == 1
    assert seen[0] is z["type"]


def test_with_another_late_fusion_the_block_and_the_initial_weights_are_the_same():
    model, again = built(seed=3), built(seed=3)
    late = build_model(
        SHAPES, 5, encoders=ENCODERS, encoder_options=OPTIONS, seed=3, fusion="concat"
    ).double()
    assert torch.equal(late.fusion.linear.weight, model.fusion.linear.weight)
    for m in SHAPES:
        one, two = model.encoder_module(m).state_dict(), late.encoder_module(m).state_dict()
        assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    changed = with_fusion(model, build_fusion("sum", model.feature_widths(), 5).double())
    assert type(changed) is CrossmodalModel
    assert list(changed.block_list) == list(model.block_list)
    assert describe(changed).startswith("mult+sum(")
    x = inputs()
    z, w = model.eval().encode(x), changed.eval().encode(x)
    assert all(torch.equal(z[m], w[m]) for m in SHAPES)


def test_unsupported_parts_are_refused():
    with pytest.raises(ModelError, match="at least two"):
        built(("audio",))
    with pytest.raises(UsageError, match="'heads' must divide"):
        built(heads=3)
    with pytest.raises(UsageError, match="no option 'ratio'"):
        built(ratio=2)
    with pytest.raises(UsageError, match="self_layers"):
        built(self_layers=0)
    model, other = built(("audio", "text")), built(("audio", "type"))
    with pytest.raises(ModelError, match="block 0 joins maps"):
        CrossmodalModel(model.encoders, model.fusion, None, list(other.block_list))
    with pytest.raises(ModelError, match="expected one"):
        CrossmodalModel(model.encoders, model.fusion, None, [])
