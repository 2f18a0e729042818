"""MMCosine: its logits and its contrastive term against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.methods import create_method
from equipoise.methods.mmcosine import CosineFusion, MMCosine
from equipoise.methods.shared.contrastive import contrastive_loss
from equipoise.models.precision import unit_rows
from equipoise.types import UsageError
from hand_run import CLASSES, HandRun, random_batch, same, small_model

TWO, THREE = ("audio", "video"), ("text", "audio", "video")


def built(method, modalities=TWO, **options):
    return method.build(small_model(modalities, **options)).double()


def slow_logits(reference, z, scale):
    weight, start, u = reference.fusion.linear.weight.detach().numpy(), 0, 0.0
    for m in reference.modalities:
        feature = z[m].detach().numpy()
        w = weight[:, start : start + feature.shape[1]]
        start += feature.shape[1]
        u = u + np.array(
            [[scale * (a @ b) / (np.sqrt((a**2).sum()) * np.sqrt((b**2).sum())) for b in w] for a in feature]
        )
    return u


@pytest.mark.parametrize("modalities", [TWO, THREE, ("audio",)])
def test_logits_are_cosines_with_the_weights_of_the_joint_head(modalities):
    model, reference = built(MMCosine(scale=7.0), modalities), small_model(modalities)
    run, batch = HandRun(MMCosine(scale=7.0), model), random_batch(model)
    _, context = run.gradients(batch)
    expected = slow_logits(reference, context.z, 7.0)
    np.testing.assert_allclose(context.u.detach().numpy(), expected, atol=1e-6)
    assert np.abs(expected).max() <= 7.0 * len(modalities)
    parts = [model.fusion.own_logits(m, context.z[m]) for m in modalities]
    torch.testing.assert_close(sum(parts), context.u)


def test_the_head_of_a_sum_fusion_is_used_too():
    reference = small_model(fusion="sum")
    model = built(MMCosine(), fusion="sum")
    for m, linear in zip(model.modalities, model.fusion.linears, strict=True):
        assert torch.equal(linear.weight, reference.head.weight(m))
        assert linear.weight.data_ptr() != reference.head.weight(m).data_ptr()


def test_gradients_against_finite_differences():
    model = built(MMCosine())
    run, batch = HandRun(MMCosine(), model), random_batch(model)
    gradients, _ = run.gradients(batch)
    for name in ("fusion.linears.1.weight", "encoders.audio.last.weight"):
        parameter = dict(model.named_parameters())[name]
        values = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                parameter[1, 2] += step
                values.append(torch.nn.functional.cross_entropy(model(batch).logits, batch.target))
                parameter[1, 2] -= step
        assert float(gradients[name][1, 2]) == pytest.approx(float(values[0] - values[1]) / 2e-6, abs=1e-6)


def test_positive_factors_change_nothing():
    model = built(MMCosine()).eval()
    z = model.encode(random_batch(model))
    before = model.fuse(z)
    with torch.no_grad():
        model.fusion.linears[0].weight.mul_(3.0)
        model.fusion.linears[1].weight[2].mul_(0.1)
    torch.testing.assert_close(model.fuse({"audio": 5 * z["audio"], "video": 0.2 * z["video"]}), before)


def test_training_and_evaluation_read_the_same_head():
    model = built(MMCosine())
    run = HandRun(MMCosine(), model)
    _, context = run.gradients(random_batch(model))
    model.eval()
    torch.testing.assert_close(model.fuse(context.z), context.u)


def test_a_feature_of_zeros_gives_zeros_and_no_gradient():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    unit = unit_rows(x)
    (unit * torch.tensor([[1.0, 2.0]])).sum().backward()
    np.testing.assert_allclose(unit.detach().numpy(), [[0, 0], [0.6, 0.8]])
    assert torch.equal(x.grad[0], torch.zeros(2, dtype=torch.float64))
    assert torch.isfinite(x.grad).all()
    assert unit_rows(x.detach().bfloat16()).dtype is torch.float32


def slow_contrast(z, target, temperature):
    n = len(target)
    names, losses = list(z), []
    unit = {m: x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True) for m, x in z.items()}
    for one in names:
        for two in names:
            if one == two:
                continue
            loss = 0.0
            for i in range(n):
                s = np.array([unit[one][i] @ unit[two][j] / temperature for j in range(n)])
                log_p = s - np.log(np.exp(s).sum())
                loss -= np.mean([log_p[j] for j in range(n) if target[j] == target[i]]) / n
            losses.append(loss)
    return np.mean(losses)


@pytest.mark.parametrize("modalities", [TWO, THREE])
def test_the_contrastive_term(modalities):
    generator = torch.Generator().manual_seed(0)
    z = {m: torch.randn(9, 5, generator=generator, dtype=torch.float64) for m in modalities}
    target = torch.randint(0, CLASSES, (9,), generator=generator)
    expected = slow_contrast(z, target.tolist(), 0.3)
    assert float(contrastive_loss(z, target, 0.3)) == pytest.approx(expected, abs=1e-6)
    backwards = dict(reversed(z.items()))
    assert float(contrastive_loss(backwards, target, 0.3)) == pytest.approx(expected, abs=1e-6)
    method = MMCosine(lam=0.5, temperature=0.3)
    run = HandRun(method, built(method, modalities, width=5))
    _, context = run.gradients(random_batch(run.model))
    z = {m: x.detach() for m, x in context.z.items()}
    slow = slow_contrast(z, context.batch.target.tolist(), 0.3)
    terms = method.losses(context)
    assert list(terms) == ["joint", "contrastive"]
    assert float(terms["contrastive"].detach()) == pytest.approx(0.5 * slow, abs=1e-6)


def test_mixed_precision_does_not_round_cosines():
    generator = torch.Generator().manual_seed(0)
    z = {m: torch.randn(64, 32, generator=generator) for m in TWO}
    target = torch.randint(0, CLASSES, (64,), generator=generator)
    head = CosineFusion(dict.fromkeys(TWO, 32), CLASSES, scale=10.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert (z["audio"] @ z["video"].T).dtype is torch.bfloat16
        loss, logits = contrastive_loss(z, target, 0.05), head(z)
        half = contrastive_loss({m: x.bfloat16() for m, x in z.items()}, target, 0.05)
    assert torch.equal(loss, contrastive_loss(z, target, 0.05))
    assert logits.dtype is loss.dtype is half.dtype is torch.float32
    assert torch.equal(logits, head(z))


def test_the_order_of_modalities_does_not_matter():
    one, two = built(MMCosine(), THREE), built(MMCosine(), THREE[::-1])
    for m in THREE:
        i, j = one.modalities.index(m), two.modalities.index(m)
        two.encoder_module(m).load_state_dict(one.encoder_module(m).state_dict())
        two.fusion.linears[j].load_state_dict(one.fusion.linears[i].state_dict())
    batch = random_batch(one)
    torch.testing.assert_close(one(batch).logits, two(batch).logits)


def test_global_random_streams_are_unchanged_and_runs_resume():
    data = [random_batch(small_model(), seed=i) for i in range(4)]
    whole = HandRun(MMCosine(), built(MMCosine()))
    state = torch.get_rng_state()
    untouched = whole.generator.get_state()
    expected = whole.fit(data)
    assert torch.equal(untouched, whole.generator.get_state())
    assert torch.equal(state, torch.get_rng_state())
    first, second = (HandRun(MMCosine(), built(MMCosine(), seed=seed)) for seed in (0, 3))
    first.fit(data[:2])
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.method.load_state_dict(first.method.state_dict())
    assert same(second.fit(data[2:]), expected)


def test_it_combines_with_other_methods():
    run = HandRun(create_method("mmcosine+multi-loss"), built(MMCosine()))
    run.fit([random_batch(run.model)])


def test_invalid_options_are_refused():
    for options in ({"scale": 0.0}, {"temperature": 0.0}, {"scale": -1.0}, {"lam": -0.1}):
        with pytest.raises(UsageError, match=next(iter(options))):
            MMCosine(**options)
    with pytest.raises(UsageError, match="'concat' or 'sum'"):
        MMCosine().check(small_model(fusion="gated"))
    with pytest.raises(UsageError, match="encoders of one output width"):
        MMCosine(lam=1.0).check(small_model())
    MMCosine(lam=1.0).check(small_model(width=5))
    with pytest.raises(UsageError, match="at least 2"):
        MMCosine(lam=1.0).check(small_model(("audio",)))
