"""Which parameters and buffers a selection includes."""

from __future__ import annotations

import pytest
from torch import nn

from equipoise.models.encoders.mlp import MLP
from equipoise.models.encoders.resnet import ResNet18
from equipoise.models.encoders.transformer import Transformer
from equipoise.relearning.selection import select_buffers, select_parameters
from equipoise.types import UnknownNameError, UsageError


@pytest.fixture
def encoder():
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)),
        nn.GELU(),
    )
    module[0].weight.requires_grad_(False)
    return module


def test_selections(encoder):
    conv, norm, block = ["0.weight", "0.bias"], ["1.weight", "1.bias"], ["3.0.weight", "3.0.bias"]
    layer_norm = ["3.1.weight", "3.1.bias"]
    conv = conv[1:]  # its weight is frozen
    for everything in ("all", "trainable"):
        assert select_parameters(encoder, everything) == conv + norm + block + layer_norm
    assert select_parameters(encoder) == conv + norm + block + layer_norm
    assert select_parameters(encoder, "no-norm") == conv + block
    assert select_parameters(encoder, "last:1") == layer_norm
    assert select_parameters(encoder, "last:2") == block + layer_norm
    assert select_parameters(encoder, "last:3") == norm + block + layer_norm
    assert select_parameters(encoder, "last:4") == conv + norm + block + layer_norm


def test_buffers_are_selected_with_their_blocks(encoder):
    running = ["1.running_mean", "1.running_var", "1.num_batches_tracked"]
    for selection in ("all", "no-norm", "trainable", "last:3", "last:4"):
        assert select_buffers(encoder, selection) == running
    assert select_buffers(encoder, "last:2") == []


def test_all_norms_of_torch_are_recognised():
    module = nn.ModuleList(
        [nn.GroupNorm(1, 2), nn.InstanceNorm1d(2, affine=True), nn.RMSNorm(2), nn.Linear(1, 1)]
    )
    assert select_parameters(module, "no-norm") == ["3.weight", "3.bias"]


@pytest.mark.parametrize("selection", ["last:0", "last:-1", "last:x", "last", "nonorm", ""])
def test_unknown_selections(encoder, selection):
    with pytest.raises(UnknownNameError, match="selection of parameters"):
        select_parameters(encoder, selection)


def test_more_blocks_than_available(encoder):
    with pytest.raises(UsageError, match=r"more blocks than Sequential has: 0, 1, 3.0, 3.1"):
        select_parameters(encoder, "last:5")


@pytest.mark.parametrize(
    ("encoder", "blocks"),
    [
        (MLP(5), ["layers.0", "layers.3"]),
        (ResNet18(1, width=8), ["conv1", "bn1", *(f"layer{s}.{b}" for s in (1, 2, 3, 4) for b in (0, 1))]),
        (Transformer(3, width=8, heads=2), ["projection", "layers.0", "layers.1", "norm"]),
    ],
    ids=["mlp", "resnet18", "transformer"],
)
def test_blocks_of_the_toolkits_encoders(encoder, blocks):
    for count in range(1, len(blocks) + 1):
        chosen = select_parameters(encoder, f"last:{count}")
        wanted = tuple(f"{block}." for block in blocks[-count:])
        assert chosen == [name for name, _ in encoder.named_parameters() if name.startswith(wanted)]
