"""Greedy: conditional learning speeds, and when a branch is curated."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import equipoise as eq
import synthetic
from equipoise.methods import StepContext, create_method
from equipoise.methods.greedy import Greedy, relative_speeds
from equipoise.methods.shared.gradients import squared_norm
from equipoise.models import MidFusionModel
from equipoise.models.build import build_fusion
from equipoise.models.encoders.mlp import MLP
from equipoise.types import Batch, UsageError
from hand_run import INPUT, HandRun, random_batch, same, small_model

TWO, THREE = ("audio", "video"), ("text", "audio", "video")
WIDTHS = {"audio": (6, 4), "video": (5, 8), "text": (4, 6)}


def built(modalities=TWO, seed=0, widths=WIDTHS):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoders = {m: MLP(INPUT, hidden=widths[m], dropout=0.0) for m in modalities}
        late = build_fusion("average", {m: widths[m][-1] for m in modalities}, 3, {"rule": "logit"}, seed)
        return MidFusionModel(encoders, late).double()


def started(modalities=TWO, seed=0, epoch=2, model=None, train=(), **options):
    run = HandRun(Greedy(**options), model or built(modalities, seed), train=train)
    run.epoch = epoch
    return run


def watch(run):
    """Record which branches are curated in every forward pass."""
    seen, original = [], run.model.encode

    def encode(*args, **kwargs):
        seen.append(run.model.blocks[0].curated)
        return original(*args, **kwargs)

    run.model.encode = encode
    return seen


def ratio(parameters):
    g = sum(float((p.grad.numpy() ** 2).sum()) for p in parameters if p.grad is not None)
    w = sum(float((p.detach().numpy() ** 2).sum()) for p in parameters)
    return g / w


@pytest.mark.parametrize("modalities", [TWO, THREE])
def test_speeds_over_several_steps(modalities):
    run = started(modalities, eps=1e9)
    main, by = dict.fromkeys(modalities, 0.0), dict.fromkeys(modalities, 0.0)
    for seed in range(3):
        run.gradients(random_batch(run.model, seed=seed))
        for i, m in enumerate(modalities):
            main[m] += ratio(list(run.model.encoders[m].parameters()))
            blocks = run.model.blocks
            by[m] += ratio(
                [p for b in blocks for part in (b.squeeze, b.excite[i]) for p in part.parameters()]
            )
    state = run.method.state_dict()
    assert state["main"] == pytest.approx(main, rel=1e-6)
    assert state["by"] == pytest.approx(by, rel=1e-6)
    expected = {m: math.log10(by[m] / main[m]) for m in modalities}
    assert relative_speeds(state["main"], state["by"]) == pytest.approx(expected, abs=1e-6)
    assert state["target"] is None


def test_norms():
    tensors = [torch.randn(3, 4), torch.randn(2).bfloat16()]
    expected = sum(float((x.double() ** 2).sum()) for x in tensors)
    assert float(squared_norm(tensors)) == pytest.approx(expected, rel=1e-6)
    assert float(squared_norm([])) == 0
    main, by = {"a": 0.0, "b": 1.0, "c": 1.0}, {"a": 1.0, "b": 100.0, "c": 0.0}
    assert relative_speeds(main, by) == pytest.approx({"b": 2})


@pytest.mark.parametrize("modalities", [TWO, THREE, THREE[::-1]])
def test_the_fastest_branch_is_curated_for_the_set_number_of_steps(modalities):
    run = started(modalities, eps=1e-6, window=3)
    seen = watch(run)
    data = [random_batch(built(modalities), seed=i) for i in range(9)]
    sums = []
    for batch in data:
        run.fit([batch])
        state = run.method.state_dict()
        sums.append((state["main"], state["by"]))
    first, second = sums[0], sums[4]
    targets = []
    for main, by in (first, second):
        d = {m: math.log10(by[m] / main[m]) for m in modalities}
        targets.append(max(d, key=d.__getitem__))
    assert seen == [None, *[targets[0]] * 3, None, *[targets[1]] * 3, None]
    assert all(state == first for state in sums[:4])  # speeds are not updated while a branch is curated
    assert second != first
    assert run.model.blocks[0].curated is None


@pytest.mark.parametrize("options", [{"eps": 1e9}, {"window": 0}, {"start_epoch": 3}, {"end_epoch": 1}])
def test_switched_off_it_is_the_plain_model(options):
    data = [random_batch(built(), seed=i) for i in range(4)]
    state = torch.get_rng_state()
    off = started(**({"eps": 0.0} | options)).fit(data)
    assert torch.equal(state, torch.get_rng_state())
    assert same(off, HandRun(create_method("joint"), built()).fit(data))
    assert not same(off, started(eps=0.0).fit(data))


def test_effect_of_curation():
    run = started(eps=0.0, window=2)
    run.fit([random_batch(run.model)])
    target = run.method.state_dict()["target"]
    other = next(m for m in TWO if m != target)
    means = [block.mean_gate(target).clone() for block in run.model.blocks]
    batch = random_batch(run.model, seed=4)
    run.gradients(batch)
    for block, mean in zip(run.model.blocks, means, strict=True):
        assert all(p.grad is None for p in block.excite_layer(target).parameters())
        assert torch.equal(block.mean_gate(target), mean)
        assert int(block.gate_count) == 1
    assert run.model.blocks[0].squeeze.weight.grad is not None
    # The branch computed separately: its own layers, and gates that are the same for all samples.
    encoder, x = run.model.encoder_module(target), batch.inputs[target]
    linears = [layer for layer in encoder.layers if isinstance(layer, torch.nn.Linear)]
    x.requires_grad_()
    for linear, mean in zip(linears, means, strict=True):
        x = linear(x).relu() * mean
    context = StepContext(run, batch)
    run.method.forward(context)
    torch.testing.assert_close(context.z[target], x)
    moved = Batch({**batch.inputs, other: batch.inputs[other] + 1}, batch.target, batch.index)
    again = StepContext(run, moved)
    run.method.forward(again)
    assert torch.equal(again.z[target], context.z[target])
    assert not torch.equal(again.z[other], context.z[other])


def test_evaluation_is_never_curated():
    run = started(eps=0.0)
    run.fit([random_batch(run.model)])
    assert run.method.state_dict()["left"] == 5
    model, batch = run.model.eval(), random_batch(run.model, seed=4)
    plain = built()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model(batch).logits, plain.eval()(batch).logits)


def test_after_a_failing_pass_no_branch_is_curated():
    run = started(eps=0.0)
    run.fit([random_batch(run.model)])
    with pytest.raises(Exception, match="misses the modality"):
        run.method.forward(StepContext(run, Batch({}, torch.zeros(0), torch.zeros(0))))
    assert run.model.blocks[0].curated is None


def test_the_end_of_the_window_ends_a_curation():
    run = started(eps=0.0, end_epoch=2)
    seen = watch(run)
    data = [random_batch(built(), seed=i) for i in range(4)]
    run.fit(data[:2])
    run.epoch = 3
    before = run.method.state_dict()["main"]
    run.fit(data[2:])
    assert seen[0] is None
    assert seen[1] in TWO
    assert seen[2:] == [None, None]
    assert run.method.state_dict()["main"] != before
    assert run.method.state_dict()["left"] == 0


def test_symmetric_branches_have_equal_speeds():
    model = built(widths={"audio": (6, 4), "video": (6, 4)})
    with torch.no_grad():
        model.encoders["video"].load_state_dict(model.encoders["audio"].state_dict())
        for part in (model.fusion.own.linears, *(block.excite for block in model.blocks)):
            part[1].load_state_dict(part[0].state_dict())
        for block in model.blocks:
            half = block.squeeze.in_features // 2
            block.squeeze.weight[:, half:] = block.squeeze.weight[:, :half]
    run = started(model=model, eps=1e-9)
    batch = random_batch(model)
    run.fit([Batch(dict.fromkeys(TWO, batch.inputs["audio"]), batch.target, batch.index)])
    state = run.method.state_dict()
    speeds = relative_speeds(state["main"], state["by"])
    assert abs(speeds["audio"] - speeds["video"]) < 1e-12
    assert state["target"] is None


@pytest.mark.parametrize("frozen", THREE)
def test_a_frozen_branch_is_not_compared(frozen):
    model = built(THREE)
    model.encoder_module(frozen).requires_grad_(False)
    run = started(THREE, model=model, eps=1e-6, window=1)
    for seed in range(4):
        run.fit([random_batch(model, seed=seed)])
        state = run.method.state_dict()
        assert state["main"][frozen] == state["by"][frozen] == 0
        learning = {m: math.log10(state["by"][m] / state["main"][m]) for m in THREE if m != frozen}
        assert state["target"] == max(learning, key=learning.__getitem__)


@pytest.mark.parametrize("when", ["from the start", "later"])
def test_with_one_trainable_branch_none_is_curated(when):
    model = built()
    run = started(model=model, eps=0.0 if when == "from the start" else 1e9)
    seen = watch(run)
    if when == "later":
        run.fit([random_batch(model, seed=7)])
        run.method.eps = 0.0
    model.encoder_module("audio").requires_grad_(False)
    data = [random_batch(model, seed=i) for i in range(3)]
    run.fit(data)
    assert set(seen) == {None}
    assert run.method.state_dict()["target"] is None


def test_frozen_blocks_are_ignored():
    model = built()
    model.block_list.requires_grad_(False)
    run = started(model=model, eps=0.0)
    run.fit([random_batch(model, seed=i) for i in range(3)])
    assert run.method.state_dict()["target"] is None


def test_the_loss_is_the_joint_one():
    run = started()
    _, context = run.gradients(random_batch(run.model))
    (term,) = run.method.losses(context).values()
    torch.testing.assert_close(term, F.cross_entropy(context.u, context.batch.target))


def test_it_resumes():
    data = [random_batch(built(), seed=i) for i in range(6)]
    options = {"eps": 1e-6, "window": 3}
    whole, first = started(**options), started(**options)
    expected = whole.fit(data)
    first.fit(data[:3])
    second = started(seed=3, **options)
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.method.load_state_dict(first.method.state_dict())
    assert same(second.fit(data[3:]), expected)
    assert second.method.state_dict() == whole.method.state_dict()


class Killed(Exception):
    pass


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    data = synthetic.write(tmp_path / "data").path
    settings = {
        "epochs": 3,
        "batch_size": 32,
        "checkpoint_every": 1,
        "diagnose_every": 0,
        "fusion": "mmtm",
        "method_options": {"start_epoch": 0},
    }

    def kill(epoch, _):
        if epoch == 1:
            raise Killed

    with pytest.raises(Killed):
        eq.fit(data, "greedy", out=tmp_path / "run", on_epoch=kill, **settings)
    resumed = eq.fit(data, "greedy", out=tmp_path / "run", resume=True, **settings)
    unbroken = eq.fit(data, "greedy", **settings)
    assert same(dict(resumed.model.state_dict()), dict(unbroken.model.state_dict()))
    assert resumed.test == unbroken.test
    plain = eq.fit(data, "joint", **(settings | {"method_options": {}}))
    off = eq.fit(data, "greedy", **(settings | {"method_options": {"window": 0}}))
    assert same(dict(plain.model.state_dict()), dict(off.model.state_dict()))
    assert not same(dict(plain.model.state_dict()), dict(unbroken.model.state_dict()))


def test_invalid_options_are_refused():
    for options in ({"eps": -0.1}, {"eps": np.inf}, {"window": -1}):
        with pytest.raises(UsageError, match=next(iter(options))):
            Greedy(**options)
    with pytest.raises(UsageError, match="choose the fusion 'mmtm'"):
        Greedy().check(small_model())
    Greedy().check(built(THREE))
