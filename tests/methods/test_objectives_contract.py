"""Common tests of all objective methods: switched off, renamed, three modalities, resumed."""

from __future__ import annotations

import io
from copy import deepcopy
from typing import Any

import pytest
import torch

import equipoise as eq
import synthetic
from equipoise.methods import create_method
from equipoise.models import ConcatFusion, MultimodalModel
from equipoise.types import Batch
from hand_run import WIDTHS, HandRun, random_batch, same, small_model

BOTH, THREE = ("audio", "video"), ("audio", "video", "text")

ON: dict[str, dict[str, Any]] = {
    "pmr": {"subset": 0.5, "mu": 0.1},
    "umt": {},
    "g2d": {"order": "batch", "temperature": 2.0},
    "mbsd": {},
    "cml": {"lam": 1.0},
    "mcr": {"n": 3, "lam_ceb": 0.1},
}
OFF: list[tuple[str, dict[str, Any]]] = [
    ("pmr", {"alpha": 0.0, "mu": 0.0}),
    ("pmr", {"start_epoch": 1}),
    ("umt", {"lam": 0.0}),
    ("g2d", {"logit_weight": 0.0, "feature_weight": 0.0, "end_epoch": -1}),
    ("mbsd", {"w_kl": 0.0, "w_rs": 0.0, "w_uni": 0.0}),
    ("cml", {"lam": 0.0, "subset_losses": False}),
    ("mcr", {"lam": 0.0, "lam_uni": 0.0, "lam_con": 0.0}),
]


def begun(name, options, model=None, modalities=BOTH, teachers=None, count=4):
    model, method = model or small_model(modalities), create_method(name, options)
    names = teachers or {m: m for m in model.modalities}  # which modality each teacher is for
    own = {m: small_model((names[m],), seed=5) for m in model.modalities}
    parts = {f"unimodal:{m}": MultimodalModel({m: t.encoders[names[m]]}, _head(t, m)) for m, t in own.items()}
    method.load_parts(model, parts)
    return HandRun(method, model, train=[random_batch(model, seed=seed) for seed in range(count)])


def _head(teacher, modality):
    fusion = ConcatFusion({modality: teacher.feature_widths()[teacher.modalities[0]]}, 3).double()
    fusion.load_state_dict(teacher.fusion.state_dict())
    return fusion


def epoch(run, number, batches):
    run.epoch = number
    run.model.train()
    run.method.epoch_start(run)
    weights = run.fit(batches)
    run.method.epoch_end(run)
    return weights


@pytest.mark.parametrize(("name", "options"), OFF)
def test_switched_off_it_equals_joint_training_bit_for_bit(name, options):
    run, joint, on = begun(name, options), begun("joint", {}), begun(name, ON[name])
    state, stream = run.generator.get_state(), torch.get_rng_state()
    off = epoch(run, 0, run.train)
    assert torch.equal(run.generator.get_state(), state)
    assert same(off, epoch(joint, 0, joint.train))
    assert not same(off, epoch(on, 0, on.train))
    assert torch.equal(torch.get_rng_state(), stream)


@pytest.mark.parametrize("name", ON)
def test_with_a_member_switched_off_a_combination_equals_the_other_alone(name):
    alone = begun(name, ON[name])
    options = {f"{name}.{key}": value for key, value in ON[name].items()}
    spec = f"fixed-modulation+{name}"
    together = begun(spec, options | {"fixed-modulation.factors": {}})
    assert same(epoch(alone, 0, alone.train), epoch(together, 0, together.train))


RENAMED = {"audio": "a.sound", "video": "weight"}  # in the same alphabetical order


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", ON)
def test_order_and_names_of_modalities_do_not_matter(name, reverse):
    options = ON[name] | ({"logits": "slice", "lam_con": 0.0, "lam_ceb": 0.0} if name == "mcr" else {})
    model = small_model()
    copy = _renamed(model, reverse)
    plain = begun(name, options, model)
    other = begun(name, options, copy, teachers={new: old for old, new in RENAMED.items()})
    batches = [random_batch(model, seed=seed) for seed in range(4)]
    plain.train = plain.train_eval = batches
    renamed = [Batch({RENAMED[m]: x for m, x in b.inputs.items()}, b.target, b.index) for b in batches]
    other.train = other.train_eval = renamed
    epoch(plain, 0, batches)
    epoch(other, 0, renamed)
    for old, new in RENAMED.items():
        trained = model.encoder_module(old).state_dict()
        for key, value in copy.encoder_module(new).state_dict().items():
            torch.testing.assert_close(value, trained[key], atol=1e-9, rtol=0)
        torch.testing.assert_close(copy.head.weight(new), model.head.weight(old), atol=1e-9, rtol=0)


def _renamed(model, reverse):
    names = list(RENAMED)[::-1] if reverse else list(RENAMED)
    fusion = ConcatFusion({RENAMED[m]: WIDTHS[m] for m in names}, 3).double()
    with torch.no_grad():
        for m in names:
            fusion.head.weight(RENAMED[m]).copy_(model.head.weight(m))
        fusion.linear.bias.copy_(model.fusion.linear.bias)
    return MultimodalModel({RENAMED[m]: deepcopy(model.encoder_module(m)) for m in names}, fusion)


@pytest.mark.parametrize("name", ON)
def test_three_modalities_and_another_fusion(name):
    options = ON[name] | ({"logits": "zero-feature"} if name == "mbsd" else {})
    model = small_model(THREE, "gated")
    run = begun(name, options, model)
    run.method.check(model)
    first = run.model.state_dict()
    first = {key: value.clone() for key, value in first.items()}
    weights = epoch(run, 0, run.train)
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert not same(first, weights)


@pytest.mark.parametrize("name", ON)
def test_a_restored_run_equals_an_uninterrupted_one(name):
    options = ON[name] | ({"order": "train-set"} if name == "g2d" else {})
    run = begun(name, options)
    epoch(run, 0, run.train[:2])
    kept = io.BytesIO()
    states = [part.state_dict() for part in (run.method, run.model, run.modules, run.optimizer)]
    torch.save([*states, run.generator.get_state()], kept)
    whole = epoch(run, 1, run.train[2:])
    kept.seek(0)
    fresh = begun(name, options, small_model(seed=9))
    *states, stream = torch.load(kept, weights_only=True)
    for part, state in zip((fresh.method, fresh.model, fresh.modules, fresh.optimizer), states, strict=True):
        part.load_state_dict(state)
    fresh.generator.set_state(stream)
    assert same(epoch(fresh, 1, fresh.train[2:]), whole)
    assert torch.equal(fresh.generator.get_state(), run.generator.get_state())
    ours, theirs = fresh.method.state_dict(), run.method.state_dict()
    assert str(ours) == str(theirs)


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return synthetic.write(tmp_path_factory.mktemp("data") / "two").path


@pytest.mark.parametrize("name", ["pmr", "g2d", "cml", "mcr"])
def test_an_interrupted_run_equals_an_uninterrupted_one(name, data, tmp_path):
    options = ON[name] | ({"order": "train-set"} if name == "g2d" else {})
    settings = {
        "method_options": options,
        "epochs": 4,
        "batch_size": 32,
        "checkpoint_every": 1,
        "diagnose_every": 0,
        "encoder_options": {m: {"hidden": [8]} for m in BOTH},
    }

    def stop(number, _):
        if number == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        eq.fit(data, name, out=tmp_path / "run", on_epoch=stop, **settings)
    resumed = eq.fit(data, name, out=tmp_path / "run", resume=True, **settings)
    unbroken = eq.fit(data, name, **settings)
    assert same(dict(resumed.model.state_dict()), dict(unbroken.model.state_dict()))
    for key in ("forward_samples", "backward_samples", "order_fingerprint", "validation"):
        assert resumed.summary[key] == unbroken.summary[key]
