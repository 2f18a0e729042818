"""Momentum, moments and step counts of re-learnt parameters; the learning rate that warms up again."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from equipoise.relearning import LearningRateRewarm, settle_optimizer_state
from equipoise.types import UnknownNameError

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "plain-sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1),
}


def after_steps(make, steps=5):
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape)) for shape in ((3, 2), (4,), (), (2, 2))]
    optimizer = make(parameters)
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    return parameters, optimizer


def copied(optimizer, parameter):
    return {
        key: value.clone() if torch.is_tensor(value) else value
        for key, value in optimizer.state[parameter].items()
    }


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("policy", ["keep", "zero", "scale"])
def test_policies(name, policy):
    parameters, optimizer = after_steps(OPTIMIZERS[name])
    before = [copied(optimizer, p) for p in parameters]
    strengths = dict(zip(parameters, (0.25, 0.0, 0.75), strict=False))  # the last one is not re-learnt
    settle_optimizer_state(optimizer, strengths, policy)
    factors = {"keep": (1, 1, 1, 1), "zero": (0, 1, 0, 1), "scale": (0.75, 1, 0.25, 1)}[policy]
    for parameter, old, factor in zip(parameters, before, factors, strict=True):
        state = optimizer.state[parameter]
        assert state.keys() == old.keys()
        for key, value in state.items():
            if key == "step":
                assert float(value) == (0 if factor == 0 else 5)
            elif value is not None:
                assert torch.allclose(value, factor * old[key])
    assert len(optimizer.state[parameters[0]]) >= (0 if name == "plain-sgd" else 1)


def test_zeroed_adam_takes_its_first_step_again():
    parameters, optimizer = after_steps(OPTIMIZERS["adamw"])
    settle_optimizer_state(optimizer, dict.fromkeys(parameters, 0.5), "zero")
    weight = parameters[0]
    before, gradient = weight.detach().clone(), torch.randn_like(weight)
    weight.grad = gradient
    optimizer.step()
    fresh = nn.Parameter(before.clone())
    fresh.grad = gradient.clone()
    OPTIMIZERS["adamw"]([fresh]).step()
    assert torch.allclose(weight, fresh)


def test_parameters_without_state_and_unknown_policies():
    parameter = nn.Parameter(torch.ones(2))
    optimizer = OPTIMIZERS["adam"]([parameter])
    settle_optimizer_state(optimizer, {parameter: 0.5, nn.Parameter(torch.ones(1)): 0.5}, "zero")
    assert not optimizer.state
    with pytest.raises(UnknownNameError, match="did you mean zero"):
        settle_optimizer_state(optimizer, {}, "zeros")


def moves(weight, optimizer, steps, scheduler=None):
    """The learning rates that steps on a gradient of 1 have had."""
    found = []
    for _ in range(steps):
        before = weight.item()
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        found.append(before - weight.item())
        if scheduler:
            scheduler.step()
    return found


def test_rewarming_beside_a_scheduler():
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    rewarm = LearningRateRewarm(optimizer, 4)
    assert moves(weight, optimizer, 2, scheduler) == pytest.approx([1.0, 0.5])
    rewarm.start()
    planned = [0.5**n for n in range(2, 8)]
    factors = [0.25, 0.5, 0.75, 1, 1, 1]
    expected = [rate * factor for rate, factor in zip(planned, factors, strict=True)]
    assert moves(weight, optimizer, 6, scheduler) == pytest.approx(expected)
    assert scheduler.get_last_lr() == pytest.approx([0.5**8])  # as if nothing had happened
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5**8)


def test_rewarming_of_groups_and_its_end():
    weights = [nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": weights[:1], "lr": 1.0}, {"params": weights[1:], "lr": 0.1}])
    rewarm = LearningRateRewarm(optimizer, 2)
    rewarm.start()
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert [w.item() for w in weights] == pytest.approx([-0.5, -0.05])
    rewarm.remove()
    optimizer.step()
    assert [w.item() for w in weights] == pytest.approx([-1.5, -0.15])
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.1]
