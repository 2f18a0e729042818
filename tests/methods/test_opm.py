"""OPM: drop probabilities and dropped features against a slow computation."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from equipoise.methods import StepContext, create_method
from equipoise.methods.opm import OPM, drop_probabilities
from equipoise.types import UsageError
from hand_run import WIDTHS, HandRun, random_batch, same, small_model


def batches(model, count=4, first=1):
    return [random_batch(model, seed=first + i) for i in range(count)]


def leading(lead="video", modalities=("audio", "video")):
    """A model in which one modality is ahead on `random_batch(model)`: the target is its prediction."""
    model = small_model(modalities)
    batch = random_batch(model)
    with torch.no_grad():
        z = model.encode(batch)
        target = model.head.slice(lead, z[lead]).argmax(1)
    return model, type(batch)(batch.inputs, target, batch.index)


def slow_scores(model, z, target):
    weight = model.fusion.linear.weight.detach().numpy()
    bias, start, scores = model.fusion.linear.bias.detach().numpy(), 0, {}
    for m in model.modalities:
        feature = z[m].detach().numpy()
        u = feature @ weight[:, start : start + feature.shape[1]].T + bias / len(model.modalities)
        start += feature.shape[1]
        p = np.exp(u) / np.exp(u).sum(1, keepdims=True)
        scores[m] = sum(p[i, int(y)] for i, y in enumerate(target))
    return scores


def slow_q(scores, q_base, lam):
    q = {}
    for m in scores:
        rest = np.mean([s for n, s in scores.items() if n != m])
        r = np.tanh(max(scores[m] / rest - 1.0, 0.0))
        q[m] = float(np.clip(q_base * (1 + lam * r), 0, 1)) if r > 0 else 0.0
    return q


def test_drop_probabilities_by_hand():
    r = math.tanh(0.5)
    assert drop_probabilities({"a": 20.0, "v": 30.0}, 0.4, 0.5) == pytest.approx(
        {"a": 0.0, "v": 0.4 * (1 + 0.5 * r)}
    )
    assert drop_probabilities({"v": 30.0, "a": 20.0}, 0.9, 3.0) == {"v": 1.0, "a": 0.0}
    assert drop_probabilities({"a": 5.0, "v": 5.0}, 0.4, 0.5) == {"a": 0.0, "v": 0.0}
    assert drop_probabilities({"a": 0.0, "v": 1.0}, 0.5, 0.5)["v"] == pytest.approx(0.75)
    three = {"a": 3.0, "v": 2.0, "t": 1.0}
    assert drop_probabilities(three, 0.3, 0.5) == pytest.approx(
        {"a": 0.3 * (1 + 0.5 * math.tanh(1.0)), "v": 0.0, "t": 0.0}
    )


def test_one_modality_is_never_dropped():
    rng = np.random.default_rng(0)
    for count in (2, 3, 4):
        for _ in range(50):
            scores = {str(i): float(s) for i, s in enumerate(rng.uniform(0, 9, count))}
            q = drop_probabilities(scores, 1.0, 2.0)
            assert q == pytest.approx(slow_q(scores, 1.0, 2.0))
            assert q[min(scores, key=scores.__getitem__)] == 0
            if count == 2:
                assert sum(value > 0 for value in q.values()) == 1


@pytest.mark.parametrize("modalities", [("audio", "video"), ("video", "text", "audio")])
def test_features_are_dropped_and_the_others_scaled_up(modalities):
    model, batch = leading("video", modalities)
    run = HandRun(OPM(p_exe=1.0, start_epoch=0), model)
    _, context = run.gradients(batch)
    with torch.no_grad():
        z = small_model(modalities).encode(batch)
    q = slow_q(slow_scores(model, z, batch.target), 0.5, 0.5)
    assert q["video"] > 0
    theta = sum(WIDTHS[m] * q[m] for m in modalities) / sum(WIDTHS[m] for m in modalities)
    generator = torch.Generator().set_state(run.stream("opm").get_state())
    torch.rand((), generator=generator)
    order = sorted(modalities, key=lambda m: -slow_scores(model, z, batch.target)[m])
    for m in order:
        kept = np.ones(len(batch))
        if q[m]:
            kept = (torch.rand(len(batch), generator=generator) >= q[m]).numpy()
            assert 0 < kept.sum() < len(batch)
        expected = kept[:, None] * z[m].numpy() / (1 - theta)
        np.testing.assert_allclose(context.z[m].detach().numpy(), expected, atol=1e-6)
    torch.testing.assert_close(context.u, model.fusion(context.z))


def test_the_drop_rate_over_many_batches_equals_the_formula():
    model, batch = leading("video")
    method = OPM(p_exe=0.7, start_epoch=0)
    run = HandRun(method, model)
    model.eval()
    with torch.no_grad():
        z = model.encode(batch)
    q = slow_q(slow_scores(model, z, batch.target), 0.5, 0.5)
    context = StepContext(run, batch)
    context.features = z
    dropped = {m: [] for m in model.modalities}
    for _ in range(600):
        edited = method.edit_features(dict(z), context)
        for m in model.modalities:
            dropped[m].append(float((edited[m].abs().sum(1) == 0).double().mean()))
    assert np.mean(dropped["audio"]) == 0
    assert np.mean(dropped["video"]) == pytest.approx(0.7 * q["video"], abs=0.04)


OFF = [{"q_base": 0.0, "start_epoch": 0}, {"start_epoch": 1}, {"end_epoch": -1}]


@pytest.mark.parametrize("options", OFF)
def test_switched_off_it_is_joint_training(options):
    off = HandRun(OPM(**options), small_model()).fit(batches(small_model()))
    assert same(off, HandRun(create_method("joint"), small_model()).fit(batches(small_model())))


def test_global_random_states_are_unchanged():
    model, batch = leading()
    state = torch.get_rng_state()
    on = HandRun(OPM(p_exe=1.0, start_epoch=0), model).fit([batch])
    assert torch.equal(state, torch.get_rng_state())
    model, batch = leading()
    assert not same(on, HandRun(create_method("joint"), model).fit([batch]))


def test_evaluation_drops_nothing():
    model, batch = leading()
    HandRun(OPM(p_exe=1.0, start_epoch=0), model)
    model.eval()
    assert torch.equal(model(batch).logits, model.fuse(model.encode(batch)))


@pytest.mark.parametrize("modalities", [("audio", "video"), ("audio", "video", "text")])
def test_the_order_of_modalities_does_not_matter(modalities):
    def edited(order):
        torch.manual_seed(0)
        run = HandRun(OPM(p_exe=1.0, start_epoch=0, logits="zero-feature"), small_model(order))
        context = StepContext(run, random_batch(small_model(modalities)))
        generator = torch.Generator().manual_seed(4)

        def draw(*shape):
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        z = {m: draw(12, WIDTHS[m]) for m in sorted(order)}
        context.features = {m: z[m] for m in order}
        linears = {m: draw(3, WIDTHS[m]) for m in sorted(order)}
        linears["audio"] *= 0  # the last one: with three modalities two are ahead of it
        with torch.no_grad():
            run.model.fusion.linear.weight.copy_(torch.cat([linears[m] for m in order], dim=1))
            run.model.fusion.linear.bias.zero_()
        return run.method.edit_features(context.features, context)

    one, two = edited(modalities), edited(modalities[::-1])
    assert sum(not value.any(dim=1).all() for value in one.values()) == len(modalities) - 1
    for m in modalities:
        torch.testing.assert_close(one[m], two[m])


def test_it_resumes():
    whole = HandRun(OPM(start_epoch=0), small_model())
    data = batches(whole.model)
    expected = whole.fit(data)
    first = HandRun(OPM(start_epoch=0), small_model())
    first.fit(data[:2])
    second = HandRun(OPM(start_epoch=0), small_model(seed=5))
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.method.load_state_dict(first.method.state_dict())
    second.generator.set_state(first.generator.get_state())
    assert same(second.fit(data[2:]), expected)


def test_invalid_options_are_refused():
    for options in ({"q_base": 1.2}, {"lam": -1.0}, {"p_exe": 2.0}):
        with pytest.raises(UsageError, match=next(iter(options))):
            OPM(**options)
    with pytest.raises(UsageError, match="at least 2 modalities"):
        OPM().check(small_model(("audio",)))
    with pytest.raises(UsageError, match="additive_head"):
        OPM().check(small_model(fusion="gated"))
    OPM(logits="zero-feature").check(small_model(fusion="gated"))
    plan = SimpleNamespace(epochs=6, optimizer="sgd")
    assert "never acts" in OPM().problems(plan)[0]
    assert not OPM(start_epoch=2).problems(plan)
