"""IPRM: mixes, probes and weights against a slow computation."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

import synthetic
from equipoise.methods import StepContext, create_method
from equipoise.methods.iprm import IPRM, probe_distance, slerp
from equipoise.types import UnknownNameError, UsageError
from hand_run import HandRun, drawn, random_batch, same, small_model
from interrupted import fit_with_and_without_break

TWO, THREE = ("audio", "video"), ("text", "audio", "video")
HALF = torch.tensor(0.5, dtype=torch.float64)


def built(method, modalities=TWO, seed=0):
    model = drawn(method, small_model(modalities, width=5, seed=seed), seed)
    with torch.no_grad():
        for parameter in model.fusion.parameters():
            parameter.mul_(3)  # so that probes differ clearly
    return model


def softmax(u):
    e = np.exp(u - u.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def slow_slerp(x, y, a, b):
    rows = []
    for one, two in zip(x, y, strict=True):
        one, two = one / np.sqrt(one @ one), two / np.sqrt(two @ two)
        w = np.arccos(one @ two)
        rows.append((np.sin(a * w) * one + np.sin(b * w) * two) / np.sin(w))
    return np.array(rows)


def linear(layer, x):
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def cross_entropy(u, y):
    return float(np.mean([-np.log(softmax(u)[i, int(c)]) for i, c in enumerate(y)]))


def features(seed=0, n=8, d=5):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(2))


def test_slerp():
    x, y = features()
    for a, b in ((0.5, 0.5), (0.2, 0.8), (0.9, 0.6)):
        got = slerp(x, y, torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64))
        np.testing.assert_allclose(got, slow_slerp(x.numpy(), y.numpy(), a, b), atol=1e-6)
        if a + b == 1:
            np.testing.assert_allclose(got.norm(dim=1), np.ones(8), atol=1e-6)
    np.testing.assert_allclose(slerp(x, y, 2 * HALF, 0 * HALF), x / x.norm(dim=1, keepdim=True), atol=1e-9)


@pytest.mark.parametrize("other", ["same", "opposite", "zero", "near"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slerp_has_finite_values_and_gradients_everywhere(other, dtype):
    x = torch.tensor([[0.0, 2.0, 0.0]], dtype=dtype)  # its cosine with itself is exactly one
    near = x + 1e-5 * torch.eye(3, dtype=dtype)[:1]
    y = {"same": 2 * x, "opposite": -x, "zero": 0 * x, "near": near}[other]
    x.requires_grad_()
    y = y.detach().requires_grad_()
    mix = slerp(x, y, HALF.to(dtype), HALF.to(dtype))
    (mix * torch.arange(3.0)).sum().backward()
    for value in (mix, x.grad, y.grad):
        assert torch.isfinite(value).all()
    assert float(x.grad.abs().max()) < 10
    if other in ("same", "near"):
        assert float(mix.detach().norm()) == pytest.approx(1, abs=1e-6)


def test_probe_distance():
    x, y = features(1)
    p, q = softmax(x.numpy()), softmax(y.numpy())
    slow = np.mean([sum(p[i, c] * np.log(p[i, c] / q[i, c]) for c in range(5)) for i in range(8)])
    assert float(probe_distance(x, y)) == pytest.approx(slow, abs=1e-9)
    assert float(probe_distance(x, x)) == 0


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("modalities", [TWO, THREE])
def test_weights_and_losses_over_several_steps(modalities, swap):
    method = IPRM(alpha=0.6, swap=swap)
    model = built(method, modalities)
    fusion, run = model.fusion, HandRun(method, model)
    pairs = list(combinations(modalities, 2))
    lam, lamh = {p: np.full(2, 0.5) for p in pairs}, {p: np.full(2, 0.5) for p in pairs}
    heads = dict(zip(modalities, fusion.own.linears, strict=True))
    for seed in range(3):
        context = StepContext(run, random_batch(model, seed=seed))
        run.method.forward(context)
        terms = {name: float(value.detach()) for name, value in method.losses(context).items()}
        y, z = context.batch.target, {m: x.detach().numpy() for m, x in context.z.items()}
        own = {m: linear(heads[m], z[m]) for m in modalities}
        mix_loss, u = 0.0, sum(own.values())
        for pair, mix in zip(pairs, fusion.mixes, strict=True):
            one, two = pair
            lam[pair] = 0.6 * lam[pair] + 0.4 * lamh[pair]
            v = softmax(linear(mix, slow_slerp(z[one], z[two], *lam[pair])))
            p = {m: softmax(own[m]) for m in pair}
            k = np.array([np.mean((p[m] * (np.log(p[m]) - np.log(v))).sum(1)) for m in pair])
            lamh[pair] = (k if swap else k[::-1]) / k.sum()
            mix_loss += cross_entropy(linear(mix, slow_slerp(z[one], z[two], *lamh[pair])), y)
            u = u + linear(mix, slow_slerp(z[one], z[two], *lam[pair]))
        unimodal = sum(cross_entropy(own[m], y) for m in modalities)
        assert terms == pytest.approx({"mix": mix_loss, "unimodal": unimodal}, abs=1e-6)
        np.testing.assert_allclose(fusion.lam, np.stack([lam[p] for p in pairs]), atol=1e-6)
        np.testing.assert_allclose(fusion.lamh, np.stack([lamh[p] for p in pairs]), atol=1e-6)
        np.testing.assert_allclose(fusion.lamh.sum(1), np.ones(len(pairs)), atol=1e-9)
        np.testing.assert_allclose(model.fuse(context.z).detach(), u, atol=1e-6)
    assert not torch.allclose(fusion.lamh, HALF)


def test_the_probe_has_no_gradient():
    method = IPRM()
    model = built(method)
    run, batch = HandRun(method, model), random_batch(model)
    gradients, _ = run.gradients(batch)
    assert not model.fusion.lam.requires_grad
    lamh = model.fusion.lamh.clone()
    model.zero_grad()
    z = model.encode(batch)
    n = {m: x / x.norm(dim=1, keepdim=True) for m, x in z.items()}
    w = (n["audio"] * n["video"]).sum(1, keepdim=True).acos()
    mix = ((lamh[0, 0] * w).sin() * n["audio"] + (lamh[0, 1] * w).sin() * n["video"]) / w.sin()
    logits = [model.fusion.mixes[0](mix)]
    logits += [head(z[m]) for m, head in zip(model.modalities, model.fusion.own.linears, strict=True)]
    sum(torch.nn.functional.cross_entropy(u, batch.target) for u in logits).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-9, rtol=1e-6)


def test_equal_distances_give_equal_weights():
    method = IPRM()
    model = built(method)
    with torch.no_grad():
        for part in (*model.fusion.own.linears, *model.fusion.mixes):
            part.weight.zero_()
            part.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    model.fusion.lamh.copy_(torch.tensor([[0.3, 0.7]]))
    HandRun(method, model).gradients(random_batch(model))
    assert torch.equal(model.fusion.lamh, torch.full((1, 2), 0.5, dtype=torch.float64))


def test_with_one_head_each_step_draws_one_random_pair():
    method = IPRM(pairs="random")
    model = built(method, THREE)
    run = HandRun(method, model)
    assert len(model.fusion.mixes) == 1
    touched = set()
    state = torch.get_rng_state()
    for seed in range(12):
        before = model.fusion.lamh.clone()
        run.gradients(random_batch(model, seed=seed))
        (changed,) = (before != model.fusion.lamh).any(dim=1).nonzero().flatten().tolist()
        touched.add(changed)
    assert touched == {0, 1, 2}
    assert torch.equal(state, torch.get_rng_state())


def test_evaluation_has_no_side_effects():
    model = built(IPRM()).eval()
    batch = random_batch(model)
    assert torch.equal(model(batch).logits, model(batch).logits)
    assert (model.fusion.lam == 0.5).all()


def test_the_order_of_modalities_does_not_matter():
    order = ("video", "text", "audio")
    one, two = built(IPRM(), THREE), built(IPRM(), order)
    for m in THREE:
        i, j = THREE.index(m), order.index(m)
        two.encoder_module(m).load_state_dict(one.encoder_module(m).state_dict())
        two.fusion.own.linears[j].load_state_dict(one.fusion.own.linears[i].state_dict())
    place = {frozenset(pair): i for i, pair in enumerate(one.fusion.pairs)}
    rows = [place[frozenset(pair)] for pair in two.fusion.pairs]
    for j, i in enumerate(rows):
        two.fusion.mixes[j].load_state_dict(one.fusion.mixes[i].state_dict())
    batch = random_batch(one)
    HandRun(IPRM(), one).fit([batch])
    HandRun(IPRM(), two).fit([batch])
    for j, i in enumerate(rows):
        flip = one.fusion.pairs[i] != two.fusion.pairs[j]
        expected = one.fusion.lamh[i].flip(0) if flip else one.fusion.lamh[i]
        torch.testing.assert_close(two.fusion.lamh[j], expected)
        torch.testing.assert_close(two.fusion.mixes[j].weight, one.fusion.mixes[i].weight)


def test_it_resumes():
    method = IPRM(pairs="random")
    whole = HandRun(method, built(method, THREE))
    data = [random_batch(whole.model, seed=i) for i in range(4)]
    expected = whole.fit(data)
    first, second = (HandRun(IPRM(pairs="random"), built(method, THREE, seed)) for seed in (0, 4))
    first.fit(data[:2])
    second.restore(first)
    assert same(second.fit(data[2:]), expected)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    data = synthetic.write(tmp_path / "data").path
    whole = fit_with_and_without_break(
        data, "iprm", tmp_path / "run", killed_after=1, epochs=3, batch_size=32
    )
    assert not (whole.model.fusion.lam == 0.5).all()


def test_it_combines_with_other_methods():
    run = HandRun(create_method("iprm+multi-loss"), built(IPRM()))
    run.fit([random_batch(run.model)])


def test_invalid_options_are_refused():
    with pytest.raises(UsageError, match="alpha"):
        IPRM(alpha=1.5)
    with pytest.raises(UnknownNameError, match="value of pairs"):
        IPRM(pairs="every")
    with pytest.raises(UsageError, match="encoders of one output width"):
        IPRM().check(small_model())
    with pytest.raises(UsageError, match="at least 2"):
        IPRM().check(small_model(("audio",)))


@pytest.mark.parametrize("other", ["arl", "multi-loss"])
def test_other_losses_may_have_gradients_through_the_fusion(other):
    gradients = []
    for spec in (f"{other}+iprm", f"iprm+{other}"):
        method = create_method(spec, {f"{other}.logits": "zero-feature"})
        model = built(next(m for m in method.members() if m.name == "iprm"), THREE)
        run = HandRun(method, model)
        found, _ = run.gradients(random_batch(model))
        gradients.append(found)
        run.fit([random_batch(model, seed=i) for i in range(3)])
        assert not torch.equal(model.fusion.lam, torch.full_like(model.fusion.lam, 0.5))
    # In the first step the probe leaves the weights at one half, so that the order does not matter.
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)
