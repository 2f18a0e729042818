"""UMT: the distillation against NumPy, and frozen teachers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import equipoise as eq
import synthetic
from equipoise.methods import StepContext, create_method
from equipoise.types import RunFolderError, UsageError
from hand_run import HandRun, random_batch, same, small_model

BOTH, THREE = ("audio", "video"), ("audio", "video", "text")


def unimodal(modalities=BOTH, seed=5):
    return {f"unimodal:{m}": small_model((m,), seed=seed) for m in modalities}


def begun(options=None, modalities=BOTH, parts=None, **model_options):
    model, method = small_model(modalities, **model_options), create_method("umt", options or {})
    method.load_parts(model, parts or unimodal(modalities))
    return HandRun(method, model)


def taught(teacher, x):
    """A teacher's feature in evaluation mode, from the layers."""
    w = {k: v.detach().numpy() for k, v in next(iter(teacher.encoders.values())).state_dict().items()}
    h = x.numpy() @ w["first.weight"].T + w["first.bias"]
    h = (h - w["norm.running_mean"]) / np.sqrt(w["norm.running_var"] + 1e-5)
    return np.maximum(h * w["norm.weight"] + w["norm.bias"], 0) @ w["last.weight"].T + w["last.bias"]


@pytest.mark.parametrize("modalities", [BOTH, THREE, ("video", "audio")])
@pytest.mark.parametrize("fusion", ["concat", "gated"])
def test_the_loss_and_its_gradient_against_numpy(modalities, fusion):
    parts = unimodal(modalities)
    for part in parts.values():  # running statistics different from those of a new layer
        part.train()
        part(random_batch(part, seed=3))
    run = begun({"lam": 3.0}, modalities, parts, fusion=fusion)
    batch = random_batch(run.model)
    context = StepContext(run, batch)
    run.method.forward(context)
    terms = run.method.losses(context)
    expected = {m: taught(parts[f"unimodal:{m}"], batch.inputs[m]) for m in modalities}
    errors = {m: z.detach().numpy() - expected[m] for m, z in context.z.items()}
    value = 3 * sum(float((e**2).sum()) / e.size for e in errors.values())
    assert terms["distillation"].item() == pytest.approx(value, abs=1e-6)
    assert terms["joint"].item() == torch.nn.functional.cross_entropy(context.u, batch.target).item()
    found = torch.autograd.grad(terms["distillation"], list(context.z.values()))
    for gradient, e in zip(found, errors.values(), strict=True):
        np.testing.assert_allclose(gradient.numpy(), 3 * 2 * e / e.size, atol=1e-9)


def test_teachers_never_change_and_are_not_part_of_the_model():
    parts = unimodal()
    before = {name: {k: v.clone() for k, v in part.state_dict().items()} for name, part in parts.items()}
    for part in parts.values():
        part.train()
    run = begun(parts=parts)
    teachers = run.method._teachers
    run.fit([random_batch(run.model, seed=seed) for seed in range(4)])
    for m in BOTH:
        assert same(teachers[m].state_dict(), before[f"unimodal:{m}"])
        assert not any(part.training for part in teachers[m].modules())
        assert all(p.grad is None and not p.requires_grad for p in teachers[m].parameters())
    held = {p for group in run.optimizer.param_groups for p in group["params"]}
    assert not held & {p for t in teachers.values() for p in t.parameters()}
    assert not list(run.modules.parameters())
    assert set(run.counted) == {teachers[m].encoder_module(m) for m in BOTH}
    # The parts do not change: other methods may build on them too.
    assert all(p.requires_grad for part in parts.values() for p in part.parameters())


def test_teachers_run_once_a_step():
    run, calls = begun(), []
    for teacher in run.method._teachers.values():
        teacher.register_forward_hook(lambda *_: calls.append("whole"))
        next(iter(teacher.encoders.values())).register_forward_hook(lambda *_: calls.append("encoder"))
    run.fit([random_batch(run.model, seed=seed) for seed in range(3)])
    assert calls == ["encoder"] * 6


def test_a_student_equal_to_its_teacher_has_zero_loss():
    parts, model = unimodal(), small_model()
    for m in BOTH:
        model.encoder_module(m).load_state_dict(parts[f"unimodal:{m}"].encoder_module(m).state_dict())
    method = create_method("umt")
    method.load_parts(model, parts)
    run = HandRun(method, model)
    model.eval()
    context = StepContext(run, random_batch(model))
    run.method.forward(context)
    assert method.losses(context)["distillation"].item() == 0


def test_with_weight_zero_there_are_no_teachers():
    method = create_method("umt", {"lam": 0.0})
    assert method.parts(BOTH) == []
    assert create_method("umt").parts(BOTH) == ["unimodal:audio", "unimodal:video"]
    HandRun(method, small_model())
    with pytest.raises(UsageError, match="needs the models of the runs unimodal:audio, unimodal:video"):
        HandRun(create_method("umt"), small_model())
    with pytest.raises(UsageError):
        create_method("umt", {"lam": -1.0})


def test_a_resumed_run_keeps_its_teachers():
    state = begun().method.state_dict()
    begun().method.load_state_dict(state)
    others = unimodal()
    others["unimodal:video"].encoders["video"].norm.running_mean += 1e-3
    with pytest.raises(RunFolderError, match="have changed since it was started"):
        begun(parts=others).method.load_state_dict(state)


def test_in_the_trainer(tmp_path):
    data = synthetic.write(tmp_path / "data").path
    quick = {"epochs": 4, "batch_size": 32, "lr": 0.05}
    alone = {m: eq.fit(data, f"unimodal:{m}", **quick) for m in BOTH}
    joint, off, on = (
        eq.fit(data, name, method_options=options, **quick)
        for name, options in (("joint", {}), ("umt", {"lam": 0.0}), ("umt", {"lam": 10.0}))
    )
    assert same(dict(joint.model.state_dict()), dict(off.model.state_dict()))
    assert off.summary["forward_samples"] == joint.summary["forward_samples"]
    # The unimodal runs, the student, and the teachers.
    assert on.summary["forward_samples"] == 3 * joint.summary["forward_samples"]
    assert on.summary["backward_samples"] == 2 * joint.summary["backward_samples"]
    assert on.summary["init_fingerprint"] == joint.summary["init_fingerprint"]

    def distance(result):
        total = 0.0
        batch = {
            m: torch.randn(50, *shape, generator=torch.Generator().manual_seed(1))
            for m, shape in synthetic.VECTORS.items()
        }
        with torch.no_grad():
            for m in BOTH:
                z = result.model.encode(batch)[m] - alone[m].model.encode(batch)[m]
                total += float(z.square().mean())
        return total

    assert distance(on) < 0.5 * distance(joint)
