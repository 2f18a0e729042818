"""MLA: alternating steps and projected gradients against a slow computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import equipoise as eq
import synthetic
from equipoise.methods import StepContext, create_method
from equipoise.methods.mla import MLA, absorb
from equipoise.models import MidFusionModel, MultimodalModel, build_model
from equipoise.types import UnknownNameError, UsageError
from hand_run import HandRun, drawn, random_batch, same, small_model
from interrupted import fit_with_and_without_break

TWO, THREE = ("audio", "video"), ("text", "audio", "video")


def built(method, modalities=TWO, seed=0, width=None):
    return drawn(method, small_model(modalities, seed=seed, width=width), seed)


def started(modalities=TWO, width=None, optimizer=None, train=(), **options):
    method = MLA(**options)
    model = built(method, modalities, width=width)
    kind = None if optimizer is None else optimizer(model.parameters(), lr=0.05, weight_decay=0.1)
    return HandRun(method, model, optimizer=kind, train=train)


def slow_fit(run, data, *, project=True, memory="others", order=None, per_epoch=1):
    """Train as `HandRun` does with plain loops, one optimiser per part so that idle parts do not change."""
    model, fusion = run.model, run.model.fusion
    d = fusion.width
    head = list(fusion.classifier.parameters())
    encoders = {
        m: [
            *model.encoder_module(m).parameters(),
            *fusion.projections[model.modalities.index(m)].parameters(),
        ]
        for m in model.modalities
    }
    rule = dict(lr=0.1, momentum=0.9, weight_decay=1e-3)
    steppers = {m: torch.optim.SGD(ps, **rule) for m, ps in encoders.items()}
    head_stepper = torch.optim.SGD(head, **rule)
    keys = model.modalities if memory == "others" else ("all",)
    p = {m: np.eye(d) for m in keys}
    for j, batch in enumerate(data):
        a = 0.1 ** (1 + j % per_epoch / per_epoch)
        for m in order or model.modalities:
            x = fusion.projections[model.modalities.index(m)](model.encoder_module(m)(batch.inputs[m]))
            model.zero_grad()
            F.cross_entropy(fusion.classifier(x), batch.target).backward()
            if project:
                weight = fusion.classifier.weight
                weight.grad = torch.tensor(weight.grad.numpy() @ p[m if memory == "others" else "all"])
                r = x.detach().numpy().mean(0)[:, None]
                for key in keys:
                    if key != m:
                        k = p[key] @ r
                        p[key] = p[key] - k @ k.T / (a + (r.T @ p[key] @ r).item())
            steppers[m].step()
            head_stepper.step()
    return p


@pytest.mark.parametrize("memory", ["others", "all"])
@pytest.mark.parametrize(("modalities", "width"), [(TWO, 5), (THREE, None)])
def test_training_against_a_plain_loop(modalities, width, memory):
    data = [random_batch(small_model(modalities), seed=i) for i in range(3)]
    run, slow = (started(modalities, width, train=data, memory=memory) for _ in range(2))
    for _ in range(2):
        run.method.epoch_start(run)
        run.fit(data)
    p = slow_fit(slow, [*data, *data], memory=memory, per_epoch=3)
    np.testing.assert_allclose(run.method.state_dict()["p"], np.stack(list(p.values())), atol=1e-9)
    for (name, ours), theirs in zip(run.model.named_parameters(), slow.model.parameters(), strict=True):
        np.testing.assert_allclose(ours.detach(), theirs.detach(), atol=1e-6, err_msg=name)


def test_the_released_variant_projects_nothing():
    data = [random_batch(small_model(), seed=i) for i in range(3)]
    run, slow, projected = started(projection="none"), started(), started()
    run.fit(data)
    slow_fit(slow, data, project=False)
    for ours, theirs in zip(run.model.parameters(), slow.model.parameters(), strict=True):
        np.testing.assert_allclose(ours.detach(), theirs.detach(), atol=1e-6)
    assert not same(projected.fit(data), dict(run.model.state_dict()))
    assert "p" not in run.method.state_dict()


def test_the_first_step_is_not_projected():
    def first(projection):
        run = started(projection=projection)
        run.method.standard_step(StepContext(run, random_batch(run.model), active=("audio",)))
        return dict(run.model.state_dict())

    assert same(first("rls"), first("none"))


def test_the_order_is_an_option():
    data = [random_batch(small_model(THREE), seed=i) for i in range(2)]
    order = ["video", "text", "audio"]
    run, slow = started(THREE, order=order, train=data), started(THREE)
    run.fit(data)
    slow_fit(slow, data, order=order, per_epoch=2)
    for ours, theirs in zip(run.model.parameters(), slow.model.parameters(), strict=True):
        np.testing.assert_allclose(ours.detach(), theirs.detach(), atol=1e-6)
    assert not same(started(THREE).fit(data), dict(run.model.state_dict()))


@pytest.mark.parametrize("optimizer", [None, torch.optim.AdamW])
def test_a_step_does_not_change_the_other_encoders(optimizer):
    run = started(THREE, optimizer=optimizer)
    run.fit([random_batch(run.model)])  # so that momenta and moments exist
    for m in THREE:
        before = {name: value.clone() for name, value in run.model.state_dict().items()}
        run.method.standard_step(StepContext(run, random_batch(run.model, seed=5), active=(m,)))
        after = run.model.state_dict()
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        mine = THREE.index(m)
        assert f"encoders.{m}.last.weight" in moved
        assert f"encoders.{m}.norm.running_mean" in moved
        assert "fusion.classifier.weight" in moved
        others = [i for i in range(3) if i != mine]
        strangers = [f"encoders.{THREE[i]}." for i in others] + [f"fusion.projections.{i}." for i in others]
        assert not [name for name in moved if name.startswith(tuple(strangers))]


def test_absorbed_features():
    generator = torch.Generator().manual_seed(0)
    p = torch.eye(6, dtype=torch.float64)
    for _ in range(200):
        p = absorb(p, torch.randn(6, generator=generator, dtype=torch.float64), 0.1)
        assert torch.equal(p, p.T)
        values = torch.linalg.eigvalsh(p)
        assert 0 < float(values.min()) <= float(values.max()) <= 1 + 1e-12
    r = torch.randn(6, generator=generator, dtype=torch.float64)
    assert float((absorb(torch.eye(6).double(), r, 1e-12) @ r).norm()) < 1e-9
    q = absorb(torch.eye(6).double(), r, 0.1)
    inverse = np.linalg.inv(np.eye(6) + np.outer(r, r) / 0.1)
    np.testing.assert_allclose(q, inverse, atol=1e-9)


def test_training_does_not_change_p():
    run = started(train=[random_batch(small_model())])
    run.fit([random_batch(run.model, seed=i) for i in range(20)])
    for p in run.method.state_dict()["p"]:
        assert torch.equal(p, p.T)
        values = torch.linalg.eigvalsh(p)
        assert 0 < float(values.min()) <= float(values.max()) <= 1 + 1e-9
        assert float(values.min()) < 0.9


def test_a_reset_clears_p():
    run = started(reset=True)
    run.fit([random_batch(run.model)])
    assert not torch.equal(run.method.state_dict()["p"][0], torch.eye(6, dtype=torch.float64))
    run.method.epoch_start(run)
    assert torch.equal(run.method.state_dict()["p"][0], torch.eye(6, dtype=torch.float64))
    kept = started()
    kept.fit([random_batch(kept.model)])
    kept.method.epoch_start(kept)
    assert not torch.equal(kept.method.state_dict()["p"][0], torch.eye(6, dtype=torch.float64))


def test_one_modality_is_unimodal_training():
    data = [random_batch(small_model(("audio",)), seed=i) for i in range(3)]
    ours = started(("audio",), projection="none")
    alone = create_method("unimodal:audio")
    model = alone.build(small_model(("audio",))).double()
    model.fusion.linear.load_state_dict(ours.model.fusion.classifier.state_dict())
    theirs = HandRun(alone, model).fit(data)
    mine = ours.fit(data)
    for name, value in mine.items():
        assert torch.equal(value, theirs[name.replace("classifier", "linear")]), name
    torch.testing.assert_close(ours.model(data[0]).logits, model(data[0]).logits)


def test_inference_weights_each_sample_separately():
    model = built(MLA(), THREE).eval()
    batch = random_batch(model)
    z, u = model.encode(batch), model(batch).logits.detach().numpy()
    parts = np.stack([model.fusion.own_logits(m, z[m]).detach().numpy() for m in THREE])
    for i in range(len(batch)):
        p = np.exp(parts[:, i]) / np.exp(parts[:, i]).sum(1, keepdims=True)
        e = -(p * np.log(p)).sum(1)
        omega = np.exp(-e) / np.exp(-e).sum()
        np.testing.assert_allclose(u[i], (omega[:, None] * parts[:, i]).sum(0), atol=1e-6)
    half = {m: x[:5] for m, x in z.items()}
    torch.testing.assert_close(model.fuse(half), model.fuse(z)[:5])


def test_equal_entropies_give_the_mean():
    model = built(MLA(), width=5)
    x = torch.randn(4, 5, dtype=torch.float64)
    with torch.no_grad():
        model.fusion.classifier.weight.copy_(torch.eye(3, 5))
        model.fusion.classifier.bias.zero_()
    z = {"audio": x, "video": x[:, [1, 2, 0, 3, 4]]}
    mean = (z["audio"][:, :3] + z["video"][:, :3]) / 2
    torch.testing.assert_close(model.fuse(z), mean)


def test_fixed_weights():
    method = MLA(weights={"video": 0.5, "text": 1.0, "audio": 0.5})
    model = built(method, THREE).eval()
    z = model.encode(random_batch(model))
    parts = {m: model.fusion.own_logits(m, z[m]) for m in THREE}
    expected = 0.5 * parts["text"] + 0.25 * parts["audio"] + 0.25 * parts["video"]
    torch.testing.assert_close(model.fuse(z), expected)
    HandRun(method, model.train()).fit([random_batch(model)])


def test_the_model_order_does_not_matter_if_an_order_is_set():
    order = ["audio", "video", "text"]
    one, two = (started(m, width=5, order=order) for m in (THREE, THREE[::-1]))
    for m in THREE:
        two.model.encoder_module(m).load_state_dict(one.model.encoder_module(m).state_dict())
    data = [random_batch(one.model, seed=i) for i in range(3)]
    one.fit(data)
    two.fit(data)
    for m in THREE:
        pairs = zip(
            one.model.encoder_module(m).parameters(), two.model.encoder_module(m).parameters(), strict=True
        )
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs)


def test_global_random_streams_are_unchanged_and_runs_resume():
    data = [random_batch(small_model(), seed=i) for i in range(4)]
    whole, first = started(train=data[:2]), started(train=data[:2])
    state, own = torch.get_rng_state(), whole.generator.get_state()

    def epoch(run, number):
        run.epoch = number
        run.method.epoch_start(run)
        return run.fit(data[2 * number : 2 * number + 2])

    epoch(whole, 0)
    expected = epoch(whole, 1)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(own, whole.generator.get_state())
    epoch(first, 0)
    second = HandRun(MLA(), built(MLA(), seed=3), train=data[:2])
    second.restore(first)
    assert same(epoch(second, 1), expected)
    assert same(
        {"p": second.method.state_dict()["p"]},
        {"p": whole.method.state_dict()["p"]},
    )


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    data = synthetic.write(tmp_path / "data").path
    settings = {"epochs": 3, "batch_size": 32}
    whole = fit_with_and_without_break(data, "mla", tmp_path / "run", killed_after=1, **settings)
    joint = eq.fit(data, "joint", diagnose_every=0, **settings)
    assert whole.summary["forward_samples"] == joint.summary["forward_samples"]


def test_blocks_of_intermediate_fusion_are_removed():
    shapes = dict.fromkeys(TWO, ((5,), "vector"))
    reference = build_model(shapes, 3, fusion="mmtm")
    assert isinstance(reference, MidFusionModel)
    model = MLA().build(reference)
    assert type(model) is MultimodalModel
    assert all(model.encoder_module(m) is reference.encoder_module(m) for m in TWO)


def test_it_combines_with_relearning_and_not_with_methods_whose_hooks_would_not_run():
    create_method("diagnose-relearn+mla")
    with pytest.raises(UsageError, match="takes over the training step"):
        create_method("mla+multi-loss")


def test_invalid_options_are_refused():
    with pytest.raises(UnknownNameError, match="value of projection"):
        MLA(projection="owm")
    with pytest.raises(UnknownNameError, match="value of memory"):
        MLA(memory="none")
    with pytest.raises(UnknownNameError, match="unknown modality 'vide'"):
        MLA(order=["vide"]).check(small_model())
    for options in ({"order": ["audio"]}, {"order": ["audio", "audio"]}, {"weights": {"audio": 1.0}}):
        with pytest.raises(UsageError, match="needs each modality once"):
            MLA(**options).check(small_model())
    with pytest.raises(UsageError, match="weight of 'audio'"):
        MLA(weights={"audio": -1.0})
    with pytest.raises(UsageError, match="all weights are zero"):
        MLA(weights={"audio": 0.0, "video": 0.0})
    MLA().check(small_model(fusion="gated"))
    assert isinstance(built(MLA()).fusion.classifier, nn.Linear)


def test_mixed_precision_with_features_of_different_widths(tmp_path):
    data = synthetic.write(tmp_path / "data").path
    settings = {
        "epochs": 2,
        "batch_size": 32,
        "diagnose_every": 0,
        "encoder_options": {"audio": {"hidden": [16, 6]}, "video": {"hidden": [16, 4]}},
    }
    mixed = eq.fit(data, "mla", precision="bf16-mixed", **settings)
    assert mixed.model.feature_widths() == {"audio": 6, "video": 4}
    assert all(torch.isfinite(value).all() for value in mixed.model.state_dict().values())
    full = eq.fit(data, "mla", **settings)
    assert mixed.test["accuracy"] == pytest.approx(full.test["accuracy"], abs=0.2)
