"""ReconBoost: losses against NumPy, alternating and frozen encoders, fresh optimisers, the ensemble."""

from __future__ import annotations

import warnings
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import synthetic
from equipoise.methods import StepContext, create_method
from equipoise.methods.reconboost import ReconBoost, boosting_loss
from equipoise.models import MultimodalModel
from equipoise.types import EquipoiseWarning, UsageError
from hand_run import (
    CLASSES,
    HandRun,
    assert_close_encoders,
    drawn,
    exchanging,
    pieces,
    random_batch,
    same,
    small_model,
)
from interrupted import fit_with_and_without_break


def started(modalities=("audio", "video"), epochs=8, optimizer=None, **options):
    method = ReconBoost(**{"boost_epochs": 2, "rectify_epochs": 1, "hidden": 8, **options})
    model = drawn(method, small_model(modalities))
    train = pieces(random_batch(model, 36), 12)
    made = optimizer(model.parameters(), lr=0.05) if optimizer else None
    return HandRun(method, model, train=train, epochs=epochs, optimizer=made)


def enter(run, epoch):
    run.epoch = epoch
    run.model.train()
    run.method.epoch_start(run)


def epochs(run, first, last):
    for epoch in range(first, last):
        enter(run, epoch)
        run.fit(run.train)


def softmax(u):
    e = np.exp(u)
    return e / e.sum(1, keepdims=True)


def slow_answers(run, z):
    """u^m of each modality from the weights: projection if there is one, hidden layer, output."""
    fusion, out = run.model.fusion, {}
    first, _, last = fusion.classifier
    for place, m in enumerate(run.model.modalities):
        x = z[m].detach().numpy()
        for weight in fusion.projections[place].parameters():
            x = x @ weight.detach().numpy().T
        h = np.maximum(x @ first.weight.detach().numpy().T + first.bias.detach().numpy(), 0)
        out[m] = h @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    return out


@pytest.mark.parametrize("modalities", [("audio", "video"), ("text", "audio", "video")])
@pytest.mark.parametrize("consolidation", [True, False])
def test_the_losses_of_both_phases_against_numpy(modalities, consolidation):
    run = started(modalities, consolidation=consolidation, consolidation_weight=0.7, residual_weight=2.0)
    run.model.fusion.nu.data.fill_(1.3)
    batch, count = run.train[0], len(modalities)
    y, rows = batch.target.numpy(), np.arange(len(batch))
    for epoch in range(3 * count):
        stage, active = epoch // 3, modalities[(epoch // 3) % count]
        enter(run, epoch)
        gradients, context = run.gradients(batch)
        u = slow_answers(run, context.z)
        ensemble = 1.3 * sum(u.values())
        assert np.allclose(context.u.detach().numpy(), ensemble, atol=1e-9)
        terms = run.method.losses(context)
        assert "joint" not in terms
        if epoch % 3 == 2:
            expected = {"rectification": -np.log(softmax(ensemble)[rows, y]).mean()}
        else:
            p, q = softmax(u[active]), softmax(ensemble - 1.3 * u[active])
            onehot = np.eye(CLASSES)[y]
            own = (-5.0 * onehot * np.log(p) + 2.0 * onehot * q * np.log(p)).mean()
            expected = {"boosting": own}
            if consolidation and stage:
                before = softmax(u[modalities[(stage - 1) % count]])
                expected["consolidation"] = 0.7 * ((p - before) ** 2).mean()
        found = {name: float(value.detach()) for name, value in terms.items()}
        assert found == pytest.approx(expected, abs=1e-9)


def test_the_gradient_is_that_of_the_active_learner_only():
    run = started()
    enter(run, 3)  # the second stage boosts video
    batch = run.train[0]
    state = deepcopy(run.model.state_dict())
    gradients, _ = run.gradients(batch)
    run.model.load_state_dict(state)
    model = run.model
    model.encoder_module("audio").eval()
    z = model.encode(batch)
    fusion = model.fusion

    def answer(m, feature):
        place = model.modalities.index(m)
        return fusion.classifier(fusion.projections[place](feature))

    u = answer("video", z["video"])
    with torch.no_grad():
        v = answer("audio", z["audio"])
        q = (fusion.nu * v).softmax(1)[torch.arange(12), batch.target]
    log_p = u.log_softmax(1)[torch.arange(12), batch.target]
    loss = -((5 - q) * log_p).mean() / CLASSES + 0.5 * (u.softmax(1) - v.softmax(1)).square().mean()
    expected = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    for (name, _), value in zip(model.named_parameters(), expected, strict=True):
        if value is None:
            assert name not in gradients
        else:
            torch.testing.assert_close(gradients[name], value, rtol=0, atol=1e-9)
    idle = {name for name, _ in model.encoder_parameters("audio")} | {"fusion.nu"}
    assert not idle & set(gradients)


@pytest.mark.parametrize("optimizer", [None, torch.optim.AdamW])
def test_frozen_learners_do_not_change(optimizer):
    run = started(("audio", "video", "text"), optimizer=optimizer)
    epochs(run, 0, 3)  # so that moments exist
    for epoch, active in ((3, "video"), (4, "video"), (6, "text"), (9, "audio")):
        before = {name: value.clone() for name, value in run.model.state_dict().items()}
        enter(run, epoch)
        run.fit(run.train)
        after = run.model.state_dict()
        for m in run.model.modalities:
            place = run.model.modalities.index(m)
            keys = [k for k in before if k.startswith((f"encoders.{m}.", f"fusion.projections.{place}."))]
            moved = [k for k in keys if not torch.equal(before[k], after[k])]
            assert bool(moved) == (m == active), (epoch, m)
        assert torch.equal(before["fusion.nu"], after["fusion.nu"])
        assert not torch.equal(before["fusion.classifier.0.weight"], after["fusion.classifier.0.weight"])
        epochs(run, epoch + 1, epoch + 2)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    epochs(run, 11, 12)
    assert not any(
        torch.equal(before[k], v) for k, v in run.model.state_dict().items() if v.is_floating_point()
    )


def test_alternation():
    run = started(("audio", "video", "text"), order=["text", "audio", "video"])

    def turn(epoch):
        run.epoch = epoch
        return run.method.turn(run)

    assert [turn(e) for e in range(7)] == [
        (0, "text"),
        (0, "text"),
        (0, None),
        (1, "audio"),
        (1, "audio"),
        (1, None),
        (2, "video"),
    ]
    assert turn(9) == (3, "text")
    enter(run, 3)
    training = {m: run.model.encoder_module(m).training for m in run.model.modalities}
    assert training == {"audio": True, "video": False, "text": False}
    enter(run, 5)
    assert all(run.model.encoder_module(m).training for m in run.model.modalities)


def test_every_phase_begins_with_a_fresh_optimiser():
    run = started()
    fresh = []
    for epoch in range(6):
        enter(run, epoch)
        fresh.append(not run.optimizer.state)
        run.fit(run.train)
    assert fresh == [True, False, True, True, False, True]


def test_consolidation_updates_the_learner_and_not_the_previous_one():
    run = started(residual_weight=0.0, label_weight=0.0)
    enter(run, 3)
    context = StepContext(run, run.train[0])
    run.method.forward(context)
    terms = run.method.losses(context)
    assert terms["boosting"].item() == 0
    found = torch.autograd.grad(
        terms["consolidation"], list(context.run.model.parameters()), allow_unused=True
    )
    named = {
        n for (n, _), g in zip(run.model.named_parameters(), found, strict=True) if g is not None and g.any()
    }
    assert {n for n, _ in run.model.encoder_parameters("video")} & named
    assert not {n for n, _ in run.model.encoder_parameters("audio")} & named


def test_without_a_residual_it_is_a_scaled_cross_entropy():
    draw = torch.Generator().manual_seed(0)
    u, rest = torch.randn(2, 9, CLASSES, generator=draw, dtype=torch.float64)
    y = torch.arange(9) % CLASSES
    found = boosting_loss(u, rest, y, 5.0, 0.0)
    torch.testing.assert_close(found, 5 / CLASSES * F.cross_entropy(u, y))
    assert boosting_loss(u, rest, y, 5.0, 1.0) < found


def test_the_order_of_modalities_changes_nothing():
    run, turned = started(order=["video", "audio"]), started(("video", "audio"))
    for m in ("audio", "video"):
        turned.model.encoder_module(m).load_state_dict(run.model.encoder_module(m).state_dict())
        pair = [r.model.fusion.projections[r.model.modalities.index(m)] for r in (turned, run)]
        pair[0].load_state_dict(pair[1].state_dict())
    turned.model.fusion.classifier.load_state_dict(run.model.fusion.classifier.state_dict())
    turned.train = run.train
    epochs(run, 0, 6)
    epochs(turned, 0, 6)
    torch.testing.assert_close(run.model.fusion.nu, turned.model.fusion.nu)
    assert_close_encoders(run, turned)


def test_global_random_streams_are_unchanged():
    run = started()
    with run.drawing_nothing():
        epochs(run, 0, 4)


def test_a_restored_run_equals_an_uninterrupted_one():
    for cut in (2, 3, 4):
        whole, half, new = started(), started(), started()
        epochs(whole, 0, 6)
        epochs(half, 0, cut)
        new.restore(half)
        epochs(new, cut, 6)
        assert same(dict(new.model.state_dict()), dict(whole.model.state_dict()))


@pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")
def test_it_resumes_in_the_trainer(tmp_path: Path):
    synthetic.write(tmp_path / "data", count=90)
    options = {"boost_epochs": 2, "rectify_epochs": 1}
    whole = fit_with_and_without_break(
        tmp_path / "data",
        "reconboost",
        tmp_path / "run",
        killed_after=4,
        epochs=7,
        batch_size=16,
        method_options=options,
    )
    # Five epochs boost one encoder of two, and two rectify both.
    assert whole.summary["backward_samples"] * 2 * 7 == whole.summary["forward_samples"] * (5 + 2 * 2)


def test_too_few_epochs_give_a_warning():
    class Plan:
        epochs, optimizer = 8, "sgd"

    assert "one modality only" in ReconBoost().problems(Plan())[0]
    assert ReconBoost(boost_epochs=2).problems(Plan()) == []


def test_modalities_that_are_never_active_are_named_once():
    def lines(epochs, modalities=("audio", "video", "text"), **options):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run = started(modalities, epochs=epochs, **options)
        return [str(entry.message) for entry in caught], run.method.problems(run_plan(epochs))

    (line,), problems = lines(6)  # stages of three epochs, two of them
    assert "never boosts text" in line
    assert "more than 6" in line
    assert not problems
    assert "never boosts audio:" in lines(6, order=["text", "video", "audio"])[0][0]
    assert "never boosts video, text" in lines(4, ("audio", "touch", "video", "text"))[0][0]
    assert lines(7) == ([], [])
    # A single stage is reported by `problems`.
    for epochs in (2, 3):
        for modalities in (("audio", "video"), ("audio", "video", "text")):
            said, problems = lines(epochs, modalities)
            assert not said
            assert len(problems) == 1
    assert lines(4, ("audio", "video")) == ([], [])
    with pytest.warns(EquipoiseWarning, match="never boosts text"):
        started(("audio", "video", "text"), epochs=6)


def run_plan(epochs):
    class Plan:
        optimizer = "sgd"

    Plan.epochs = epochs
    return Plan()


def test_a_resumed_run_does_not_repeat_the_warning():
    modalities = ("audio", "video", "text")
    with pytest.warns(EquipoiseWarning):
        whole, half, new = (started(modalities, epochs=6) for _ in range(3))
    epochs(whole, 0, 6)
    epochs(half, 0, 4)
    new.restore(half)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # after the first epoch there are no further warnings
        epochs(new, 4, 6)
    assert same(dict(new.model.state_dict()), dict(whole.model.state_dict()))


def test_with_intermediate_fusion_frozen_encoders_do_not_change():
    method = ReconBoost(boost_epochs=1, rectify_epochs=1, hidden=8)
    reference, batch = exchanging(("audio", "video"))
    run = HandRun(method, drawn(method, reference), train=[batch])
    epochs(run, 0, 2)  # so that momentum could change parameters with a zero gradient
    enter(run, 2)
    start = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.fit([batch])
    moved = {name for name, value in run.model.state_dict().items() if not torch.equal(value, start[name])}
    assert {name.split(".")[1] for name in moved if name.startswith("encoders")} == {"video"}


def test_an_encoder_used_by_the_active_modality_is_not_frozen():
    small = small_model(("audio", "video", "text"), width=4)
    shared = small.encoder_module("audio")
    encoders = {"audio": shared, "video": shared, "text": small.encoder_module("text")}
    method = ReconBoost(boost_epochs=2, rectify_epochs=1, hidden=8)
    model = method.build(MultimodalModel(encoders, small.fusion)).double()
    run = HandRun(method, model, epochs=9, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    for epoch, at_work in ((0, True), (3, True), (6, False)):  # audio, video, text
        enter(run, epoch)
        assert all(part.training == at_work for part in shared.modules())
        assert all(part.training != at_work for part in encoders["text"].modules())
        before = shared.norm.running_mean.clone()
        run.fit([random_batch(model)])
        assert torch.equal(before, shared.norm.running_mean) != at_work


def test_a_part_used_by_the_active_encoder_is_not_frozen():
    small = small_model(width=4)
    audio, video = (small.encoder_module(m) for m in ("audio", "video"))
    video.first, video.norm = audio.first, audio.norm
    audio.first.eval()  # set to evaluation mode by the user
    method = ReconBoost(boost_epochs=2, rectify_epochs=1, hidden=8)
    model = method.build(small).double()
    run = HandRun(method, model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    run.method.epoch_start(run)
    assert audio.training
    assert audio.norm.training
    assert not audio.first.training
    assert not video.training
    assert not video.last.training


@pytest.mark.parametrize(
    "options",
    [
        {"boost_epochs": 0},
        {"rectify_epochs": -1},
        {"label_weight": -1.0},
        {"hidden": 0},
        {"consolidation": 1},
        {"consolidation_weight": float("inf")},
    ],
)
def test_invalid_options_are_refused(options):
    with pytest.raises(UsageError):
        create_method("reconboost", options)


def test_unsupported_models_are_refused():
    with pytest.raises(UsageError, match="at least 2"):
        create_method("reconboost").check(small_model(("audio",)))
    for order in (["audio"], ["audio", "audio"], ["audio", "smell"]):
        with pytest.raises(UsageError, match="needs each modality once|unknown modality 'smell'"):
            create_method("reconboost", {"order": order}).check(small_model())
    create_method("reconboost", {"order": ["video", "audio"]}).check(small_model())
