"""CML: subsets, their losses and increases of confidence against loops over samples."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from equipoise.methods import StepContext, create_method
from equipoise.methods.cml import confidence_rise
from equipoise.types import UnknownNameError, UsageError
from hand_run import HandRun, random_batch, small_model

BOTH, THREE, FOUR = ("audio", "video"), ("audio", "video", "text"), ("audio", "video", "text", "touch")


def softmax(row):
    e = [math.exp(value - max(row)) for value in row]
    return [value / sum(e) for value in e]


def slow_rise(logits, y):
    total = 0.0
    for larger, smaller in pairwise(logits):
        for a, b, k in zip(larger, smaller, y, strict=True):
            forgiven = int(np.argmax(b)) == k and int(np.argmax(a)) != k
            rise = max(softmax(b)) - max(softmax(a))
            total += 0.0 if forgiven else max(rise, 0.0) / len(y)
    return total


def ordered(run, seed=0):
    """The order in which the method removes modalities, drawn from the random stream that it will use."""
    generator = torch.Generator()
    generator.set_state(run.generator.get_state())
    names = sorted(run.model.modalities)
    return [names[i] for i in torch.randperm(len(names), generator=generator).tolist()]


def step(options, modalities=BOTH, seed=1, **model_options):
    model = small_model(modalities, **model_options)
    run = HandRun(create_method("cml", options), model)
    order = ordered(run)
    context = StepContext(run, random_batch(model, 20, seed))
    run.method.forward(context)
    return run.method.losses(context), context, order


def subsets(context, order):
    """Logits of the nested subsets with a concatenating head, which keep the full bias."""
    model = context.run.model
    u, out = context.u.detach().numpy(), []
    for gone in range(len(order)):
        parts = [context.z[m] @ model.head.weight(m).T for m in order[:gone]]
        out.append(u - sum(part.detach().numpy() for part in parts))
    return out


@pytest.mark.parametrize("modalities", [BOTH, THREE, FOUR])
def test_losses_against_a_loop(modalities):
    terms, context, order = step({"lam": 0.7}, modalities)
    logits, y = subsets(context, order), context.batch.target.tolist()
    nll = [-math.log(softmax(row)[k]) for u in logits for row, k in zip(u, y, strict=True)]
    assert list(terms) == ["subsets", "confidence"]
    assert terms["subsets"].item() == pytest.approx(sum(nll) / len(nll), abs=1e-6)
    assert terms["confidence"].item() == pytest.approx(0.7 * slow_rise(logits, y), abs=1e-6)
    assert slow_rise(logits, y) > 1e-3


@pytest.mark.parametrize("fusion", ["concat", "gated"])
def test_gradients_against_separate_forward_passes(fusion):
    options = {"lam": 2.0}
    model = small_model(THREE, fusion)
    run = HandRun(create_method("cml", options), model)
    order, batch = ordered(run), random_batch(model, 20)
    gradients, _ = run.gradients(batch)
    again = small_model(THREE, fusion)
    z = {m: again.encoder_module(m)(batch.inputs[m]) for m in THREE}
    logits = [again.fuse({m: x * float(m not in order[:gone]) for m, x in z.items()}) for gone in range(3)]
    loss = sum(torch.nn.functional.cross_entropy(u, batch.target) for u in logits) / 3
    for larger, smaller in pairwise(logits):
        for a, b, k in zip(larger, smaller, batch.target.tolist(), strict=True):
            if int(b.argmax()) == k and int(a.argmax()) != k:
                continue
            rise = b.softmax(0).max() - a.softmax(0).max()
            if rise > 0:
                loss = loss + 2.0 * rise / len(batch)
    loss.backward()
    for name, p in again.named_parameters():
        torch.testing.assert_close(gradients[name], p.grad, atol=1e-8, rtol=0)


def logits_of(rows):
    return torch.tensor(rows, dtype=torch.float64).log()


def test_rises_by_hand():
    y = torch.tensor([0, 0, 0, 0])
    larger = logits_of([[0.6, 0.4], [0.6, 0.4], [0.4, 0.6], [0.4, 0.6]])
    smaller = logits_of([[0.9, 0.1], [0.55, 0.45], [0.9, 0.1], [0.2, 0.8]])
    # A rise of 0.3; a fall, which costs nothing; a rise that corrects a mistake; a rise of 0.2, still wrong.
    assert confidence_rise([larger, smaller], y).item() == pytest.approx((0.3 + 0.2) / 4, abs=1e-9)
    falling = [logits_of([[p, 1 - p]]) for p in (0.9, 0.8, 0.7)]
    assert confidence_rise(falling, torch.tensor([0])).item() == 0
    order = torch.tensor([2, 0, 3, 1])
    assert confidence_rise([larger[order], smaller[order]], y).item() == pytest.approx(0.125, abs=1e-9)


def test_detaching_the_larger_subset_where_both_are_wrong():
    y = torch.tensor([0, 0, 0])
    # Rises of 0.3, 0.2 and 0.3: both subsets correct, both wrong, only the larger one correct.
    rows = ([[0.6, 0.4], [0.4, 0.6], [0.6, 0.4]], [[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]])
    for detach in (False, True):
        larger, smaller = (logits_of(part).requires_grad_() for part in rows)
        loss = confidence_rise([larger, smaller], y, detach)
        assert loss.item() == pytest.approx(0.8 / 3, abs=1e-9)
        loss.backward()
        assert (larger.grad.abs().sum(1) > 0).tolist() == [True, not detach, True]
        assert (smaller.grad.abs().sum(1) > 0).all()
    terms = [step({"detach_larger": detach})[0]["confidence"].item() for detach in (False, True)]
    assert terms[0] == terms[1]


def test_zeroed_inputs_replace_zeroed_features_on_request():
    terms, context, order = step({"absence": "zero-input", "lam": 1.0}, THREE)
    model, batch = context.run.model, context.batch
    with torch.no_grad():
        model.eval()
        empty = {m: model.encoder_module(m)(torch.zeros_like(x)) for m, x in batch.inputs.items()}
        model.train()
        logits = [
            model.fuse({m: empty[m] if m in order[:gone] else context.z[m] for m in THREE}).numpy()
            for gone in range(3)
        ]
    assert terms["confidence"].item() == pytest.approx(slow_rise(logits, batch.target.tolist()), abs=1e-6)
    other, _, _ = step({"absence": "zero-feature", "lam": 1.0}, THREE)
    assert other["confidence"].item() != terms["confidence"].item()


def test_each_modality_is_removed_first_in_turn():
    model = small_model(THREE)
    run = HandRun(create_method("cml"), model)
    first = set()
    for seed in range(30):
        first.add(tuple(ordered(run)))
        run.fit([random_batch(model, seed=seed)])
    assert len(first) == 6


def test_terms_that_are_switched_off():
    terms, context, order = step({"lam": 0.0})
    assert list(terms) == ["subsets"]
    y = context.batch.target.tolist()
    nll = [-math.log(softmax(row)[k]) for u in subsets(context, order) for row, k in zip(u, y, strict=True)]
    assert terms["subsets"].item() == pytest.approx(sum(nll) / len(nll), abs=1e-6)
    terms, context, _ = step({"lam": 0.5, "subset_losses": False})
    joint = torch.nn.functional.cross_entropy(context.u, context.batch.target)
    assert terms["subsets"].item() == joint.item()
    assert "confidence" in terms


def test_options():
    assert create_method("cml").replaces_loss
    with pytest.raises(UnknownNameError, match="value of absence"):
        create_method("cml", {"absence": "noise"})
    with pytest.raises(UsageError, match="lam is"):
        create_method("cml", {"lam": -0.1})
    with pytest.raises(UsageError, match="at least 2 modalities"):
        create_method("cml").check(small_model(("audio",)))
