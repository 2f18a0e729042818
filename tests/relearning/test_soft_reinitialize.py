"""The blend against numpy, tensor by tensor, and what must not change."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from equipoise.relearning import soft_reinitialize
from equipoise.relearning.blend import snapshot
from equipoise.types import EquipoiseWarning, ModelError, UnknownNameError, UsageError


def make(dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    )
    return module.to(dtype)


def trained(module, seed=1):
    """Change every parameter and buffer, as training does."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            tensor.add_(torch.randn_like(tensor) if tensor.is_floating_point() else 7)
    return module


def values(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


PARAMETERS = [name for name, _ in make().named_parameters()]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 4e-6), (torch.bfloat16, 2**-8)]
)
@pytest.mark.parametrize("strength", [0.1, 0.3, 0.716, 0.999])
def test_the_formula(dtype, tolerance, strength):
    module = make(dtype)
    initial = snapshot(module)
    before = values(trained(module))
    assert soft_reinitialize(module, initial, strength) is module
    for name, parameter in module.named_parameters():
        old, new = before[name].double().numpy(), initial[name].double().numpy()
        expected = (1 - strength) * old + strength * new
        assert parameter.dtype == dtype
        assert parameter.detach().double().numpy() == pytest.approx(expected, rel=tolerance, abs=tolerance)
    for name, buffer in module.named_buffers():
        assert torch.equal(buffer, before[name])  # kept by default


def test_low_precision_is_blended_in_float32():
    module = nn.Linear(40, 40).bfloat16()
    initial = snapshot(module)
    before = values(trained(module))["weight"]
    soft_reinitialize(module, initial, 0.3)
    exact = 0.7 * before.double() + 0.3 * initial["weight"].double()
    off = (module.weight.double() - exact).abs() > (exact.to(torch.bfloat16).double() - exact).abs() + 1e-6
    assert not off.any()  # only the last rounding differs


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_strengths_zero_and_one_are_exact(dtype):
    module = make(dtype)
    initial = snapshot(module)
    before = values(trained(module))
    soft_reinitialize(module, initial, 0.0)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    soft_reinitialize(module, initial, 1.0)
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, initial[name])


finite = st.floats(-(2.0**100), 2.0**100, width=32)


@given(finite, finite, st.floats(0, 1))
@settings(deadline=None, max_examples=300)
def test_new_weights_are_between_the_old_and_the_initial_ones(old, initial, strength):
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(old)
    soft_reinitialize(module, {"weight": torch.full((1, 1), initial)}, strength)
    assert min(old, initial) <= module.weight.item() <= max(old, initial)


def test_tensors_stay_the_same_objects():
    module = make()
    initial = snapshot(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    identity = [(id(p), p.data_ptr()) for p in module.parameters()]
    module[0].weight.grad = torch.ones(4, 3)
    trained(module)
    soft_reinitialize(module, initial, 0.5)
    assert [(id(p), p.data_ptr()) for p in module.parameters()] == identity
    assert all(p.requires_grad and p.grad_fn is None for p in module.parameters())
    before = module[0].weight.clone()
    optimizer.step()
    assert torch.allclose(module[0].weight, before - 0.1)  # the gradient is kept, and it updates this tensor


def test_a_tied_parameter_is_blended_once():
    module = nn.ModuleDict({"one": nn.Linear(3, 3), "two": nn.Linear(3, 3)}).double()
    module["two"].weight = module["one"].weight
    initial = snapshot(module)
    old = values(trained(module))["one.weight"]
    soft_reinitialize(module, initial, 0.5)
    assert torch.allclose(module["two"].weight, (old + initial["one.weight"]) / 2)


def test_buffers():
    def after(policy, strength=0.25):
        module = make()
        initial = snapshot(module)
        before = values(trained(module))
        soft_reinitialize(module, initial, strength, buffers=policy)
        return [(module.state_dict()[f"1.{b}"], before[f"1.{b}"], initial[f"1.{b}"]) for b in BUFFERS]

    mean, var, count = after("keep")
    assert torch.equal(mean[0], mean[1])
    assert torch.equal(var[0], var[1])
    assert count[0] == count[1] == 7
    mean, var, count = after("blend")
    assert torch.allclose(mean[0], 0.75 * mean[1] + 0.25 * mean[2])
    assert torch.allclose(var[0], 0.75 * var[1] + 0.25 * var[2])
    assert count[0] == count[1] == 7
    mean, var, count = after("reset")
    assert torch.equal(mean[0], torch.zeros(4))
    assert torch.equal(var[0], torch.ones(4))
    assert count[0] == 0
    mean, _, count = after("reset", strength=0.0)
    assert torch.equal(mean[0], mean[1])
    assert count[0] == 7


BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.mark.parametrize("policy", ["blend", "reset"])
def test_buffers_that_are_not_saved_are_constants(policy):
    class Positional(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 2)
            self.register_buffer("table", torch.ones(2), persistent=False)

    module = Positional()
    initial = snapshot(module)
    assert "table" not in initial
    soft_reinitialize(trained(module), initial, 1.0, buffers=policy)
    assert torch.equal(module.weight, initial["weight"])


def changed(before, module):
    return [name for name in PARAMETERS if not torch.equal(module.state_dict()[name], before[name])]


@pytest.mark.parametrize(
    ("strengths", "expected"),
    [
        ({"0": 0.2, "2.1": 0.9}, {"0.weight": 0.2, "0.bias": 0.2, "2.1.weight": 0.9, "2.1.bias": 0.9}),
        ({"": 0.1, "2": 0.5, "2.0.bias": 1.0}, dict.fromkeys(PARAMETERS[:4], 0.1)
         | {"2.0.weight": 0.5, "2.0.bias": 1.0, "2.1.weight": 0.5, "2.1.bias": 0.5}),
        ({"2.0.we": 0.5, "3": 0.5}, {}),
        ({}, {}),
    ],
)  # fmt: skip
def test_strengths_by_layer(strengths, expected):
    module = make(torch.float64)
    initial = snapshot(module)
    before = values(trained(module))
    soft_reinitialize(module, initial, strengths)
    for name, parameter in module.named_parameters():
        s = expected.get(name, 0.0)
        assert np.allclose(parameter.detach(), (1 - s) * before[name] + s * initial[name], rtol=0, atol=1e-14)
    assert sorted(changed(before, module)) == sorted(expected)


def test_parameters_by_name_or_by_function():
    for chosen in (
        ["0.bias", "2.0.weight"],
        {"0.bias", "2.0.weight"},
        lambda n, p: n in ("0.bias", "2.0.weight"),
    ):
        module = make()
        initial = snapshot(module)
        before = values(trained(module))
        soft_reinitialize(module, initial, 0.5, parameters=chosen)
        assert changed(before, module) == ["0.bias", "2.0.weight"]
    module = make()
    initial = snapshot(module)
    before = values(trained(module))
    soft_reinitialize(module, initial, 0.5, parameters=lambda name, parameter: parameter.ndim == 2)
    assert changed(before, module) == ["0.weight", "2.0.weight", "2.1.weight"]
    soft_reinitialize(module, {}, 0.5, parameters=[])  # selects nothing, needs nothing


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"strength": 1.2}, UsageError, "strength is 1.2"),
        ({"strength": -0.1}, UsageError, "strength is -0.1"),
        ({"strength": float("nan")}, UsageError, "strength is nan"),
        ({"strength": {"0": 0.5, "2": 7.0}}, UsageError, "strength is 7"),
        ({"strength": 0.5, "buffers": "blnd"}, UnknownNameError, "did you mean blend"),
        ({"strength": 0.5, "parameters": ["0.weigth"]}, UnknownNameError, "did you mean 0.weight"),
        ({"strength": 0.5, "drop": "2.1.bias"}, ModelError, r"lacks 1 of the 8 tensors .* '2.1.bias'"),
        ({"strength": 0.5, "reshape": "2.1.weight"}, ModelError, r"'2.1.weight' .* \[2, 4\].* \[5\]"),
        ({"strength": 0.5, "buffers": "blend", "drop": "1.running_var"}, ModelError, "lacks 1 of the 10"),
    ],
)
def test_errors_change_nothing(arguments, error, message):
    module, arguments = make(), dict(arguments)
    initial = snapshot(module)
    initial.pop(arguments.pop("drop", None), None)
    if reshaped := arguments.pop("reshape", None):
        initial[reshaped] = torch.zeros(5)
    before = values(trained(module))
    with pytest.raises(error, match=message):
        soft_reinitialize(module, initial, **arguments)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_complex_parameters():
    module = nn.Module()
    module.spectrum = nn.Parameter(torch.full((3,), 4 + 8j))
    soft_reinitialize(module, {"spectrum": torch.zeros(3, dtype=torch.complex64)}, 0.25)
    assert torch.allclose(module.spectrum, torch.full((3,), 3 + 6j))


def test_a_state_that_changes_with_the_training_gives_a_warning():
    module = make()
    with pytest.warns(EquipoiseWarning, match="holds the module's own tensors"):
        soft_reinitialize(module, module.state_dict(), 0.5)
    soft_reinitialize(module, copy.deepcopy(module.state_dict()), 0.5)


def test_a_snapshot_is_a_copy():
    module = make()
    initial = snapshot(module)
    kept = copy.deepcopy(initial)
    trained(module)
    assert initial.keys() == module.state_dict().keys()
    assert all(torch.equal(initial[key], kept[key]) and not initial[key].requires_grad for key in kept)
