"""G2D: distillation against NumPy, and encoders that are frozen in their phases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.methods import StepContext, create_method
from equipoise.methods.g2d import distillation, frozen
from equipoise.types import UnknownNameError, UsageError
from hand_run import HandRun, random_batch, same, small_model

BOTH, THREE = ("audio", "video"), ("audio", "video", "text")


def unimodal(modalities=BOTH, gains=()):
    """Teachers; `gains` makes the named ones more confident."""
    parts = {f"unimodal:{m}": small_model((m,), seed=5) for m in modalities}
    for m, gain in dict(gains).items():
        parts[f"unimodal:{m}"].fusion.linear.weight.data.mul_(gain)
    return parts


class Planned:
    optimizer = "sgd"

    def __init__(self, epochs):
        self.epochs = epochs


def begun(options=None, modalities=BOTH, parts=None, epoch=0, train=(), **model_options):
    model, method = small_model(modalities, **model_options), create_method("g2d", options or {})
    method.load_parts(model, parts or unimodal(modalities))
    run = HandRun(method, model, train=train)
    run.epoch = epoch
    method.epoch_start(run)
    return run


def probabilities(u, temperature=1.0):
    e = np.exp((u - u.max(1, keepdims=True)) / temperature)
    return e / e.sum(1, keepdims=True)


def said(parts, batch):
    """Logits and features of the teachers, in evaluation mode."""
    with torch.no_grad():
        z = {name.partition(":")[2]: part.eval().encode(batch) for name, part in parts.items()}
        z = {m: feature[m] for m, feature in z.items()}
        return {m: parts[f"unimodal:{m}"].fuse({m: x}).numpy() for m, x in z.items()}, z


def scores(parts, batches):
    out = dict.fromkeys((name.partition(":")[2] for name in parts), 0.0)
    for batch in batches:
        for m, t in said(parts, batch)[0].items():
            p = probabilities(t)
            out[m] += sum(p[i, k] for i, k in enumerate(batch.target.tolist()))
    return out


def total_gradient(run, modality):
    found = [p.grad for _, p in run.model.encoder_parameters(modality)]
    return None if all(g is None for g in found) else sum(float(g.abs().sum()) for g in found)


@pytest.mark.parametrize("modalities", [BOTH, THREE])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_loss_against_numpy(modalities, temperature):
    options = {"logit_weight": 0.7, "feature_weight": 1.3, "temperature": temperature, "end_epoch": -1}
    parts = unimodal(modalities)
    run = begun(options, modalities, parts)
    batch = random_batch(run.model)
    context = StepContext(run, batch)
    run.method.forward(context)
    terms = run.method.losses(context)
    logits, features = said(parts, batch)
    student = probabilities(context.u.detach().numpy(), temperature)
    kl, mse = 0.0, 0.0
    for m in modalities:
        p = probabilities(logits[m], temperature)
        kl += temperature**2 * float((p * np.log(p / student)).sum()) / len(batch)
        mse += float(((context.z[m].detach() - features[m]) ** 2).mean())
    assert terms["logits"].item() == pytest.approx(0.7 * kl, abs=1e-6)
    assert terms["features"].item() == pytest.approx(1.3 * mse, abs=1e-6)


def test_the_gradient_of_the_distillation_against_numpy():
    u, t = (
        torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (1, 2)
    )
    u.requires_grad_()
    distillation(u, t, 2.0).backward()
    expected = (probabilities(u.detach().numpy(), 2.0) - probabilities(t.numpy(), 2.0)) * 2.0 / 6
    np.testing.assert_allclose(u.grad.numpy(), expected, atol=1e-9)
    assert distillation(t, t, 3.0).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("order", ["batch", "train-set"])
@pytest.mark.parametrize("modalities", [BOTH, ("video", "audio"), THREE])
def test_in_the_window_only_one_encoder_is_trained(order, modalities):
    train = [random_batch(small_model(modalities), seed=seed) for seed in range(3)]
    parts = unimodal(modalities)
    window = {"order": order, "start_epoch": 1, "end_epoch": 6}
    for epoch in range(9):
        run = begun(window, modalities, parts, epoch, train)
        run.gradients(train[1])
        trained = [m for m in modalities if total_gradient(run, m) is not None]
        seen = [train[1]] if order == "batch" else train
        ranked = sorted(modalities, key=scores(parts, seen).get)
        if not 1 <= epoch <= 6:
            assert trained == list(modalities)
        elif len(modalities) == 2:
            assert trained == ranked[:1]
        else:  # two phases of three epochs; the most confident modality is not trained in them
            assert trained == [ranked[0] if epoch <= 3 else ranked[1]]
        assert all(p.grad is not None for _, p in run.model.fusion_parameters())


def test_the_trained_encoder_gets_the_full_gradient():
    parts = unimodal(gains={"audio": 5.0})
    run, plain = begun({}, parts=parts), begun({"end_epoch": -1}, parts=parts)
    batch = random_batch(run.model)
    (weak,) = set(BOTH) - set(frozen(scores(parts, [batch]), 0))
    (strong,) = set(BOTH) - {weak}
    # The frozen encoder runs in evaluation mode, so run the other model in evaluation mode too.
    plain.model.encoder_module(strong).eval()
    found, expected = run.gradients(batch)[0], plain.gradients(batch)[0]
    for name, gradient in found.items():
        assert torch.equal(gradient, expected[name])
    missing = {name for name, _ in run.model.encoder_parameters(strong)}
    assert set(expected) - set(found) == missing


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_frozen_encoders_do_not_change(optimizer):
    train = [random_batch(small_model(), seed=seed) for seed in range(3)]
    parts = unimodal()
    model, method = small_model(), create_method("g2d", {"order": "train-set", "start_epoch": 1})
    method.load_parts(model, parts)
    options = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
    run = HandRun(
        method,
        model,
        train=train,
        optimizer=optimizer(model.parameters(), lr=0.1, weight_decay=0.1, **options),
    )
    strong = max(BOTH, key=scores(parts, train).get)
    method.epoch_start(run)
    start = {k: v.clone() for k, v in model.encoder_module(strong).state_dict().items()}
    run.fit(train)  # so that there is momentum
    run.epoch = 1
    method.epoch_start(run)
    before = {m: {k: v.clone() for k, v in model.encoder_module(m).state_dict().items()} for m in BOTH}
    assert not same(start, before[strong])
    run.fit(train)
    (weak,) = set(BOTH) - {strong}
    assert same(model.encoder_module(strong).state_dict(), before[strong])  # running statistics too
    assert not same(model.encoder_module(weak).state_dict(), before[weak])
    assert not torch.equal(model.encoder_module(weak).norm.running_mean, before[weak]["norm.running_mean"])
    assert all(part.training for part in model.modules())
    assert all(p.requires_grad for p in model.parameters())


def test_no_backward_pass_through_frozen_encoders_and_one_forward_pass_of_teachers():
    run, passed, asked = begun(), {}, []
    for m in BOTH:
        run.model.encoder_module(m).register_forward_hook(
            lambda _, __, z, m=m: passed.update({m: z.requires_grad})
        )
        run.method._teachers[m].register_forward_hook(lambda *_: asked.append("model"))
        run.method._teachers[m].encoder_module(m).register_forward_hook(lambda *_: asked.append("encoder"))
    run.fit([random_batch(run.model)])
    assert sorted(passed.values()) == [False, True]
    assert asked == ["encoder"] * 2
    assert set(run.counted) == {t.encoder_module(m) for m, t in run.method._teachers.items()}


def test_gradients_from_other_sources_do_not_update_a_frozen_encoder():
    model, method = small_model(), create_method("cml+g2d", {"cml.absence": "zero-input"})
    method.load_parts(model, unimodal())
    run = HandRun(method, model)
    batch = random_batch(model)
    run.gradients(batch)
    strong = max(BOTH, key=scores(unimodal(), [batch]).get)
    assert [m for m in BOTH if total_gradient(run, m) is None] == [strong]


def test_equal_scores_freeze_no_encoder():
    assert frozen({"a": 1.0, "b": 1.0}, 0) == ()
    assert frozen({"a": 1.0, "b": 3.0, "c": 2.0}, 0) == ("b", "c")
    assert frozen({"a": 1.0, "b": 3.0, "c": 2.0}, 1) == ("a", "b")
    assert frozen({"a": 1.0, "b": 3.0, "c": 1.0}, 1) == ("b",)


def test_one_encoder_for_two_modalities_keeps_updating_its_statistics():
    from equipoise.models import MultimodalModel

    small = small_model(width=4)
    encoder = small.encoder_module("audio")
    model = MultimodalModel(dict.fromkeys(BOTH, encoder), small.fusion)
    parts = {f"unimodal:{m}": small_model((m,), width=4, seed=5) for m in BOTH}
    method = create_method("g2d")
    method.load_parts(model, parts)
    run = HandRun(method, model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    before = encoder.norm.running_mean.clone()
    run.fit([random_batch(model)])
    assert not torch.equal(before, encoder.norm.running_mean)


def test_default_window_is_the_first_half():
    def inside(total, **options):
        run = begun(options)
        run.total_epochs = total
        out = []
        for run.epoch in range(total):
            if run.method.in_window(run):
                out.append(run.epoch)
        return out

    assert inside(300) == list(range(151))
    assert inside(20) == list(range(11))
    assert inside(20, start_epoch=2, end_epoch=4) == [2, 3, 4]
    assert inside(5, end_epoch=99) == list(range(5))
    # At least the last epoch trains all encoders.
    assert inside(3) == [0, 1]
    assert inside(2) == [0]
    assert inside(1) == []


def test_a_default_run_of_one_epoch_trains_all_encoders():
    model, method = small_model(), create_method("g2d")
    method.load_parts(model, unimodal())
    run = HandRun(method, model, epochs=1)
    method.epoch_start(run)
    run.gradients(random_batch(model))
    assert all(total_gradient(run, m) for m in BOTH)


@pytest.mark.parametrize("epochs", [2, 3, 4, 5, 10])
def test_by_default_encoders_are_not_frozen_to_the_end(epochs):
    assert create_method("g2d").problems(Planned(epochs)) == []
    run = begun()
    run.total_epochs, run.epoch = epochs, epochs - 1
    assert not run.method.in_window(run)


def test_a_window_to_the_last_epoch_is_warned_of():
    def said_of(epochs, **options):
        return create_method("g2d", options).problems(Planned(epochs))

    for end in (9, 99):
        (line,) = said_of(10, end_epoch=end)
        assert "never trained" in line
        assert "set end_epoch=8 or lower, or train longer" in line
    (line,) = said_of(10, start_epoch=3, end_epoch=9)
    assert "to the end of training" in line
    assert "never trained" not in line  # it is trained, in the epochs before the window
    (line,) = said_of(1, end_epoch=0)
    assert "end_epoch=-1" in line
    assert said_of(10, end_epoch=8) == said_of(10, end_epoch=-1) == []
    assert said_of(11, end_epoch=9) == []
    assert not any("end of training" in line for line in said_of(10, start_epoch=20, end_epoch=30))


def test_scores_of_the_training_set_are_recorded():
    train = [random_batch(small_model(), seed=seed) for seed in range(3)]
    run = begun({"order": "train-set"}, train=train)
    state = run.method.state_dict()
    assert state["scores"] == pytest.approx(scores(unimodal(), train), abs=1e-4)
    fresh = begun({"order": "train-set", "start_epoch": 1}, train=train)
    fresh.method.load_state_dict(state)
    calls = []
    fresh.method.consult = lambda *_: calls.append(1)
    fresh.epoch = 1
    fresh.method.epoch_start(fresh)
    assert not calls


def test_options():
    assert (
        create_method("g2d", {"logit_weight": 0.0, "feature_weight": 0.0, "end_epoch": -1}).parts(BOTH) == []
    )
    assert create_method("g2d", {"logit_weight": 0.0, "feature_weight": 0.0}).parts(BOTH) == [
        "unimodal:audio",
        "unimodal:video",
    ]
    for options in ({"logit_weight": -1.0}, {"feature_weight": -1.0}, {"temperature": 0.0}):
        with pytest.raises(UsageError):
            create_method("g2d", options)
    with pytest.raises(UnknownNameError, match="did you mean train-set"):
        create_method("g2d", {"order": "trainset"})
    with pytest.raises(UsageError, match="at least 2 modalities"):
        create_method("g2d").check(small_model(("audio",)))
