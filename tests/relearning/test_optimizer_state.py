"""Momentum, moments and step counts of re-learnt parameters; the learning rate that warms up again."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from equipoise.relearning import settle_optimizer_state
from equipoise.relearning.optimizer_state import LearningRateRewarm
from equipoise.types import UnknownNameError, UsageError

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "dampened-sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
    "plain-sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True, foreach=False),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, foreach=False),
    "adam-foreach": lambda p: torch.optim.Adam(p, lr=0.1, foreach=True),
    "adam-fused": lambda p: torch.optim.Adam(p, lr=0.1, fused=True),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True, amsgrad=True),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.1),
    "radam": lambda p: torch.optim.RAdam(p, lr=0.1),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.1),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1, initial_accumulator_value=0.5),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.9, centered=True),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.1),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.1, t0=2),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.1),
}
MOMENTS = {"momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "square_avg", "grad_avg"}
MOMENTS |= {"acc_delta", "sum", "row_var", "col_var", "variance"}


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


def addresses(optimizer, parameter):
    return {k: v.data_ptr() for k, v in optimizer.state[parameter].items() if torch.is_tensor(v)}


def unchanged(optimizer, parameter, old):
    new = optimizer.state[parameter]
    return new.keys() == old.keys() and all(
        torch.is_tensor(new[key]) and torch.equal(new[key], value)
        if torch.is_tensor(value)
        else new[key] == value
        for key, value in old.items()
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_states_that_are_kept_do_not_change(name):
    parameters, optimizer = after_steps(OPTIMIZERS[name])
    before = [copied(optimizer, p) for p in parameters]
    settle_optimizer_state(optimizer, dict.fromkeys(parameters, 0.5))
    assert all(unchanged(optimizer, p, old) for p, old in zip(parameters, before, strict=True))
    for policy in ("zero", "scale"):
        settle_optimizer_state(optimizer, {parameters[0]: 0.25, parameters[1]: 0.0}, policy)
    assert all(unchanged(optimizer, p, old) for p, old in zip(parameters[1:], before[1:], strict=True))
    assert name == "plain-sgd" or not unchanged(optimizer, parameters[0], before[0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zero_is_a_fresh_optimiser_in_the_same_memory(name):
    parameters, optimizer = after_steps(OPTIMIZERS[name])
    places = [addresses(optimizer, p) for p in parameters]
    settle_optimizer_state(optimizer, dict.fromkeys(parameters, 0.5), "zero")
    if name != "dampened-sgd":  # its first buffer is a new tensor
        assert places == [addresses(optimizer, p) for p in parameters]
    fresh = [nn.Parameter(p.detach().clone()) for p in parameters]
    afresh = OPTIMIZERS[name](fresh)
    for _ in range(4):
        for one, other in zip(parameters, fresh, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        optimizer.step()
        afresh.step()
    for one, other in zip(parameters, fresh, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_scale_multiplies_every_moment(name):
    parameters, optimizer = after_steps(OPTIMIZERS[name])
    before = [copied(optimizer, p) for p in parameters]
    places = addresses(optimizer, parameters[0])
    strengths = (0.25, 0.9, 1e-3, 0.5)
    settle_optimizer_state(optimizer, dict(zip(parameters, strengths, strict=True)), "scale")
    for parameter, old, strength in zip(parameters, before, strengths, strict=True):
        state = optimizer.state[parameter]
        for key, value in state.items():
            if key in MOMENTS and value is not None:
                torch.testing.assert_close(value, (1 - strength) * old[key])
            elif key == "step" and "exp_avg_sq" in state:
                beta = optimizer.param_groups[0]["betas"][1]
                assert 1 - beta ** float(value) == pytest.approx((1 - strength) * (1 - beta**5), rel=1e-4)
            elif torch.is_tensor(value):
                assert torch.equal(value, old[key])
    assert places == addresses(optimizer, parameters[0])
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()  # with a non-integer step count
    assert all(torch.isfinite(p).all() for p in parameters)


def test_scale_ends_at_keep_and_at_zero():
    parameters, optimizer = after_steps(OPTIMIZERS["adam"])
    before = [copied(optimizer, p) for p in parameters]
    settle_optimizer_state(optimizer, {parameters[0]: 1e-9, parameters[1]: 1.0}, "scale")
    for key, value in optimizer.state[parameters[0]].items():
        torch.testing.assert_close(value, before[0][key], rtol=1e-5, atol=0)
    assert all(not value.any() for value in optimizer.state[parameters[1]].values())


def longest_step(change, strength=0.9, steps=60):
    """Adam's longest step, in learning rates, with gradients of 1 before and after a change of its state."""
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.Adam([weight], lr=1.0, eps=1e-12)
    moves(weight, optimizer, 4000)
    change(optimizer.state[weight], 1 - strength)
    if change is untouched:
        settle_optimizer_state(optimizer, {weight: strength}, "scale")
    return max(moves(weight, optimizer, steps))


def untouched(state, rest):
    pass


def moments_alone(state, rest):
    state["exp_avg"] *= rest
    state["exp_avg_sq"] *= rest


def square(state, rest):
    state["exp_avg"] *= rest
    state["exp_avg_sq"] *= rest**2


def test_with_the_old_step_count_the_steps_of_adam_would_be_too_long():
    assert longest_step(untouched) < 1.001
    assert 2.5 < longest_step(moments_alone) < 10**0.5  # 1 / sqrt(1 - strength)
    assert 4 < longest_step(square) < 10


def test_several_optimisers_and_their_wrappers():
    class Wrapper(torch.optim.Optimizer):
        def __init__(self, optimizer):
            self.optimizer = optimizer

    parameters, first = after_steps(OPTIMIZERS["adam"])
    others, second = after_steps(OPTIMIZERS["sgd"])
    settle_optimizer_state([Wrapper(first), second], {parameters[0]: 0.5, others[0]: 0.5}, "zero")
    assert not first.state[parameters[0]]["exp_avg"].any()
    assert not second.state[others[0]]["momentum_buffer"].any()
    assert second.state[others[1]]["momentum_buffer"].any()


class Eight(torch.optim.Optimizer):
    """An optimiser of another package with a quantised state."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.1})

    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter] = {"codes": torch.full(parameter.shape, 7, dtype=torch.uint8), "step": 3}


def test_optimisers_of_other_packages_are_reset_or_refused():
    parameters, optimizer = after_steps(Eight)
    settle_optimizer_state(optimizer, {parameters[0]: 0.5}, "zero")
    assert parameters[0] not in optimizer.state
    with pytest.raises(UsageError, match="Eight keeps 'codes' as torch.uint8"):
        settle_optimizer_state(optimizer, {parameters[1]: 0.5}, "scale")
    joint = torch.optim.LBFGS([parameters[0]])
    with pytest.raises(UsageError, match="LBFGS keeps one history"):
        settle_optimizer_state(joint, {parameters[0]: 0.5}, "zero")


def test_parameters_without_state_and_unknown_policies():
    parameter = nn.Parameter(torch.ones(2))
    optimizer = OPTIMIZERS["adam"]([parameter])
    settle_optimizer_state(optimizer, {parameter: 0.5, nn.Parameter(torch.ones(1)): 0.5}, "zero")
    assert not optimizer.state
    with pytest.raises(UnknownNameError, match="did you mean zero"):
        settle_optimizer_state(optimizer, {}, "zeros")


def moves(weight, optimizer, steps, scheduler=None):
    """The learning rates of the steps on a gradient of 1."""
    found = []
    for _ in range(steps):
        before = weight.item()
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        found.append(before - weight.item())
        if scheduler:
            scheduler.step()
    return found


def test_rewarming_with_a_scheduler():
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
    assert scheduler.get_last_lr() == pytest.approx([0.5**8])  # unchanged by the warm-up
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5**8)


def test_rewarming_of_groups():
    weights = [nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": weights[:1], "lr": 1.0}, {"params": weights[1:], "lr": 0.1}])
    rewarm = LearningRateRewarm(optimizer, 2)
    rewarm.start()
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert [w.item() for w in weights] == pytest.approx([-0.5, -0.05])
    optimizer.step()
    assert [w.item() for w in weights] == pytest.approx([-1.5, -0.15])
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.1]


@pytest.mark.parametrize("kind", ["lambda", "one-cycle", "tensor"])
def test_rewarming_does_not_change_the_plan_of_schedulers(kind):
    def trained(rewarmed):
        weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        rate = torch.tensor(0.1, dtype=torch.float64) if kind == "tensor" else 0.1
        optimizer = torch.optim.Adam([weight], lr=rate, capturable=False, foreach=False)
        if kind == "one-cycle":
            scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=12)
        else:
            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 0.9**n)
        rewarm = LearningRateRewarm(optimizer, 3)
        held = optimizer.param_groups[0]["lr"]
        rates, found = [], moves(weight, optimizer, 4, scheduler)
        if rewarmed:
            rewarm.start()
        for _ in range(6):
            found += moves(weight, optimizer, 1, scheduler)
            rates.append(float(optimizer.param_groups[0]["lr"]))
        assert kind != "tensor" or optimizer.param_groups[0]["lr"] is held
        return found, rates

    plain, rewarmed = trained(False), trained(True)
    assert rewarmed[1] == plain[1]
    factors = [1] * 4 + [1 / 3, 2 / 3] + [1] * 4
    assert rewarmed[0] == pytest.approx([f * m for f, m in zip(factors, plain[0], strict=True)], rel=1e-6)


def test_rewarming_of_a_subclass_that_calls_the_step_of_its_parent():
    class Own(torch.optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = Own([weight], lr=1.0)
    rewarm = LearningRateRewarm(optimizer, 2)
    rewarm.start()
    assert moves(weight, optimizer, 4) == pytest.approx([0.5, 1.0, 1.0, 1.0])
    assert optimizer.param_groups[0]["lr"] == 1.0
