"""AMCo: shares, masks and losses against a slow computation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from equipoise.methods import StepContext, create_method
from equipoise.methods.amco import AMCo, draw_mask, masked_entries, shares
from equipoise.types import UnknownNameError, UsageError
from hand_run import HandRun, random_batch, same, small_model

TWO, THREE = ("audio", "video"), ("text", "audio", "video")


def built(method, modalities=TWO, **options):
    return method.build(small_model(modalities, **options))


def started(modalities=TWO, train=(), seed=0, **options):
    method = AMCo(**options)
    return HandRun(method, built(method, modalities, seed=seed), train=train)


def slow_parts(model, z):
    count = len(model.modalities)
    linears = dict(zip(model.modalities, model.fusion.linears, strict=True))
    bias = model.fusion.bias.detach().numpy() / count
    return {m: z[m] @ linears[m].weight.detach().numpy().T + bias for m in model.modalities}


def slow_shares(parts):
    stacked = np.concatenate(list(parts.values()), axis=1)
    p = np.exp(stacked) / np.exp(stacked).sum(1, keepdims=True)
    c = p.shape[1] // len(parts)
    return {m: p[:, i * c : (i + 1) * c].sum(1).mean() for i, m in enumerate(parts)}


def cross_entropy(u, y):
    p = np.exp(u) / np.exp(u).sum(1, keepdims=True)
    return float(np.mean([-np.log(p[i, int(c)]) for i, c in enumerate(y)]))


def test_number_of_masked_entries():
    assert [masked_entries(6, length, 0.3) for length in (0.0, 0.1, 0.3, 5.0)] == [0, 3, 6, 6]
    for length in np.linspace(0, 0.4, 9):
        n = masked_entries(10, float(length), 0.3)
        assert n == math.floor(10 * math.sin(math.pi / 2 * min(0.3, length) / 0.3))
        mask = draw_mask(torch.zeros(4, 10), n, torch.Generator().manual_seed(0))
        assert mask.shape == (10,)
        assert int((mask == 0).sum()) == n
        assert int((mask == 1).sum()) == 10 - n


@pytest.mark.parametrize("modalities", [TWO, THREE])
def test_shares(modalities):
    generator = torch.Generator().manual_seed(0)
    u = {m: 2 * torch.randn(7, 3, generator=generator, dtype=torch.float64) for m in modalities}
    expected = slow_shares({m: x.numpy() for m, x in u.items()})
    assert shares(u) == pytest.approx(expected, abs=1e-9)
    assert sum(expected.values()) == pytest.approx(1)


@pytest.mark.parametrize("mask_on", ["logits", "features"])
@pytest.mark.parametrize(("modalities", "step"), [(TWO, 12), (THREE, 15), (TWO, 40), (TWO, 0)])
def test_two_steps_against_a_slow_computation(modalities, step, mask_on):
    sigma = None if modalities == TWO else 0.1  # with three, no share is below 0.1
    run = started(modalities, mask_on=mask_on, sigma=sigma, weight=0.7)
    run.steps_per_epoch, run.step = 10, step  # of 100
    method, model = run.method, run.model
    with torch.no_grad():
        model.fusion.recombine.weight.add_(0.1 * torch.randn(3, 3, dtype=torch.float64))
        model.fusion.recombine.bias.add_(0.5)
    generator = torch.Generator().set_state(run.generator.get_state())
    before, dependents = {}, 0
    for seed in range(2):
        context = StepContext(run, random_batch(model, seed=seed))
        run.method.forward(context)
        terms = {name: float(value.detach()) for name, value in method.losses(context).items()}
        z = {m: x.detach().numpy().copy() for m, x in context.z.items()}
        parts = slow_parts(model, z)
        shares_now = slow_shares(parts)
        mask = None
        ahead = [m for m in sorted(before, key=lambda m: -before[m]) if before[m] > (sigma or 0.5)]
        for m in ahead:
            dependents += 1
            width = 3 if mask_on == "logits" else z[m].shape[1]
            n = math.floor(width * math.sin(math.pi / 2 * min(0.3, step / 100) / 0.3))
            if mask is None or mask_on == "features":
                mask = np.ones(width)
                mask[torch.randperm(width, generator=generator)[:n].numpy()] = 0
            if mask_on == "logits":
                parts[m] = parts[m] * mask
            else:
                parts[m] = slow_parts(model, {**z, m: z[m] * mask})[m]
        before = shares_now
        a, c = (p.detach().numpy() for p in (model.fusion.recombine.weight, model.fusion.recombine.bias))
        u = sum(parts.values()) @ a.T + c
        np.testing.assert_allclose(context.u.detach(), u, atol=1e-6)
        y = context.batch.target
        unimodal = 0.7 * sum(cross_entropy(part, y) for part in parts.values())
        assert terms == pytest.approx({"joint": cross_entropy(u, y), "unimodal": unimodal}, abs=1e-6)
    assert dependents >= len(modalities) - 1


def test_without_a_dependent_modality_there_is_no_mask():
    run = started(sigma=1.0)
    run.steps_per_epoch, run.step = 1, 9
    state = run.generator.get_state()
    for seed in range(3):
        _, context = run.gradients(random_batch(run.model, seed=seed))
        torch.testing.assert_close(context.u, run.model.fuse(context.z))
    assert torch.equal(state, run.generator.get_state())
    masked = started(sigma=0.5)
    masked.steps_per_epoch, masked.step = 1, 9
    for seed in range(2):
        _, context = masked.gradients(random_batch(masked.model, seed=seed))
    assert not torch.allclose(context.u, masked.model.fuse(context.z))
    assert not torch.equal(state, masked.generator.get_state())


@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_initially_it_is_the_joint_model(fusion):
    reference = small_model(THREE, fusion)
    expected = reference.eval()(random_batch(reference)).logits
    model = built(AMCo(), THREE, fusion=fusion).eval()
    torch.testing.assert_close(model(random_batch(model)).logits, expected)
    _, context = started(THREE).gradients(random_batch(model))
    _, joint = HandRun(create_method("joint"), small_model(THREE)).gradients(random_batch(model))
    torch.testing.assert_close(context.u, joint.u)


def test_evaluation_is_not_masked():
    run = started()
    run.steps_per_epoch, run.step = 1, 9
    run.fit([random_batch(run.model, seed=i) for i in range(3)])
    model, state = run.model.eval(), run.generator.get_state()
    batch = random_batch(model)
    assert torch.equal(model(batch).logits, model(batch).logits)
    parts = slow_parts(model, {m: x.detach().numpy() for m, x in model.encode(batch).items()})
    total = torch.tensor(sum(parts.values()))
    torch.testing.assert_close(model(batch).logits, model.fusion.recombine(total))
    assert torch.equal(state, run.generator.get_state())


def test_how_the_mask_grows():
    run = started(growth="epoch")
    method = run.method
    for epoch in range(3):
        run.epoch = epoch
        method.epoch_start(run)
        for j in range(3):
            assert method._length(run) == pytest.approx(j * epoch / 10)
            method.train_step(random_batch(run.model), run)
    by_run = started(train=[random_batch(run.model)] * 4)
    by_run.step = 10
    assert by_run.method._length(by_run) == pytest.approx(10 / 40)


def test_the_order_of_modalities_does_not_matter():
    order = ("video", "text", "audio")
    one, two = started(THREE, mask_on="features"), started(order, mask_on="features")
    for run in (one, two):
        run.steps_per_epoch, run.step = 10, 10
    for m in THREE:
        i, j = THREE.index(m), order.index(m)
        two.model.encoder_module(m).load_state_dict(one.model.encoder_module(m).state_dict())
        two.model.fusion.linears[j].load_state_dict(one.model.fusion.linears[i].state_dict())
    two.model.fusion.bias.data.copy_(one.model.fusion.bias.data)
    data = [random_batch(one.model, seed=i) for i in range(3)]
    one.fit(data)
    two.fit(data)
    for m in THREE:
        i, j = THREE.index(m), order.index(m)
        torch.testing.assert_close(two.model.fusion.linears[j].weight, one.model.fusion.linears[i].weight)
    assert two.method.state_dict()["shares"] == pytest.approx(one.method.state_dict()["shares"])


@pytest.mark.parametrize("growth", ["run", "epoch"])
def test_global_random_streams_are_unchanged_and_runs_resume(growth):
    data = [random_batch(small_model(), seed=i) for i in range(4)]

    def epoch(run, number):
        run.epoch = number + 2
        run.method.epoch_start(run)
        return run.fit(data[2 * number : 2 * number + 2])

    options = {"growth": growth, "eps": 0.05, "train": data[:2]}
    whole, first = started(**options), started(**options)
    state = torch.get_rng_state()
    epoch(whole, 0)
    expected = epoch(whole, 1)
    assert torch.equal(state, torch.get_rng_state())
    epoch(first, 0)
    second = started(seed=4, **options)
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.method.load_state_dict(first.method.state_dict())
    second.generator.set_state(first.generator.get_state())
    second.step = first.step
    assert same(epoch(second, 1), expected)
    assert second.method.state_dict() == whole.method.state_dict()


def test_it_combines_with_other_methods():
    run = HandRun(create_method("amco+multi-loss"), built(AMCo()))
    run.fit([random_batch(run.model, seed=i) for i in range(2)])


def test_invalid_options_are_refused():
    for options in ({"eps": 0.0}, {"sigma": 1.5}, {"weight": -1.0}, {"eps": -0.1}):
        with pytest.raises(UsageError, match=next(iter(options))):
            AMCo(**options)
    with pytest.raises(UnknownNameError, match="value of mask_on"):
        AMCo(mask_on="inputs")
    with pytest.raises(UnknownNameError, match="value of growth"):
        AMCo(growth="batch")
    with pytest.raises(UsageError, match="'concat' or 'sum'"):
        AMCo().check(small_model(fusion="gated"))
    with pytest.raises(UsageError, match="at least 2"):
        AMCo().check(small_model(("audio",)))
