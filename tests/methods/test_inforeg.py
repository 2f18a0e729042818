"""InfoReg: traces, windows and penalties against a separate slow training."""

from __future__ import annotations

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from equipoise.methods import create_method
from equipoise.methods.inforeg import mean_leads, still_grows
from equipoise.types import UnknownNameError, UsageError
from hand_run import HandRun, random_batch, same, small_model

THREE = ("audio", "video", "text")


def by_epoch(run, epochs):
    """Train with the hooks of a loop; `epochs` are lists of batches."""
    for batches in epochs:
        run.method.epoch_start(run)
        state = run.fit(batches)
        run.method.epoch_end(run)
        run.epoch += 1
    return state


def slices(model, z):
    """u^m in NumPy from the weights of a concatenating head."""
    weight, bias = (p.detach().numpy() for p in (model.fusion.linear.weight, model.fusion.linear.bias))
    out, offset = {}, 0
    for m in model.modalities:
        x = z[m].detach().numpy()
        out[m] = x @ weight[:, offset : offset + x.shape[1]].T + bias / len(z)
        offset += x.shape[1]
    return out


def slow_training(model, epochs, beta, threshold, unimodal=False):
    """The same training with SGD, momentum and weight decay, without the package's methods."""
    model = deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    traces = {m: [] for m in model.modalities}
    strengths = []
    for e, batches in enumerate(epochs):
        start = deepcopy(dict(model.named_parameters()))
        squares = {m: [] for m in model.modalities}
        for batch in batches:
            optimizer.zero_grad()
            z = {m: model.encoder_module(m)(batch.inputs[m]) for m in model.modalities}
            loss = F.cross_entropy(model.fuse(z), batch.target)
            if unimodal:
                bias = model.fusion.linear.bias / len(z)
                for m in z:
                    loss = loss + F.cross_entropy(z[m] @ model.head.weight(m).T + bias, batch.target)
            loss.backward()
            scores = {}
            for m, u in slices(model, z).items():
                p = np.exp(u) / np.exp(u).sum(1, keepdims=True)
                scores[m] = np.mean([np.log(p[i, y]) for i, y in enumerate(batch.target.tolist())])
            for m in model.modalities:
                own = model.encoder_parameters(m)
                squares[m].append(sum((p.grad.numpy() ** 2).sum() for _, p in own))
                weaker = [scores[n] for n in scores if scores[n] < scores[m]]
                last = traces[m][-2:]
                if e < 2 or not weaker or not (last[1] - last[0]) / last[1] > threshold:
                    continue
                delta = np.mean([scores[m] - s for s in weaker])
                a = math.exp(beta * math.tanh(delta))
                strengths.append(a)
                for name, p in own:
                    p.grad += a * (p.detach() - start[name].detach())
            optimizer.step()
        for m in traces:
            traces[m].append(np.mean(squares[m]))
    return dict(model.state_dict()), traces, strengths


def rising(model, epochs=5, steps=3):
    """Batches whose labels are the model's predictions in epoch 0 and wrong later: gradients grow."""
    with torch.no_grad():
        copy = deepcopy(model)
        known = [copy(random_batch(model, n=10, seed=100 + i)).logits.argmax(1) for i in range(steps)]
    out = []
    for e in range(epochs):
        batches = [random_batch(model, n=10, seed=100 + i) for i in range(steps)]
        for batch, y in zip(batches, known, strict=True):
            batch.target.copy_((y + (e + 1) // 2) % 3)
        out.append(batches)
    return out


@pytest.mark.parametrize("modalities", [("audio", "video"), ("video", "audio"), THREE])
@pytest.mark.parametrize("loss", ["joint", "joint+unimodal"])
def test_a_full_training_against_a_slow_one(modalities, loss):
    model = small_model(modalities)
    epochs = rising(model)
    expected, traces, strengths = slow_training(model, epochs, 0.9, 0.04, loss != "joint")
    run = HandRun(create_method("inforeg", {"loss": loss}), model)
    found = by_epoch(run, epochs)
    assert strengths
    assert all(1 <= a < math.exp(0.9) for a in strengths)
    assert max(strengths) > 1.1
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-8)
    for e, (kind, event) in enumerate(run.events):
        assert kind == "information"
        assert event["traces"] == pytest.approx({m: traces[m][e] for m in modalities}, rel=1e-9)


def test_windows_by_hand():
    assert not still_grows([], 0.04)
    assert not still_grows([1.0], 0.04)
    assert still_grows([1.0, 1.1], 0.04)
    assert not still_grows([1.0, 1.04], 0.04)  # grown by 0.0385 of the last
    assert not still_grows([1.0, 0.0], 0.0)  # no gradient any more
    assert not still_grows([0.0, 5.0], 1.0)  # the growth is at most the whole


def test_leads_by_hand():
    assert mean_leads({"a": -1.0, "b": -2.0}) == {"a": 1.0, "b": 0.0}
    assert mean_leads({"a": -1.0, "b": -2.0, "c": -4.0}) == {"a": 2.0, "b": 2.0, "c": 0.0}
    assert mean_leads({"a": -1.0, "b": -1.0}) == {"a": 0.0, "b": 0.0}


def open_run(modalities=("audio", "video"), **options):
    """A run in epoch 2 with open windows for all modalities."""
    model = small_model(modalities)
    run = HandRun(create_method("inforeg", options), model)
    run.method.load_state_dict({"traces": {m: [1.0, 2.0] for m in modalities}})
    run.epoch = 2
    run.method.epoch_start(run)
    return run


def plain(run, batch):
    joint = HandRun(create_method("joint"), deepcopy(run.model))
    return joint.gradients(batch)[0]


def test_no_penalty_for_the_first_batch_of_an_epoch_and_for_the_weakest_modality():
    run = open_run(THREE)
    first, second = random_batch(run.model, seed=1), random_batch(run.model, seed=2)
    expected = plain(run, first)
    assert same(run.gradients(first)[0], expected)
    run.fit([first])
    expected = plain(run, second)
    found, context = run.gradients(second)
    losses = {m: F.cross_entropy(u, second.target) for m, u in context.unimodal_logits().items()}
    weakest = max(losses, key=lambda m: losses[m].item())
    for m in THREE:
        names = [name for name, _ in run.model.encoder_parameters(m)]
        assert all(torch.equal(found[n], expected[n]) for n in names) == (m == weakest)
    for name, _ in run.model.fusion_parameters():
        assert torch.equal(found[name], expected[name])


def test_each_modality_has_its_own_window():
    model = small_model(THREE)
    run = HandRun(create_method("inforeg"), model)
    run.method.load_state_dict({"traces": {"audio": [1.0, 2.0], "video": [2.0, 1.0], "text": [1.0]}})
    run.epoch = 2
    run.method.epoch_start(run)
    run.fit([random_batch(model, seed=s) for s in range(2)])
    run.method.epoch_end(run)
    assert run.events[-1][1]["regulated"] == ["audio"]


def test_an_encoder_without_gradients_has_no_trace():
    model = small_model()
    model.encoder_module("audio").requires_grad_(False)
    run = HandRun(create_method("inforeg"), model)
    by_epoch(run, rising(model))
    assert run.method.state_dict()["traces"]["audio"] == []
    assert len(run.method.state_dict()["traces"]["video"]) == 2


def test_invalid_options_are_refused():
    for options in ({"beta": -1.0}, {"threshold": -0.1}, {"threshold": math.inf}):
        with pytest.raises(UsageError, match="is"):
            create_method("inforeg", options)
    create_method("inforeg", {"beta": 10.0})
    with pytest.raises(UsageError, match="beta is 10.1; expected a finite number from 0 to 10"):
        create_method("inforeg", {"beta": 10.1})  # exp(89) is infinite in single precision
    with pytest.raises(UnknownNameError, match="value of loss"):
        create_method("inforeg", {"loss": "unimodal"})
