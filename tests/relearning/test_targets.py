"""Targets toward which an encoder can be pulled."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from equipoise.models.encoders.resnet import ResNet18
from equipoise.models.encoders.transformer import Transformer
from equipoise.relearning.blend import snapshot
from equipoise.relearning.targets import redrawn_state, update_average
from equipoise.types import ModelError


def test_a_redraw_equals_a_new_module_with_that_seed():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU())
    module[1].running_mean.fill_(3.0)
    module[1].weight.data.fill_(9.0)
    before, stream = snapshot(module), torch.get_rng_state()
    drawn = redrawn_state(module, seed=5)
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    torch.manual_seed(5)
    fresh = nn.Linear(3, 4)
    assert torch.equal(drawn["0.weight"], fresh.weight)
    assert torch.equal(drawn["0.bias"], fresh.bias)
    assert torch.equal(drawn["1.weight"], torch.ones(4))
    assert torch.equal(drawn["1.running_mean"], torch.zeros(4))
    again, other = redrawn_state(module, 5), redrawn_state(module, 6)
    assert torch.equal(again["0.weight"], drawn["0.weight"])
    assert not torch.equal(other["0.weight"], drawn["0.weight"])


def test_tied_parameters_remain_tied():
    module = nn.ModuleList([nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)])
    module[1].weight = module[0].weight
    drawn = redrawn_state(module, 0)
    assert torch.equal(drawn["0.weight"], drawn["1.weight"])


def test_attention_is_drawn_like_in_its_constructor():
    module = nn.TransformerEncoderLayer(8, 2, 16)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(7.0)
    drawn = redrawn_state(module, 0)
    assert not any((value == 7.0).all() for value in drawn.values())
    assert torch.equal(drawn["self_attn.in_proj_bias"], torch.zeros(24))
    assert torch.equal(drawn["self_attn.out_proj.bias"], torch.zeros(8))  # set after its submodule
    bound = (6 / (8 + 24)) ** 0.5  # Xavier's
    assert 0.9 * bound < drawn["self_attn.in_proj_weight"].abs().max() <= bound


def test_parameters_that_cannot_be_drawn_are_named():
    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(3))

    with pytest.raises(ModelError, match=r"'1' \(Token\) cannot be drawn anew"):
        redrawn_state(nn.Sequential(nn.Linear(1, 1), Token()), 0)
    with pytest.raises(ModelError, match=r"'Token' \(Token\) cannot be drawn anew"):
        redrawn_state(Token(), 0)


def test_a_moving_average():
    module = nn.BatchNorm1d(2)
    average = snapshot(module)
    for value in (2.0, 6.0):
        module.weight.data.fill_(value)
        module.running_mean.fill_(10 * value)
        module.num_batches_tracked.add_(1)
        update_average(average, module, decay=0.75)
    # ((1 * .75 + 2 * .25) * .75 + 6 * .25), and the same for 0, 20, 60.
    assert torch.allclose(average["weight"], torch.full((2,), 2.4375))
    assert torch.allclose(average["running_mean"], torch.full((2,), 18.75))
    assert average["num_batches_tracked"] == 0
    assert torch.equal(module.weight, torch.full((2,), 6.0))


def test_a_redraw_uses_the_initialisers_of_the_encoder():
    encoder = ResNet18(3, width=16)
    drawn = redrawn_state(encoder, seed=1)
    name = "layer3.0.conv2.weight"
    fan_out = 64 * 3 * 3
    assert drawn[name].std() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    assert not torch.equal(drawn[name], encoder.state_dict()[name])
    learned = Transformer(3, width=8, heads=2, positions="learned", max_length=50)
    assert redrawn_state(learned, seed=1)["positions"].std() == pytest.approx(0.02, rel=0.15)
