"""Valuation: contributions over all orders, copies, the samples served, and which parameters they train."""

from __future__ import annotations

import math
from collections import Counter
from copy import deepcopy
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import equipoise as eq
import synthetic
from equipoise.methods import StepContext, create_method
from equipoise.methods.valuation import (
    ModalityValuation,
    SampleValuation,
    contributions,
    copy_counts,
    copy_rate,
)
from equipoise.types import Batch, UnknownNameError, UsageError
from hand_run import CLASSES, HandRun, pieces, random_batch, same, small_model
from interrupted import fit_with_and_without_break

KINDS = (SampleValuation, ModalityValuation)


def started(kind=SampleValuation, modalities=("audio", "video"), epochs=6, model=None, count=50, **options):
    options = {"warmup": 2} | options
    model = model or small_model(modalities)
    whole = random_batch(model, count)
    if "audio" in whole.inputs:  # the only informative modality
        whole.inputs["audio"][:, :CLASSES] += 3 * F.one_hot(whole.target, CLASSES)
    return HandRun(kind(**options), model, train=pieces(whole, 16), epochs=epochs)


def epochs(run, first, last):
    served = []
    for epoch in range(first, last):
        run.epoch = epoch
        run.model.train()
        run.method.epoch_start(run)
        batches = list(run.method.train_data(run.train, run))
        run.fit(batches)
        run.method.epoch_end(run)
        served.append(batches)
    return served


def slow_contributions(model, batch):
    """Mean gain of each modality over all orders of modalities."""
    state = model.training
    model.eval()
    with torch.no_grad():
        z = model.encode(batch)
        right = {}
        for bits in range(1, 2 ** len(z)):
            chosen = frozenset(m for i, m in enumerate(model.modalities) if bits >> i & 1)
            features = {m: z[m] if m in chosen else torch.zeros_like(z[m]) for m in z}
            right[chosen] = (model.fuse(features).argmax(1) == batch.target).numpy()
    model.train(state)
    phi = {m: np.zeros(len(batch)) for m in model.modalities}
    orders = list(permutations(model.modalities))
    for order in orders:
        for i in range(len(batch)):
            value, present = 0, frozenset()
            for m in order:
                present |= {m}
                new = len(present) * int(right[present][i])
                phi[m][i] += (new - value) / len(orders)
                value = new
    return phi, right


@pytest.mark.parametrize("fusion", ["concat", "gated"])
@pytest.mark.parametrize("modalities", [("audio", "video"), ("audio", "video", "text"), ("b", "a")])
def test_contributions_by_enumeration(fusion, modalities):
    width = None if set(modalities) <= {"audio", "video", "text"} else 5
    run = started(modalities=modalities, model=small_model(modalities, fusion, width=width))
    whole = run.take(list(range(50)))
    run.model.train()
    state = deepcopy(dict(run.model.state_dict()))
    found = contributions(run, run.train_eval)
    assert same(state, dict(run.model.state_dict()))
    assert all(module.training for module in run.model.modules())
    expected, right = slow_contributions(run.model, whole)
    for m in modalities:
        np.testing.assert_allclose(found[m].numpy(), expected[m], atol=1e-9)
    everything = len(modalities) * right[frozenset(modalities)]
    np.testing.assert_allclose(sum(found.values()).numpy(), everything, atol=1e-9)
    assert len({tuple(found[m].tolist()) for m in modalities}) > 1
    if len(modalities) == 2:
        assert set(torch.cat(list(found.values())).tolist()) <= {-0.5, 0.0, 0.5, 1.0, 1.5}


def test_number_of_copies():
    phi = torch.tensor([1.5, 1.0, 1 - 1e-9, 0.5, 0.41, 0.0, -0.09, -0.5, -2.0], dtype=torch.float64)
    assert copy_counts(phi).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("modalities", [("audio", "video"), ("audio", "video", "text")])
def test_samples_are_copied_according_to_their_contributions(modalities):
    run = started(modalities=modalities)
    epochs(run, 0, 2)
    phi, right = slow_contributions(run.model, run.take(list(range(50))))
    wanted = Counter()
    for place, m in enumerate(modalities):
        for i, value in enumerate(phi[m]):
            wanted[i, place] = 3 if value < -0.1 else 2 if value < 0.4 else 1 if value < 0.999 else 0
    copies = Counter(tuple(row) for row in run.method.copies(run).tolist())
    assert copies == +wanted
    always = [i for i in range(50) if all(r[i] for r in right.values())]
    assert not any(i in always for i, _ in copies)
    ((kind, event), *_) = run.events
    assert kind == "valuation"
    assert event["copies"] == sum(wanted.values())
    assert event["contributions"] == pytest.approx({m: phi[m].mean() for m in modalities})


def test_samples_that_every_subset_classifies_are_not_copied():
    run = started(modalities=("audio", "video", "text"))
    for p in run.model.fusion.parameters():
        p.data.zero_()
    run.model.fusion.linear.bias.data[0] = 1.0  # always predicts the first class
    copied = {row for row, _ in run.method.copies(run).tolist()}
    target = run.take(list(range(50))).target
    assert copied == {i for i in range(50) if target[i] != 0}


def test_rates():
    means = {"a": 0.9, "b": 0.3}
    assert copy_rate(means, 1.0, "linear") == pytest.approx(0.4)
    assert copy_rate(means, 0.5, "linear") == pytest.approx(0.2)
    assert copy_rate(means, 0.5, "tanh") == pytest.approx(math.tanh(0.2))
    assert copy_rate(means, 0.5, "power") == pytest.approx(0.5 * 0.4**1.5)
    for rate in ("linear", "tanh", "power"):
        assert copy_rate({"a": 0.7, "b": 0.7, "c": 0.7}, 1.0, rate) == 0
    assert copy_rate({"a": 0.9, "b": 0.3, "c": 0.5}, 1.0, "linear") == pytest.approx(2 / 3 * (0.7 - 0.3))


@pytest.mark.parametrize("rate", ["linear", "tanh", "power"])
@pytest.mark.parametrize("count", [2, 3, 6, 7])
def test_equal_contributions_of_many_modalities_copy_nothing(rate, count):
    # The sum of six equal numbers may be less than six times the number.
    for k in range(1, 91):
        assert copy_rate({str(m): k / 60 for m in range(count)}, 1.0, rate) == 0


def test_only_the_requested_rate_is_computed(monkeypatch):
    called = []
    monkeypatch.setattr(math, "pow", lambda *_: called.append("power") or 0.0)
    monkeypatch.setattr(math, "tanh", lambda *_: called.append("tanh") or 0.0)
    for rate in ("linear", "tanh", "power"):
        copy_rate({"a": 0.9, "b": 0.3}, 1.0, rate)
    assert called == ["tanh", "power"]


def test_without_copies_the_data_do_not_change(tmp_path: Path):
    assert ModalityValuation().changes_data()
    assert SampleValuation().changes_data()
    assert not ModalityValuation(alpha=0.0).changes_data()
    synthetic.write(tmp_path / "data", count=90)
    settings = {"epochs": 3, "batch_size": 16, "diagnose_every": 0}
    options = {"alpha": 0.0, "warmup": 1}
    off = eq.fit(tmp_path / "data", "modality-valuation", method_options=options, **settings)
    joint = eq.fit(tmp_path / "data", "joint", **settings)
    assert off.summary["train_data"] == joint.summary["train_data"] == "as served"
    assert off.summary["order_fingerprint"] == joint.summary["order_fingerprint"]
    assert same(dict(off.model.state_dict()), dict(joint.model.state_dict()))


@pytest.mark.parametrize("modalities", [("audio", "video"), ("video", "audio"), ("text", "audio", "video")])
@pytest.mark.parametrize("part_ratio", [1.0, 0.4])
def test_the_modality_with_the_lowest_contribution_is_copied(modalities, part_ratio):
    run = started(ModalityValuation, modalities, part=part_ratio)
    epochs(run, 0, 1)
    state = run.generator.get_state()
    copies = run.method.copies(run)
    run.generator.set_state(state)
    drawn = torch.randperm(50, generator=run.generator)[: int(part_ratio * 50)]
    phi, _ = slow_contributions(run.model, run.take(drawn.tolist()))
    means = {m: phi[m].mean() for m in modalities}
    lowest = min(means, key=means.get)
    others = [v for m, v in means.items() if m != lowest]
    assert lowest != "audio"
    assert len(copies) == int(2 / 3 * (sum(others) / len(others) - means[lowest]) * 50) > 0
    assert set(copies[:, 1].tolist()) == {modalities.index(lowest)}
    assert run.events[-1][1]["contributions"] == pytest.approx(means)


def test_equal_modalities_are_not_copied():
    run = started(ModalityValuation, warmup=1)
    run.model.fusion.linear.weight.data.zero_()
    assert len(run.method.copies(run)) == 0
    assert run.method.train_data(run.train, run) is run.train


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", ["epochs", "fixed-steps"])
def test_served_samples(kind, budget):
    run = started(kind, ("audio", "video", "text"), budget=budget, warmup=1)
    run.method._copies = torch.tensor([[3, 0], [3, 0], [7, 2], [49, 1], *[[i, i % 3] for i in range(40)]])
    batches = list(run.method.train_data(run.train, run))
    seen = Counter()
    for batch in batches:
        again = run.take(batch.index.tolist())
        assert torch.equal(batch.target, again.target)
        assert same(batch.inputs, again.inputs)
        for i, row in enumerate(batch.index.tolist()):
            kept = [m for m in ("audio", "video", "text") if batch.keep[m][i]]
            assert len(kept) in (1, 3)
            seen[row, kept[0] if len(kept) == 1 else "all"] += 1
    wanted = Counter({(i, "all"): 1 for i in range(50)})
    wanted += Counter((p, ("audio", "video", "text")[m]) for p, m in run.method._copies.tolist())
    if budget == "epochs":
        assert seen == wanted
        assert max(map(len, batches)) <= 16
    else:
        assert seen <= wanted
        assert sum(seen.values()) == 50
        assert len(batches) == len(run.train)
        assert 10 < sum(n for (_, kept), n in seen.items() if kept != "all") < 40
    mixed = [
        0 < sum(int(batch.keep["audio"][i]) for i in range(len(batch))) < len(batch) for batch in batches
    ]
    assert sum(mixed) > len(batches) / 2
    again = list(run.method.train_data(run.train, run))
    assert [b.index.tolist() for b in again] != [
        b.index.tolist() for b in batches
    ]  # a different order each epoch


def test_dropped_modalities_are_zero_and_do_not_train_their_encoder():
    run = started()
    batch = random_batch(run.model)
    n = torch.arange(12)
    keep = {"audio": n % 3 != 0, "video": n % 3 != 1}
    marked = Batch(batch.inputs, batch.target, batch.index, keep)
    gradients, context = run.gradients(marked)
    z = run.model.encode(batch)
    for m in z:
        assert not context.z[m][~keep[m]].any()
        assert torch.allclose(context.z[m][keep[m]], z[m][keep[m]])
    run.model.zero_grad()
    zeroed = {m: z[m] * keep[m].double()[:, None] for m in z}
    F.cross_entropy(run.model.fuse(zeroed), batch.target).backward()
    for name, p in run.model.named_parameters():
        torch.testing.assert_close(gradients[name], p.grad, rtol=0, atol=1e-9)
    plain = StepContext(run, batch)
    assert run.method.edit_features(z, plain) is z


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sample-valuation", {"warmup": 3}),
        ("modality-valuation", {"warmup": 3}),
        ("modality-valuation", {"warmup": 1, "alpha": 0.0}),
    ],
)
def test_before_the_first_copies_it_is_joint_training_bit_for_bit(name, options):
    stream = torch.get_rng_state()
    run = started(type(create_method(name)), **options)
    own = run.generator.get_state()
    epochs(run, 0, 2)
    model = small_model()
    joint = HandRun(create_method("joint"), model, train=run.train)
    for _ in range(2):
        model.train()
        joint.fit(run.train)
    assert same(dict(run.model.state_dict()), dict(model.state_dict()))
    assert torch.equal(stream, torch.get_rng_state())
    assert torch.equal(own, run.generator.get_state())


@pytest.mark.parametrize("kind", KINDS)
def test_copies_start_after_the_warm_up(kind):
    run = started(kind, epochs=5, warmup=3)
    served = epochs(run, 0, 5)
    assert [batches == run.train for batches in served] == [True, True, True, False, False]
    valued = sum(kind == "valuation" for kind, _ in run.events)
    assert valued == 2  # no training follows the last epoch


def test_the_order_of_modalities_does_not_change_the_samples():
    run = started()
    turned = started(modalities=("video", "audio"))
    for m in ("audio", "video"):
        turned.model.encoder_module(m).load_state_dict(run.model.encoder_module(m).state_dict())
        turned.model.head.weight(m).data.copy_(run.model.head.weight(m))
    turned.model.fusion.linear.bias.data.copy_(run.model.fusion.linear.bias.data)
    turned.train = turned.train_eval = run.train
    one = Counter((p, ("audio", "video")[m]) for p, m in run.method.copies(run).tolist())
    two = Counter((p, ("video", "audio")[m]) for p, m in turned.method.copies(turned).tolist())
    assert one == two
    assert one


@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_run_equals_an_uninterrupted_one(kind):
    whole, half, new = started(kind), started(kind), started(kind)
    epochs(whole, 0, 5)
    epochs(half, 0, 3)
    assert len(half.method._copies)
    new.restore(half)
    epochs(new, 3, 5)
    assert same(dict(new.model.state_dict()), dict(whole.model.state_dict()))
    assert torch.equal(new.method._copies, whole.method._copies)


@pytest.mark.parametrize("name", ["sample-valuation", "modality-valuation"])
def test_it_resumes_in_the_trainer(name, tmp_path: Path):
    synthetic.write(tmp_path / "data", count=120)
    options = {"warmup": 1, "budget": "fixed-steps"} | ({"alpha": 3.0} if name.startswith("modality") else {})
    settings = {"epochs": 5, "batch_size": 16, "lr": 0.01}  # small: otherwise the first epoch is the best
    whole = fit_with_and_without_break(
        tmp_path / "data", name, tmp_path / "run", killed_after=3, method_options=options, **settings
    )
    joint = eq.fit(tmp_path / "data", "joint", diagnose_every=0, **settings)
    assert not same(dict(whole.model.state_dict()), dict(joint.model.state_dict()))
    assert whole.summary["backward_samples"] == joint.summary["backward_samples"]  # the budget is the same
    share = 1.0 if name.startswith("sample") else 0.2
    extra = whole.summary["forward_samples"] - joint.summary["forward_samples"]
    train = joint.summary["split_sizes"]["train"]
    assert extra == 4 * int(share * train)


def test_too_few_epochs_give_a_warning():
    class Plan:
        epochs, optimizer = 5, "sgd"

    assert "warm-up" in SampleValuation().problems(Plan())[0]
    assert SampleValuation(warmup=4).problems(Plan()) == []


@pytest.mark.parametrize("name", ["sample-valuation", "modality-valuation"])
def test_invalid_options_are_refused(name):
    with pytest.raises(UsageError):
        create_method(name, {"warmup": 0})
    with pytest.raises(UnknownNameError, match="fixed-steps"):
        create_method(name, {"budget": "steps"})
    with pytest.raises(UsageError, match="at least 2"):
        create_method(name).check(small_model(("audio",)))


@pytest.mark.parametrize("options", [{"alpha": -1.0}, {"part": 0.0}, {"part": 1.1}, {"rate": "square"}])
def test_invalid_options_of_the_modality_level_are_refused(options):
    with pytest.raises(UsageError):
        create_method("modality-valuation", options)
