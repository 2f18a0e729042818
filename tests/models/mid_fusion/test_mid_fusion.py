"""Models with MMTM blocks: lockstep, stages matched from the last, parameter groups, hooks."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from equipoise.models import ConcatFusion, MidFusionModel, MultimodalModel, build_model, unimodal_logits
from equipoise.models.build import available_models, build_fusion, describe, encoder_names
from equipoise.models.custom import check_contract
from equipoise.models.encoders.mlp import MLP
from equipoise.models.mid_fusion.mmtm import MMTM
from equipoise.models.options import option_names
from equipoise.types import Batch, ModelError, UnknownNameError, UsageError

SHAPES = {
    "audio": ((9,), "vector"),
    "a.b": ((2, 1, 8, 8), "video"),
    "text": ((4, 3), "sequence"),
    "type": ((3, 16, 16), "image"),
}
ENCODERS = {"a.b": "cnn", "text": "transformer", "type": "resnet18"}
OPTIONS = {
    "audio": {"hidden": (5, 6), "dropout": 0.0},
    "a.b": {"channels": (3, 4, 5)},
    "text": {"width": 8, "layers": 2, "dropout": 0.0},
    "type": {"width": 2},
}


def built(only=None, **arguments) -> MidFusionModel:
    kinds = {m: ENCODERS.get(m, "auto") for m in SHAPES}
    model = build_model(
        SHAPES, 5, encoders=kinds, encoder_options=OPTIONS, fusion="mmtm", only=only, **arguments
    )
    assert isinstance(model, MidFusionModel)
    return model.double()


def inputs(batch: int = 3) -> dict[str, torch.Tensor]:
    return {m: torch.randn(batch, *shape, dtype=torch.float64) for m, (shape, _) in SHAPES.items()}


def open_gates(model: MidFusionModel) -> None:
    """Set every gate to one, up to double precision."""
    with torch.no_grad():
        for layer in (layer for block in model.blocks for layer in block.excite):
            layer.weight.zero_()
            layer.bias.fill_(60.0)


@pytest.mark.parametrize("training", [True, False])
def test_with_open_gates_it_equals_its_encoders(training):
    model = built().train(training)
    open_gates(model)
    x = inputs()
    z = model.encode(x)
    for m in SHAPES:
        torch.testing.assert_close(z[m], model.encoder_module(m)(x[m]), rtol=0, atol=1e-12)
    own = [model.fusion.own_logits(m, z[m]) for m in SHAPES]
    torch.testing.assert_close(model(x).logits, sum(own) / 4, rtol=0, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_encoders_that_keep_order_with_open_gates(training):
    encoders = {"a.b": "frame-cnn", "text": "tcn", "type": "gru", "b": "cnn3d"}
    shapes = {"a.b": SHAPES["a.b"], "text": ((6, 3), "sequence"), "type": ((6, 3), "sequence")}
    shapes["b"] = SHAPES["a.b"]
    options = {m: {"dropout": 0.0} for m in shapes}
    model = build_model(shapes, 5, encoders=encoders, encoder_options=options, fusion="mmtm").double()
    open_gates(model.train(training))
    x = {m: torch.randn(3, *shape, dtype=torch.float64) for m, (shape, _) in shapes.items()}
    z = model.encode(x)
    for m in shapes:
        torch.testing.assert_close(z[m], model.encoder_module(m)(x[m]), rtol=0, atol=1e-12)


def test_two_perceptrons_by_hand():
    encoders = {"a": MLP(3, hidden=(4, 5, 6, 7), dropout=0.0), "v": MLP(2, hidden=(3, 2), dropout=0.0)}
    model = MidFusionModel(encoders, ConcatFusion({"a": 7, "v": 2}, 3)).double()
    assert [block.widths for block in model.blocks] == [{"a": 6, "v": 3}, {"a": 7, "v": 2}]
    x = {"a": torch.randn(5, 3).double(), "v": torch.randn(5, 2).double()}
    linear = {m: [layer for layer in e.layers if isinstance(layer, nn.Linear)] for m, e in encoders.items()}
    a, v = x["a"], x["v"]
    for layer in linear["a"][:2]:  # two stages before the first block: stages are matched from the last
        a = layer(a).relu()
    for k, block in enumerate(model.blocks):
        a, v = linear["a"][2 + k](a).relu(), linear["v"][k](v).relu()
        e = block.squeeze(torch.cat([a, v], dim=1)).relu()
        a, v = a * block.excite[0](e).sigmoid(), v * block.excite[1](e).sigmoid()
    z = model.encode(x)
    torch.testing.assert_close(z["a"], a, rtol=0, atol=1e-12)
    torch.testing.assert_close(z["v"], v, rtol=0, atol=1e-12)
    torch.testing.assert_close(model(x).logits, model.fusion({"a": a, "v": v}), rtol=0, atol=0)


def test_blocks_follow_the_last_stages():
    assert [list(b.widths.values()) for b in built().blocks] == [[5, 4, 8, 8], [6, 5, 8, 16]]
    assert [list(b.widths.values()) for b in built(("a.b", "type")).blocks] == [[3, 4], [4, 8], [5, 16]]
    assert len(built(fusion_options={"stages": 1}).blocks) == 1
    assert built(fusion_options={"ratio": 2}).blocks[0].squeeze.out_features == 25


def test_every_modality_reads_all_and_a_single_one_reads_itself():
    model = built().eval()
    x = inputs()
    z = model.encode(x)
    for changed in SHAPES:
        moved = model.encode({**x, changed: x[changed] + 1.0})
        assert all(not torch.equal(z[m], moved[m]) for m in SHAPES)
    alone = model.encode({"text": x["text"]}, only="text")
    assert torch.equal(model.encode(x, only=["text"])["text"], alone["text"])
    assert not torch.allclose(alone["text"], z["text"])
    assert not torch.allclose(alone["text"], model.encoder_module("text")(x["text"]))
    assert list(model.encode(x, only=["type", "audio"])) == ["audio", "type"]
    assert model.encode(x, only=[]) == {}
    everyone = model.encode(x, only=list(reversed(SHAPES)))
    assert all(torch.equal(everyone[m], z[m]) for m in SHAPES)


def test_a_subset_equals_a_model_whose_squeezing_layer_ignores_the_rest():
    model = built().eval()
    x = inputs()
    some = model.encode(x, only=["audio", "type"])
    blind = copy.deepcopy(model)
    with torch.no_grad():
        for block in blind.blocks:
            start = 0
            for m, d in block.widths.items():
                if m in ("a.b", "text"):
                    block.squeeze.weight[:, start : start + d] = 0.0
                start += d
    z = blind.encode(x)
    for m in ("audio", "type"):
        torch.testing.assert_close(some[m], z[m], rtol=0, atol=1e-12)


def test_frames_of_a_sample_share_its_gates_and_samples_do_not_mix():
    model = built().eval()
    x = inputs()
    z = model.encode(x)
    for b in range(3):
        alone = model.encode({m: value[b : b + 1] for m, value in x.items()})
        for m in SHAPES:
            torch.testing.assert_close(alone[m][0], z[m][b], rtol=0, atol=1e-12)
    turned = model.encode({**x, "a.b": x["a.b"].flip(1)})  # the order of frames does not matter
    for m in SHAPES:
        torch.testing.assert_close(turned[m], z[m], rtol=0, atol=1e-12)


def test_forward_hooks_on_the_encoders_see_the_final_features_once():
    model = built()
    seen = {m: [] for m in SHAPES}
    for m in SHAPES:
        model.encoder_module(m).register_forward_hook(lambda mod, args, out, m=m: seen[m].append(out))
    z = model.encode(inputs())
    assert all(len(calls) == 1 and calls[0] is z[m] for m, calls in seen.items())


def test_parameter_groups_are_disjoint_and_complete():
    model = built()
    groups = [model.encoder_parameters(m) for m in SHAPES] + [model.fusion_parameters()]
    named = [pair for group in groups for pair in group]
    assert dict(named) == dict(model.named_parameters())
    assert len(named) == len(list(model.parameters()))
    assert model.shared_parameters() == []
    for m in SHAPES:
        assert [p for _, p in model.encoder_parameters(m)] == list(model.encoder_module(m).parameters())
    fusion = {p for _, p in model.fusion_parameters()}
    assert fusion == {*model.fusion.parameters(), *model.block_list.parameters()}


def test_block_parameters_are_the_modality_gates_and_the_shared_squeeze():
    model = built()
    lists = {m: dict(model.block_parameters(m)) for m in SHAPES}
    shared = {p for block in model.blocks for p in block.squeeze.parameters()}
    for k, m in enumerate(SHAPES):
        own = {p for block in model.blocks for p in block.excite[k].parameters()}
        assert set(lists[m].values()) == shared | own
        assert len(lists[m]) == 8
        assert all(model.get_parameter(name) is p for name, p in lists[m].items())
    assert {p for named in lists.values() for p in named.values()} == set(model.block_list.parameters())
    with pytest.raises(ModelError, match="no modality 't'"):
        model.block_parameters("t")


def test_every_parameter_is_trained():
    model = built()
    model(inputs()).logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.block_list.parameters())
    assert all(p.grad is not None for p in model.parameters())


def test_curation_applies_to_all_blocks_and_is_undone_afterwards():
    model = built().train()
    model(inputs())
    counts = [block.gate_count.item() for block in model.blocks]
    assert counts == [1, 1]
    model.curate("text")
    x = inputs()
    z = model.encode(x)
    other = model.encode({**x, "audio": x["audio"] + 1.0, "type": -x["type"]})
    torch.testing.assert_close(other["text"], z["text"], rtol=0, atol=1e-12)  # cut off from the others
    assert not torch.allclose(other["a.b"], z["a.b"])
    z["text"].square().sum().backward()
    assert all(p.grad is None for p in model.block_list.parameters())
    assert all(p.grad is None for p in model.encoder_module("audio").parameters())
    assert [block.gate_count.item() for block in model.blocks] == counts
    model.curate(None)
    assert [block.curated for block in model.blocks] == [None, None]
    model(x)
    assert [block.gate_count.item() for block in model.blocks] == [2, 2]
    with pytest.raises(ModelError, match="no modality 't'"):
        model.curate("t")


def test_evaluation_and_partial_passes_do_not_change_the_means():
    model = built().train()
    model.encode(inputs(), only=["audio", "type"])
    model.eval()(inputs())
    x = inputs()
    unimodal_logits(model.train(), model.eval().encode(x), "zero-input", batch=x)
    assert [block.gate_count.item() for block in model.blocks] == [0, 0]


def test_state_dict_round_trip():
    first, second = built(seed=1), built(seed=2)
    first.train()(inputs())
    second.load_state_dict(first.state_dict())
    x = inputs()
    assert torch.equal(first.eval()(x).logits, second.eval()(x).logits)
    assert torch.equal(second.blocks[0].mean_gate("text"), first.blocks[0].mean_gate("text"))
    assert torch.equal(copy.deepcopy(first)(x).logits, first(x).logits)


def test_encoders_and_heads_have_the_same_initial_weights_as_in_late_fusion():
    kinds = {m: ENCODERS.get(m, "auto") for m in SHAPES}
    late = build_model(SHAPES, 5, encoders=kinds, encoder_options=OPTIONS, fusion="average", seed=3).double()
    model, again, pair = built(seed=3), built(seed=3), built(("audio", "text"), seed=3)
    for m in SHAPES:
        for name, value in late.encoder_module(m).state_dict().items():
            assert torch.equal(model.encoder_module(m).state_dict()[name], value)
    for one, two in zip(late.fusion.own.linears, model.fusion.own.linears, strict=True):
        assert torch.equal(one.weight, two.weight)
    assert model.fusion.rule == "logit"
    same = zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(one, two) for one, two in same)
    assert torch.equal(pair.encoder_module("text").norm.weight, model.encoder_module("text").norm.weight)


def test_one_of_its_encoders_makes_a_unimodal_model():
    model = built().eval()
    encoder = model.encoder_module("text")
    unimodal = MultimodalModel({"text": encoder}, ConcatFusion({"text": 8}, 5)).double().eval()
    x = inputs()
    steps = encoder.projection(x["text"])
    steps = encoder.norm(encoder.layers(steps + encoder._positions(steps)))
    torch.testing.assert_close(unimodal.encode(x)["text"], steps.mean(dim=1), rtol=0, atol=1e-12)


def test_contract_names_and_capabilities():
    model = built()
    assert check_contract(model.float(), SHAPES, 5) is model
    assert model.capabilities == {"own_heads", "mid_fusion", "gates"}
    assert "mid_fusion" not in build_model(SHAPES, 5).capabilities
    pair = built(("audio", "text"))
    assert describe(pair) == "mmtm(audio=mlp, text=transformer)"
    names = encoder_names(SHAPES, ENCODERS, only=("audio", "text"))
    assert describe(names, "mmtm") == describe(pair)
    changed = MidFusionModel(pair.encoders, ConcatFusion(pair.feature_widths(), 5), None, pair.blocks)
    assert describe(changed) == "mmtm+concat(audio=mlp, text=transformer)"
    assert available_models()["mmtm"]["role"] == "fusion"
    assert option_names(MidFusionModel) == ("ratio", "stages")
    x = {m: value.float() for m, value in inputs().items()}
    batch = Batch(x, torch.zeros(3).long(), torch.arange(3))
    model.eval()
    assert torch.equal(model(batch).logits, model(x).logits)


def test_unsupported_parts_are_refused():
    mlp = MLP(3, hidden=(4, 5))
    pair = {"a": mlp, "v": MLP(3, hidden=(4, 6))}
    fusion = ConcatFusion({"a": 5, "v": 6}, 2)
    block = MMTM({"a": 5, "v": 6})
    with pytest.raises(ModelError, match=r"'v': encoder 'Linear' does not run.*mlp, .*resnet18"):
        MidFusionModel({"a": mlp, "v": nn.Linear(3, 6)}, fusion)
    with pytest.raises(ModelError, match="at least two"):
        MidFusionModel({"a": mlp}, ConcatFusion({"a": 5}, 2))
    with pytest.raises(ModelError, match="at least two"):
        built(("audio",))
    with pytest.raises(ModelError, match=r"block 0 joins maps of \{'a': 5"):
        MidFusionModel(pair, fusion, None, [block, block])
    with pytest.raises(ModelError, match="found 0 blocks"):
        MidFusionModel(pair, fusion, None, [])
    with pytest.raises(UsageError, match="stages"):
        MidFusionModel(pair, fusion, stages=0)
    assert MidFusionModel(pair, fusion, None, [block]).blocks == [block]
    model = built()
    with pytest.raises(ModelError, match="same number of samples"):
        model.encode({**inputs(), "text": torch.zeros(2, 4, 3).double()})
    with pytest.raises(ModelError, match="modality 'text'"):
        model.encode({**inputs(), "text": torch.zeros(3, 4, 2).double()})
    with pytest.raises(ModelError, match="misses the modality 'text'"):
        model.encode({m: x for m, x in inputs().items() if m != "text"})
    with pytest.raises(UsageError, match=r"build_model\(\.\.\., fusion='mmtm'\)"):
        build_fusion("mmtm", {"a": 3}, 2)
    with pytest.raises(UsageError, match="no option 'rule'"):
        built(fusion_options={"rule": "logit"})
    with pytest.raises(UnknownNameError, match="mmtm"):
        build_model(SHAPES, 5, fusion="mmtn")
