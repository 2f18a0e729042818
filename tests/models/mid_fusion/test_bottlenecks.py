"""Fusion bottlenecks: layer by layer, limits of the bottlenecks, late fusion, refusals."""

from __future__ import annotations

import pytest
import torch

from equipoise.models import BottleneckModel, build_model, with_fusion
from equipoise.models.build import build_fusion, describe
from equipoise.models.custom import check_contract
from equipoise.types import ModelError, UsageError

SHAPES = {
    "sound": ((1, 9, 20), "image"),
    "frames": ((3, 2, 8, 8), "video"),
    "text": ((4,), "tokens"),
    "pose": ((5, 3), "sequence"),
}
ENCODERS = {
    "sound": "patch-transformer",
    "frames": "patch-transformer",
    "text": "token-transformer",
    "pose": "transformer",
}
OPTIONS = {
    "sound": {"width": 8, "layers": 4, "patch": 4, "dropout": 0.0},
    "frames": {"width": 8, "layers": 3, "patch": 4, "dropout": 0.0},
    "text": {"width": 8, "layers": 3, "vocabulary": 20, "dropout": 0.0},
    "pose": {"width": 8, "layers": 3, "dropout": 0.0},
}


def built(names=tuple(SHAPES), seed: int = 0, fusion: str = "mbt", **options):
    model = build_model(
        {m: SHAPES[m] for m in names},
        5,
        encoders={m: name for m, name in ENCODERS.items() if m in names},
        encoder_options={m: OPTIONS[m] for m in names},
        fusion=fusion,
        fusion_options=options,
        seed=seed,
    )
    return model.double()


def inputs() -> dict[str, torch.Tensor]:
    x = {m: torch.randn(3, *shape).double() for m, (shape, kind) in SHAPES.items() if kind != "tokens"}
    return {**x, "text": torch.tensor([[3, 9, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0]])}


@pytest.mark.parametrize("training", [True, False])
def test_without_fused_layers_it_equals_late_fusion_bit_for_bit(training):
    model = built(fused_layers=0).train(training)
    late = built(fusion="average", rule="logit").train(training)
    assert isinstance(model, BottleneckModel)
    assert len(model.block_list) == 0
    x = inputs()
    first, second = model(x), late(x)
    assert torch.equal(first.logits, second.logits)
    assert all(torch.equal(first.features[m], second.features[m]) for m in SHAPES)


@pytest.mark.parametrize("fused", [2, 3])
def test_fused_layers_equal_the_formula(fused):
    model = built(("frames", "pose"), fused_layers=fused, bottlenecks=3).eval()
    x = inputs()
    maps, encoders = {}, {m: model.encoder_module(m) for m in ("frames", "pose")}
    for m, encoder in encoders.items():
        maps[m] = encoder.tokens(x[m])
        for layer in encoder.layers[: len(encoder.layers) - fused]:
            maps[m] = layer(maps[m])
    bottleneck = model.block_list[0].tokens.expand(3, 3, 8)
    for k in range(fused):
        updated = []
        for m, encoder in encoders.items():
            layer = encoder.layers[len(encoder.layers) - fused + k]
            out = layer(torch.cat([maps[m], bottleneck], dim=1))
            maps[m] = out[:, : maps[m].shape[1]]
            updated.append(out[:, maps[m].shape[1] :])
        bottleneck = (updated[0] + updated[1]) / 2
    z = model.encode(x)
    for m, encoder in encoders.items():
        torch.testing.assert_close(z[m], encoder.norm(maps[m]).mean(dim=1), rtol=0, atol=1e-12)
    heads = model.fusion.own.linears
    logits = (heads[0](z["frames"]) + heads[1](z["pose"])) / 2
    torch.testing.assert_close(model(x).logits, logits, rtol=0, atol=1e-12)


def test_every_modality_reads_all_and_a_single_one_reads_itself():
    x = inputs()
    model = built().eval()
    z = model.encode(x)
    for changed in SHAPES:
        moved = model.encode({**x, changed: x[changed] + 1})
        assert all(not torch.equal(moved[m], z[m]) for m in SHAPES)
    alone = model.encode(x, only=["sound"])["sound"]
    assert torch.equal(model.encode({"sound": x["sound"]}, only="sound")["sound"], alone)
    assert not torch.allclose(alone, z["sound"])
    assert model.encode(x, only=[]) == {}


def test_order_of_modalities_does_not_matter():
    names = tuple(reversed(SHAPES))
    model, turned = built(fused_layers=2).eval(), built(names, fused_layers=2, seed=4).eval()
    for m in SHAPES:
        turned.encoder_module(m).load_state_dict(model.encoder_module(m).state_dict())
    turned.block_list.load_state_dict(model.block_list.state_dict())
    x = inputs()
    z, w = model.encode(x), turned.encode(x)
    assert list(w) == list(names)
    for m in SHAPES:
        torch.testing.assert_close(z[m], w[m], rtol=0, atol=1e-12)


def test_contract_groups_and_gradients():
    model = built(fused_layers=2, bottlenecks=5)
    assert check_contract(model.float(), SHAPES, 5) is model
    assert model.capabilities == {"mid_fusion", "own_heads", "shared_head"}
    assert describe(model) == (
        "mbt(sound=patch-transformer, frames=patch-transformer, text=token-transformer, pose=transformer)"
    )
    model.double()(inputs()).logits.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.block_list[0].tokens.shape == (5, 8)
    assert model.block_list[0].tokens.grad.abs().sum() > 0
    tokens = next(iter(model.block_list[0].parameters()))
    assert {p for _, p in model.fusion_parameters()} == {*model.fusion.parameters(), tokens}
    changed = with_fusion(model, build_fusion("concat", model.feature_widths(), 5).double())
    assert type(changed) is BottleneckModel
    x = inputs()
    assert all(torch.equal(model.encode(x)[m], changed.encode(x)[m]) for m in SHAPES)
    flat = built(fused_layers=0)
    assert len(with_fusion(flat, build_fusion("concat", flat.feature_widths(), 5)).block_list) == 0


def test_unsupported_parts_are_refused():
    with pytest.raises(ModelError, match=r"'frames': the encoder has 3 layers; expected at least 4"):
        built(fused_layers=4)
    for number in (-1, 1, True, 2.0):
        with pytest.raises(UsageError, match="fused_layers"):
            built(fused_layers=number)
    with pytest.raises(UsageError, match="bottlenecks"):
        built(bottlenecks=0)
    with pytest.raises(ModelError, match=r"modality 'pose': encoder 'tcn' is not a transformer"):
        build_model({m: SHAPES[m] for m in ("pose", "text")}, 5, fusion="mbt")
    options = {"text": {"width": 8}, "pose": {"width": 16}}
    shapes = {m: SHAPES[m] for m in ("pose", "text")}
    with pytest.raises(ModelError, match=r"equal width; found \{'pose': 16, 'text': 8\}"):
        build_model(
            shapes, 5, encoders={m: ENCODERS[m] for m in shapes}, encoder_options=options, fusion="mbt"
        )
