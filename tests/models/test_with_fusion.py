"""The same encoders with another fusion."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from equipoise.methods import create_method
from equipoise.models import (
    BalancedModel,
    ConcatFusion,
    MidFusionModel,
    MultimodalModel,
    SharedFusion,
    build_model,
    with_fusion,
)
from equipoise.models.build import describe
from equipoise.types import Batch, ModelError
from hand_run import HandRun

SHAPES = {"audio": ((9,), "vector"), "a.b": ((4, 3), "sequence")}
WIDTHS = {"audio": 128, "a.b": 128}


class Own(BalancedModel):
    """A custom model: a stem next to the encoders, which `encode` needs."""

    def __init__(self):
        super().__init__()
        self.modalities, self.num_outputs = ("audio", "a.b"), 5
        self.stem = nn.Linear(9, 9)
        self.branches = nn.ModuleList([nn.Linear(9, 128), nn.Linear(12, 128)])
        self.out = nn.Linear(256, 5)
        for branch in self.branches:
            branch.out_features = 128

    def encode(self, batch, only=None):
        x = {"audio": self.stem(batch["audio"]), "a.b": batch["a.b"].flatten(1)}
        pairs = zip(self.modalities, self.branches, strict=True)
        return {m: branch(x[m]) for m, branch in pairs if only is None or m in only}

    def fuse(self, z):
        return self.out(torch.cat([z[m] for m in self.modalities], dim=1))

    def encoder_module(self, modality):
        return self.branches[self.modalities.index(modality)]


class Telling(Own):
    """The same, which declares its fusion."""

    def _fusion_module(self):
        return self.out


def inputs() -> dict[str, torch.Tensor]:
    return {m: torch.randn(3, *shape) for m, (shape, _) in SHAPES.items()}


def models() -> dict[str, BalancedModel]:
    return {
        "late": build_model(SHAPES, 5),
        "mid": build_model(SHAPES, 5, fusion="mmtm"),
        "own": Own(),
        "telling": Telling(),
    }


@pytest.mark.parametrize("kind", list(models()))
def test_features_are_unchanged_and_logits_are_those_of_the_new_fusion(kind):
    model = models()[kind].eval()
    fusion = SharedFusion(WIDTHS, 5, combine="sum")
    changed = with_fusion(model, fusion, 5).eval()
    x = inputs()
    z = model.encode(x)
    output = changed(x)
    assert all(torch.equal(output.features[m], z[m]) for m in SHAPES)
    assert torch.equal(output.logits, fusion(z))
    assert torch.equal(changed.encode(x, only=["a.b"])["a.b"], model.encode(x, only=["a.b"])["a.b"])
    assert all(changed.encoder_module(m) is model.encoder_module(m) for m in SHAPES)
    assert (changed.modalities, changed.num_outputs, changed.task) == (model.modalities, 5, model.task)
    assert changed.feature_widths() == WIDTHS
    assert "own_heads" in changed.capabilities
    assert changed.head is None
    assert with_fusion(model, ConcatFusion(WIDTHS, 5)).head is not None


@pytest.mark.parametrize("kind", list(models()))
def test_parameter_groups_are_disjoint_and_complete(kind):
    model = models()[kind]
    old = set(model.parameters())
    fusion = SharedFusion(WIDTHS, 5)
    changed = with_fusion(model, fusion, 5)
    groups = [changed.encoder_parameters(m) for m in SHAPES]
    groups += [changed.fusion_parameters(), changed.shared_parameters()]
    named = [pair for group in groups for pair in group]
    assert dict(named) == dict(changed.named_parameters())
    assert len(named) == len(list(changed.parameters()))
    for m in SHAPES:
        expected = list(model.encoder_module(m).parameters())
        assert [p for _, p in changed.encoder_parameters(m)] == expected
    fused = {p for _, p in changed.fusion_parameters()}
    assert fused >= set(fusion.parameters())
    beside = {"late": set(), "mid": set(), "own": set(), "telling": set()}
    if kind == "mid":
        beside[kind] = set(model.block_list.parameters())
    if kind in ("own", "telling"):
        beside[kind] = set(model.stem.parameters())
    if kind == "own":  # without a declaration its old fusion cannot be separated from its stem
        beside[kind] |= set(model.out.parameters())
    assert fused == {*fusion.parameters(), *beside[kind]}
    assert set(model.parameters()) == old  # the model itself is not changed
    changed(inputs()).logits.sum().backward()
    assert all((p.grad is None) == (kind == "own" and p in set(model.out.parameters())) for p in fused)


def test_kinds_of_models():
    made = {kind: with_fusion(model, SharedFusion(WIDTHS, 5), 5) for kind, model in models().items()}
    assert type(made["late"]) is MultimodalModel
    assert type(made["mid"]) is MidFusionModel
    assert "mid_fusion" in made["mid"].capabilities
    assert describe(made["late"]) == "shared(audio=mlp, a.b=tcn)"
    assert describe(made["mid"]) == "mmtm+shared(audio=mlp, a.b=tcn)"
    twice = with_fusion(made["own"], ConcatFusion(WIDTHS, 5))
    assert twice.inner is made["own"].inner  # wrappers are not nested
    assert not set(made["own"].fusion.parameters()) & set(twice.parameters())


def test_the_blocks_of_intermediate_fusion_are_shared():
    model = build_model(SHAPES, 5, fusion="mmtm")
    changed = with_fusion(model, SharedFusion(WIDTHS, 5), 5)
    assert changed.blocks == model.blocks
    model.curate("a.b")
    assert [block.curated for block in changed.blocks] == ["a.b", "a.b"]


def test_a_model_class_with_a_custom_encode_is_wrapped():
    class Doubled(MultimodalModel):
        def encode(self, batch, only=None):
            return {m: 2 * z for m, z in super().encode(batch, only).items()}

    plain = build_model(SHAPES, 5).eval()
    model = Doubled(plain.encoders, plain.fusion).eval()
    changed = with_fusion(model, SharedFusion(WIDTHS, 5)).eval()
    x = inputs()
    assert all(torch.equal(z, 2 * plain.encode(x)[m]) for m, z in changed.encode(x).items())
    assert not set(plain.fusion.parameters()) & set(changed.parameters())
    assert {name for name in changed.state_dict() if "inner.fusion" in name}


class Doubled(MultimodalModel):
    """Has its own features and task, and the inherited `encode`."""

    task = "multilabel"

    def _features(self, modality, encoder, x):
        return 2 * super()._features(modality, encoder, x)


class DoubledMid(MidFusionModel):
    task = "multilabel"

    def _finished(self, modality, run):
        return 2 * super()._finished(modality, run)


def test_a_subclass_keeps_its_attributes_and_its_task():
    late, mid = build_model(SHAPES, 5), build_model(SHAPES, 5, fusion="mmtm")
    own = [
        Doubled(late.encoders, late.fusion),
        DoubledMid(mid.encoders, mid.fusion, blocks=mid.blocks),
    ]
    x = inputs()
    for model, plain in zip(own, (late, mid), strict=True):
        changed = with_fusion(model, SharedFusion(WIDTHS, 5)).eval()
        z = plain.eval().encode(x)
        assert all(torch.equal(feature, 2 * z[m]) for m, feature in changed.encode(x).items())
        assert changed.task == "multilabel"
        again = with_fusion(changed, ConcatFusion(WIDTHS, 5)).eval()
        assert all(torch.equal(feature, 2 * z[m]) for m, feature in again.encode(x).items())
        assert again.task == "multilabel"
        assert again.inner is model
        assert again.capabilities - {"additive_head"} == changed.capabilities - {"own_heads"}


def test_a_task_set_on_a_model_is_kept():
    for fusion in ("concat", "mmtm"):
        model = build_model(SHAPES, 5, fusion=fusion)
        model.task = "multilabel"
        assert with_fusion(model, SharedFusion(WIDTHS, 5)).task == "multilabel"


def test_a_subclass_keeps_intermediate_fusion():
    plain = build_model(SHAPES, 5, fusion="mmtm")
    model = DoubledMid(plain.encoders, plain.fusion, blocks=plain.blocks)
    changed = with_fusion(model, SharedFusion(WIDTHS, 5))
    assert "mid_fusion" in changed.capabilities
    assert "mid_fusion" not in with_fusion(Own(), SharedFusion(WIDTHS, 5), 5).capabilities
    assert changed.blocks == model.blocks
    named = dict(changed.named_parameters())
    for m in SHAPES:
        found, expected = changed.block_parameters(m), model.block_parameters(m)
        assert [p for _, p in found] == [p for _, p in expected]
        assert all(named[name] is p for name, p in found)
        assert {p for _, p in found} <= {p for _, p in changed.fusion_parameters()}
    changed.curate("a.b")
    assert [block.curated for block in model.blocks] == ["a.b"] * len(model.blocks)
    changed.curate(None)
    with pytest.raises(ModelError, match="no modality 'touch'"):
        changed.curate("touch")


def test_methods_of_intermediate_fusion_run_on_a_wrapped_model():
    plain = build_model(SHAPES, 5, fusion="mmtm")
    model = with_fusion(
        DoubledMid(plain.encoders, plain.fusion, blocks=plain.blocks), SharedFusion(WIDTHS, 5)
    ).double()
    model.task = "classification"
    method = create_method("greedy", {"eps": 0.0, "start_epoch": 0})
    method.check(model)
    run = HandRun(method, model)
    batch = Batch({m: x.double() for m, x in inputs().items()}, torch.tensor([0, 1, 2]), torch.arange(3))
    run.fit([batch, batch])
    assert method.state_dict()["target"] in SHAPES
    assert method.state_dict()["left"] == 4


def test_an_unsupported_fusion_is_refused():
    for model in models().values():
        with pytest.raises(ModelError, match="5 classes, but num_classes is 4"):
            with_fusion(model, SharedFusion(WIDTHS, 5), 4)
        with pytest.raises(ModelError, match="same modalities in the same order"):
            with_fusion(model, SharedFusion(dict(reversed(WIDTHS.items())), 5), 5)
        with pytest.raises(ModelError, match="from_linear"):
            with_fusion(model, nn.Linear(256, 5), 5)
