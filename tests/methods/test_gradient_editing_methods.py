"""What AGM, MMPareto, DGL, InfoReg, ARL and CGGM have in common: switched off, resuming, order, refusals."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

import equipoise as eq
import synthetic
from equipoise.methods import METHODS, create_method
from equipoise.types import UsageError
from hand_run import HandRun, random_batch, same, small_model

THREE = ("audio", "video", "text")

ON: list[tuple[str, dict[str, Any]]] = [
    ("agm", {"alpha": 2.0}),
    ("agm", {"alpha": 2.0, "mode": "encoder-grad", "history": "inclusive"}),
    ("mmpareto", {}),
    ("mmpareto", {"norm_scope": "encoder", "logits": "slice"}),
    ("dgl", {}),
    ("inforeg", {"threshold": 0.0}),
    ("inforeg", {"threshold": 0.0, "loss": "joint+unimodal"}),
    ("arl", {"warmup_epochs": 1}),
    ("cggm", {}),
    ("cggm", {"metric": "ema", "direction": "logits"}),
]
OFF: list[tuple[str, dict[str, Any]]] = [
    ("agm", {"alpha": 0.0}),
    ("agm", {"alpha": 0.0, "mode": "encoder-grad"}),
    ("agm", {"start_epoch": 9}),
    ("mmpareto", {"start_epoch": 9}),
    ("dgl", {"start_epoch": 9}),
    ("inforeg", {"threshold": 1.0}),
    ("inforeg", {"threshold": 0.0, "start_epoch": 9}),
    ("arl", {"gamma": 0.0, "boost": "off"}),
    ("cggm", {"rho": None, "lam": 0.0}),
    ("cggm", {"start_epoch": 9}),
]
NAMES = sorted({name for name, _ in ON})


def batches_of(model, seeds):
    return [random_batch(model, seed=seed) for seed in seeds]


def growing(model, e):
    """Batches whose labels change every second epoch, so that gradients grow and InfoReg opens windows."""
    batches = batches_of(model, (20, 21, 22))
    for batch in batches:
        batch.target.copy_((batch.target + (e + 1) // 2) % 3)
    return batches


def epoch(run, batches):
    run.method.epoch_start(run)
    state = run.fit(batches)
    run.method.epoch_end(run)
    run.epoch += 1
    return state


def trained(name, options, modalities=("audio", "video"), epochs=5):
    """Weights after training with the hooks of a loop."""
    model = small_model(modalities)
    run = HandRun(create_method(name, options), model)
    for e in range(epochs):
        state = epoch(run, growing(model, e))
    return state, run


@pytest.mark.parametrize(("name", "options"), OFF)
def test_switched_off_they_equal_joint_training_bit_for_bit(name, options):
    stream = torch.get_rng_state()
    joint, plain = trained("joint", {})
    off, run = trained(name, options)
    assert same(joint, off)
    assert torch.equal(torch.get_rng_state(), stream)
    assert torch.equal(run.generator.get_state(), run.stream(name).get_state())


@pytest.mark.parametrize(("name", "options"), ON)
def test_switched_on_they_differ_and_do_not_change_global_random_streams(name, options):
    stream = torch.get_rng_state()
    on, run = trained(name, options)
    assert not same(trained("joint", {})[0], on)
    assert torch.equal(torch.get_rng_state(), stream)
    assert torch.equal(run.generator.get_state(), run.stream(name).get_state())
    assert all(torch.isfinite(value).all() for value in on.values())


@pytest.mark.parametrize(("name", "options"), ON)
@pytest.mark.parametrize("modalities", [("audio", "video"), THREE])
def test_training_in_two_halves_equals_one_run(name, options, modalities):
    def run():
        return HandRun(create_method(name, options), small_model(modalities))

    def epochs(run, which):
        for e in which:
            run.epoch = e
            state = epoch(run, growing(run.model, e))
        return state

    unbroken = run()
    whole = epochs(unbroken, range(5))
    first, second = run(), run()
    epochs(first, range(3))
    second.model.load_state_dict(first.model.state_dict())
    second.modules.load_state_dict(first.modules.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.method.load_state_dict(first.method.state_dict())
    assert same(whole, epochs(second, range(3, 5)))
    assert second.method.state_dict() == unbroken.method.state_dict()
    assert same(dict(second.modules.state_dict()), dict(unbroken.modules.state_dict()))


@pytest.mark.parametrize(("name", "options"), ON)
@pytest.mark.parametrize("order", [("text", "audio", "video"), ("video", "text", "audio")])
def test_the_order_of_modalities_changes_nothing(name, options, order):
    """The same encoders and head columns in another order give the same weights."""
    one, two = small_model(THREE, "sum"), small_model(order, "sum")
    for m in THREE:
        two.encoder_module(m).load_state_dict(one.encoder_module(m).state_dict())
        two.head.weight(m).data.copy_(one.head.weight(m).data)
    runs = [HandRun(create_method(name, options), model) for model in (one, two)]
    for module in runs[0].modules:
        first, second = (
            dict(zip(r.modules[module].modalities, r.modules[module].linears, strict=True)) for r in runs
        )
        for m in THREE:
            second[m].load_state_dict(first[m].state_dict())
    for e in range(5):
        batches = growing(one, e)
        for run in runs:
            epoch(run, batches)
    for m in THREE:
        states = [model.encoder_module(m).state_dict() for model in (one, two)]
        for key, value in states[0].items():
            torch.testing.assert_close(states[1][key], value, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(two.head.weight(m), one.head.weight(m), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_one_modality_is_refused_and_four_are_accepted(name):
    with pytest.raises(UsageError, match="at least 2 modalities"):
        create_method(name).check(small_model(("audio",)))
    trained(name, dict(ON)[name], ("audio", "video", "text", "touch"), epochs=2)


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_documented_on_the_page(name):
    page = (Path(__file__).parents[2] / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8")
    for option in fields(METHODS[name]):
        assert f"`{option.name}`" in page
    assert METHODS[name].source.rsplit("arXiv ")[1] in page
    assert METHODS[name].experimental == ("**Experimental.**" in page)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("agm+ogm", "both scale"),
        ("mmpareto+multi-loss", "routes the gradients"),
        ("arl+cggm", "both scale"),
    ],
)
def test_incompatible_combinations_are_refused(spec, message):
    with pytest.raises(UsageError, match=message):
        create_method(spec)


@pytest.mark.parametrize("spec", ["mmcosine+agm", "inforeg+diagnose-relearn", "diagnose-relearn+cggm"])
def test_with_the_other_switched_off_a_combination_equals_the_method_alone(spec):
    off = {"multi-loss": {"weight": 0.0}, "agm": {"alpha": 0.0}, "diagnose-relearn": {"count": 0}}
    (name,) = [part for part in spec.split("+") if part not in off or part == spec.split("+")[0] == "agm"]
    other = next(part for part in spec.split("+") if part != name)
    options = {f"{other}.{key}": value for key, value in off[other].items()}
    model, alone = small_model(), small_model()
    runs = [HandRun(create_method(spec, options), model), HandRun(create_method(name), alone)]
    assert same(*(run.fit(batches_of(run.model, range(4))) for run in runs))


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(synthetic.write(tmp_path_factory.mktemp("data") / "two", count=90).path)


@pytest.mark.parametrize("name", NAMES)
def test_the_trainer_resumes_an_interrupted_run(name: str, data: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "epochs": 4,
        "batch_size": 16,
        "diagnose_every": 0,
        "method_options": dict(ON)[name],
    }

    def kill(epoch: int, _: object) -> None:
        if epoch == 2:
            raise Killed

    out = tmp_path / "run"
    with pytest.raises(Killed):
        eq.fit(data, name, out=out, on_epoch=kill, checkpoint_every=1, **settings)
    resumed = eq.fit(data, name, out=out, resume=True, checkpoint_every=1, **settings)
    unbroken = eq.fit(data, name, **settings)
    assert same(dict(resumed.model.state_dict()), dict(unbroken.model.state_dict()))
    assert resumed.test == unbroken.test
    assert resumed.summary["forward_samples"] == unbroken.summary["forward_samples"]
