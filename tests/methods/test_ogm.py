"""OGM and OGM-GE: coefficients against the formula in double precision, and which gradients they scale."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from equipoise.loops.plain.run import AllOptimizers
from equipoise.methods import METHODS, StepContext, create_method
from equipoise.methods.ogm import OGM, OGMGE, modulation_coefficients
from equipoise.methods.shared.modulation import is_sgd
from equipoise.models import ConcatFusion, MultimodalModel
from equipoise.types import Batch, UnknownNameError, UsageError
from hand_run import HandRun

WIDTHS = {"audio": 4, "video": 6, "text": 5}
CLASSES = 3


class Tiny(nn.Module):
    """An encoder with parameters of one, two and four dimensions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_features = width
        self.conv = nn.Conv2d(1, 2, 3)
        self.linear = nn.Linear(8, width)
        self.frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)

    def forward(self, x):
        return self.linear(self.conv(x).relu().flatten(1))


def build(modalities=("audio", "video"), seed=0):
    torch.manual_seed(seed)
    encoders = {m: Tiny(WIDTHS[m]) for m in modalities}
    return MultimodalModel(encoders, ConcatFusion({m: WIDTHS[m] for m in modalities}, CLASSES))


def batch_for(model, n=12, lead=None, seed=1):
    """A batch; if `lead` is named, the head predicts the class from that modality."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {m: torch.randn(n, 1, 4, 4, generator=generator) for m in model.modalities}
    y = torch.arange(n) % CLASSES
    if lead:
        with torch.no_grad():
            z = model.encoder_module(lead)(inputs[lead])
            means = torch.stack([z[y == c].mean(0) for c in range(CLASSES)])
            model.head.weight(lead).copy_(8 * (means - z.mean(0)) / z.var())
    return Batch(inputs, y, torch.arange(n))


def start(method, model, optimizer=None, **changes):
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    run = HandRun(method, model, optimizer=optimizer)
    run.generator = torch.Generator().manual_seed(7)
    for name, value in changes.items():
        setattr(run, name, value)
    return run


def gradients_after(run, batch):
    """Gradients before and after the hook of the method."""
    context = StepContext(run, batch)
    run.optimizer.zero_grad()
    run.method.forward(context)
    run.backward(run.method.losses(context)["joint"])
    named = dict(run.model.named_parameters())
    before = {key: p.grad.clone() for key, p in named.items() if p.grad is not None}
    run.method.after_backward(context)
    after = {key: p.grad.clone() for key, p in named.items() if p.grad is not None}
    assert before.keys() == after.keys()
    return before, after, context


def slow_coefficients(model, batch, alpha):
    """k of each modality, in float64 from the weights."""
    weight, bias = (
        p.detach().double().numpy() for p in (model.fusion.linear.weight, model.fusion.linear.bias)
    )
    scores, offset = {}, 0
    for m in model.modalities:
        with torch.no_grad():
            z = model.encoder_module(m)(batch.inputs[m]).double().numpy()
        u = z @ weight[:, offset : offset + WIDTHS[m]].T + bias / len(model.modalities)
        offset += WIDTHS[m]
        p = np.exp(u) / np.exp(u).sum(1, keepdims=True)
        scores[m] = sum(p[i, y] for i, y in enumerate(batch.target.tolist()))
    out = {}
    for m in scores:
        ratios = [scores[m] / scores[other] for other in scores if other != m]
        rho = sum(ratios) / len(ratios)
        out[m] = 1 - math.tanh(alpha * rho) if rho > 1 else 1.0
    return out


def scales(model, before, after):
    """Factors of the gradients of each parameter, by modality."""
    out = {}
    for m in model.modalities:
        out[m] = {}
        for key, _ in model.encoder_parameters(m):
            if key in before:
                factor = float((after[key] * before[key]).sum() / (before[key] ** 2).sum())
                assert torch.allclose(after[key], factor * before[key], rtol=1e-5, atol=1e-9)
                out[m][key.rsplit(".", 2)[-2] + "." + key.rsplit(".", 1)[-1]] = factor
    return out


def test_coefficients_by_hand():
    # The ratio of 8 and 4 is 2; the weaker modality is not scaled.
    assert modulation_coefficients({"a": 8.0, "b": 4.0}, 0.5) == {"a": 1 - math.tanh(1.0), "b": 1.0}
    assert modulation_coefficients({"a": 4.0, "b": 4.0}, 0.5) == {"a": 1.0, "b": 1.0}
    three = modulation_coefficients({"a": 6.0, "b": 3.0, "c": 2.0}, 0.1)
    assert three == pytest.approx({"a": 1 - math.tanh(0.25), "b": 1.0, "c": 1.0})  # 2.5, 1.0, 0.5
    assert modulation_coefficients({"a": 1.0, "b": 0.0}, 0.3) == {"a": 0.0, "b": 1.0}  # no division by zero
    assert set(modulation_coefficients({"a": 8.0, "b": 4.0, "c": 1.0}, 0.0).values()) == {1.0}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("modalities", [("audio", "video"), ("video", "audio"), ("audio", "video", "text")])
@pytest.mark.parametrize("lead", ["audio", "video"])
@pytest.mark.parametrize("alpha", [0.1, 0.8])
def test_encoder_gradients_are_scaled_by_the_formula(modalities, lead, alpha):
    model = build(modalities)
    batch = batch_for(model, lead=lead)
    run = start(OGM(alpha=alpha), model)
    before, after, _ = gradients_after(run, batch)
    expected = slow_coefficients(model, batch, alpha)
    assert expected[lead] < 0.95
    assert min(expected, key=expected.get) == lead
    assert max(expected.values()) == 1.0
    if len(modalities) == 2:
        assert list(expected.values()).count(1.0) == 1
    for m, factors in scales(model, before, after).items():
        for name, factor in factors.items():
            wanted = 1.0 if name.endswith("bias") else expected[m]
            assert factor == pytest.approx(wanted, abs=1e-10)
        if expected[m] == 1.0:  # bit for bit
            assert all(
                torch.equal(after[key], before[key])
                for key, _ in model.encoder_parameters(m)
                if key in before
            )
    for key, _ in model.fusion_parameters():
        assert torch.equal(after[key], before[key])


@pytest.mark.parametrize(
    ("tensors", "scaled"),
    [
        ("conv-only", {"conv.weight"}),
        ("matrices", {"conv.weight", "linear.weight"}),
        ("all", {"conv.weight", "linear.weight", "conv.bias", "linear.bias"}),
    ],
)
def test_tensors_get_equal_factors(tensors, scaled):
    model = build()
    batch = batch_for(model, lead="audio")
    before, after, _ = gradients_after(start(OGM(tensors=tensors), model), batch)
    factors = scales(model, before, after)["audio"]
    assert {name for name, factor in factors.items() if factor < 0.9} == scaled
    assert {name for name, factor in factors.items() if factor == pytest.approx(1, abs=1e-6)} == set(
        factors
    ) - scaled


def train(model, run, batch, steps=3):
    for _ in range(steps):
        run.method.train_step(batch, run)
    return [p.detach().clone() for p in model.parameters()]


def joint_training(optimizer=torch.optim.SGD, **options):
    model = build()
    run = start(OGM(alpha=0.0), model, optimizer(model.parameters(), lr=0.1))
    run.method = create_method("joint")
    run.method.setup(run)
    return train(model, run, batch_for(model, lead="audio"))


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0.0},
        {"alpha": 0.0, "tensors": "all"},
        {"start_epoch": 1},
        {"start_epoch": 0, "end_epoch": -1},
    ],
)
def test_switched_off_it_equals_joint_training_bit_for_bit(options):
    model = build()
    batch = batch_for(model, lead="audio")
    run = start(OGM(**options), model)
    off = train(model, run, batch)
    assert all(torch.equal(a, b) for a, b in zip(off, joint_training(), strict=True))
    assert torch.equal(run.generator.get_state(), torch.Generator().manual_seed(7).get_state())
    on_model = build()
    on = train(on_model, start(OGM(), on_model), batch_for(on_model, lead="audio"))
    assert not all(torch.equal(a, b) for a, b in zip(on, off, strict=True))


def test_epochs_of_modulation():
    def active(epoch, total=100, **options):
        model = build()
        run = start(OGM(**options), model, epoch=epoch, total_epochs=total)
        before, after, _ = gradients_after(run, batch_for(model, lead="audio"))
        return any(not torch.equal(before[key], after[key]) for key in before)

    assert [e for e in range(10) if active(e, total=10)] == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]  # by default the first half, as the official 0 to 50 of 100
    assert [e for e in range(10) if active(e, total=10, start_epoch=2, end_epoch=3)] == [2, 3]
    assert active(0, total=1)


def test_noise_has_the_standard_deviation_of_the_unscaled_gradient():
    model = build()
    batch = batch_for(model, lead="audio")
    run = start(OGMGE(alpha=0.8, tensors="all"), model)
    drawn = {}
    for _ in range(400):
        before, after, _ = gradients_after(run, batch)
        for key in before:
            drawn.setdefault(key, []).append(after[key])
    expected = slow_coefficients(model, batch, 0.8)
    for m in model.modalities:  # both modalities, the weaker one too
        for key, _ in model.encoder_parameters(m):
            if key not in before:
                continue
            noise = torch.stack(drawn[key]) - expected[m] * before[key]
            std = float(before[key].double().std(unbiased=False))
            count = noise.numel()
            assert std > 0
            assert abs(float(noise.mean())) < 5 * std / math.sqrt(count)
            assert float(noise.std()) == pytest.approx(std, rel=5 / math.sqrt(2 * count))
    for key, _ in model.fusion_parameters():
        assert all(torch.equal(value, before[key]) for value in drawn[key])


def test_noise_is_drawn_from_the_generator_of_the_run():
    def noisy(seed):
        model = build()
        batch = batch_for(model, lead="audio")
        stream = torch.get_rng_state()
        run = start(OGMGE(), model, generator=torch.Generator().manual_seed(seed))
        weights = train(model, run, batch)
        assert torch.equal(torch.get_rng_state(), stream)
        return weights

    one, again, other = noisy(1), noisy(1), noisy(2)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_gradient_of_one_element_has_no_standard_deviation():
    model = build()
    single = nn.Parameter(torch.tensor([[2.0]]))
    model.encoder_module("audio").scale = single
    run = start(OGMGE(alpha=0.0), model)
    single.grad = torch.tensor([[2.0]])
    for gradient, noise in run.method._draw_noise(run, {"audio": 1.0}):
        gradient.add_(noise)
    assert single.grad.item() == pytest.approx(2.0, abs=1e-6)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("tensors", ["all", "matrices"])
@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_scaled_updates(kind, tensors):
    model = build()
    batch = batch_for(model, lead="video")
    k = slow_coefficients(model, batch, 0.8)
    run = start(OGM(alpha=0.8, apply="update", tensors=tensors), model, kind(model.parameters(), lr=0.1))
    before, after, context = gradients_after(run, batch)
    assert all(torch.equal(before[key], after[key]) for key in before)
    run.method.after_step(context)  # no step was taken, so nothing is scaled
    old = {key: p.detach().clone() for key, p in model.named_parameters()}
    plain = build()
    batch_for(plain, lead="video")
    plain_run = start(OGM(alpha=0.0), plain, kind(plain.parameters(), lr=0.1))
    for r in (run, plain_run):
        r.method.train_step(batch, r)
    others = dict(plain.named_parameters())
    assert k["video"] < 0.95
    for m in model.modalities:
        for key, p in model.encoder_parameters(m):
            factor = k[m] if tensors == "all" or p.ndim >= 2 else 1.0
            assert torch.allclose(p - old[key], factor * (others[key] - old[key]), rtol=0, atol=1e-10)


def test_scaled_updates_do_not_change_the_optimiser():
    model, plain = build(), build()
    batch = batch_for(model, lead="video")
    run = start(OGM(apply="update"), model, torch.optim.AdamW(model.parameters(), lr=0.1))
    other = start(OGM(alpha=0.0), plain, torch.optim.AdamW(plain.parameters(), lr=0.1))
    batch_for(plain, lead="video")
    for r in (run, other):
        r.method.train_step(batch, r)
    assert run.optimizer.param_groups[0]["lr"] == 0.1
    states = [[s["exp_avg"] for s in r.optimizer.state.values()] for r in (run, other)]
    assert all(torch.equal(x, y) for x, y in zip(*states, strict=True))


@pytest.mark.parametrize(("kind", "same_as"), [(torch.optim.SGD, "grad"), (torch.optim.AdamW, "update")])
def test_auto_scales_what_the_optimizer_does_not_undo(kind, same_as):
    found = []
    for apply in ("auto", same_as, "update" if same_as == "grad" else "grad"):
        model = build()
        run = start(OGM(alpha=0.8, apply=apply), model, kind(model.parameters(), lr=0.1, weight_decay=0.01))
        run.method.train_step(batch_for(model, lead="video"), run)
        found.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_several_optimizers_are_sgd_if_all_are():
    sgd, adamw = (kind([torch.zeros(1, requires_grad=True)]) for kind in (torch.optim.SGD, torch.optim.AdamW))
    assert is_sgd(sgd)
    assert is_sgd(AllOptimizers([sgd, sgd]))
    assert not is_sgd(AllOptimizers([sgd, adamw]))


def test_adaptive_optimizers_give_a_warning():
    def problems(optimizer, **options):
        plan = SimpleNamespace(epochs=10, optimizer=optimizer, learning_rates=lambda: [0.1] * 10)
        return OGM(**options).problems(plan)

    assert problems("sgd") == problems("adamw", apply="update") == problems("adamw") == []
    (line,) = problems("adamw", apply="grad")
    assert "adamw undoes" in line
    assert "apply=update" in line


def test_invalid_options_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean matrices"):
        OGM(tensors="matrix")
    with pytest.raises(UnknownNameError, match="value of apply"):
        OGM(apply="updates?")
    for alpha in (-0.1, math.nan, math.inf):
        with pytest.raises(UsageError, match="alpha is"):
            OGM(alpha=alpha)
    with pytest.raises(UnknownNameError, match="option of 'ogm-ge' 'alhpa': did you mean alpha"):
        create_method("ogm-ge", {"alhpa": 1})
    flat = MultimodalModel({m: nn.Linear(2, 4) for m in "ab"}, ConcatFusion({"a": 4, "b": 4}, 2))
    with pytest.raises(UsageError, match="conv-only' selects nothing from the encoder of 'a'"):
        OGM(tensors="conv-only").check(flat)


def test_requirements():
    assert METHODS["ogm"] is OGM
    assert METHODS["ogm-ge"] is OGMGE
    single = MultimodalModel({"a": nn.Linear(2, 4)}, ConcatFusion({"a": 4}, 2))
    with pytest.raises(UsageError, match="at least 2 modalities"):
        OGM().check(single)
    OGM().check(build())
