"""Combinations of methods: each member acts as alone, and invalid combinations are refused with a reason."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

import equipoise as eq
import synthetic
from equipoise.methods import Method, StepContext, base_names, create_method
from equipoise.methods.core.combination import Combined
from equipoise.methods.core.creation import options_for
from equipoise.training.record.names import run_name
from equipoise.types import UnknownNameError, UsageError
from hand_run import HandRun, random_batch, same, small_model


def batches(model, count=4):
    return [random_batch(model, seed=seed) for seed in range(count)]


def trained(spec, options=None, count=4):
    model = small_model()
    run = HandRun(create_method(spec, options), model)
    return run.fit(batches(model, count))


OFF = {"multi-loss": {"weight": 0.0}, "ogm-ge": {"end_epoch": -1}, "fixed-modulation": {"factors": {}}}


PAIRS = [
    (on, off)
    for on in ("joint", "multi-loss", "ogm-ge")
    for off in OFF
    if on != off and {on, off} != {"ogm-ge", "fixed-modulation"}
]


@pytest.mark.parametrize(("on", "off"), PAIRS)
@pytest.mark.parametrize("first", [True, False])
def test_with_one_member_switched_off_the_other_acts_as_alone(on, off, first):
    spec = f"{on}+{off}" if first else f"{off}+{on}"
    options = {f"{off}.{key}": value for key, value in OFF[off].items()}
    assert same(trained(spec, options), trained(on))


def test_both_members_act():
    model = small_model()
    run = HandRun(
        create_method("multi-loss+fixed-modulation", {"fixed-modulation.factors": {"audio": 0.25}}), model
    )
    plain = HandRun(create_method("multi-loss"), small_model())
    batch = random_batch(model)
    gradients, _ = run.gradients(batch)
    expected, _ = plain.gradients(batch)
    joint, _ = HandRun(create_method("joint"), small_model()).gradients(batch)
    audio = {name for name, _ in model.encoder_parameters("audio")}
    for name, gradient in gradients.items():
        assert torch.equal(gradient, expected[name] * (0.25 if name in audio else 1.0))
    assert not torch.equal(joint["encoders.audio.last.weight"], expected["encoders.audio.last.weight"])


def test_the_joint_loss_is_counted_once():
    model = small_model()
    run = HandRun(create_method("multi-loss+joint"), model)
    context = StepContext(run, random_batch(model))
    run.method.forward(context)
    terms = run.method.losses(context)
    assert list(terms) == ["joint", "multi-loss.unimodal"]
    torch.testing.assert_close(
        terms["joint"], torch.nn.functional.cross_entropy(context.u, context.batch.target)
    )


def test_modules_and_random_streams_equal_those_of_the_members_alone():
    model = small_model()
    alone = HandRun(create_method("multi-loss"), model)
    together = HandRun(create_method("multi-loss+ogm-ge"), small_model())
    assert list(together.modules) == ["multi-loss/heads"]
    assert same(together.modules["multi-loss/heads"].state_dict(), alone.modules["heads"].state_dict())
    view = together.method._runs["ogm-ge"]
    assert list(view.modules) == []
    single = HandRun(create_method("ogm-ge"), model)
    assert torch.equal(view.generator.get_state(), single.generator.get_state())


def test_state_round_trip():
    model = small_model()
    run = HandRun(create_method("multi-loss+ogm-ge"), model)
    run.fit(batches(model, 2))
    kept = (
        run.method.state_dict(),
        run.model.state_dict(),
        run.modules.state_dict(),
        run.optimizer.state_dict(),
    )
    kept = torch.load(_saved(kept), weights_only=True)
    whole = run.fit(batches(model)[2:])
    fresh = HandRun(create_method("multi-loss+ogm-ge"), small_model(seed=9))
    fresh.model.load_state_dict(kept[1])
    fresh.modules.load_state_dict(kept[2])
    fresh.optimizer.load_state_dict(kept[3])
    fresh.method.load_state_dict(kept[0])
    assert same(fresh.fit(batches(model)[2:]), whole)


def _saved(value):
    import io

    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return buffer


@dataclass
class Stepper(Method):
    name = "stepper"

    def train_step(self, batch, run):
        return self.standard_step(StepContext(run, batch))


@dataclass
class Router(Method):
    name = "router"

    def backward(self, terms, context):
        return super().backward(terms, context)


@dataclass
class Passer(Method):
    name = "passer"

    def forward(self, context):
        return super().forward(context)


@dataclass
class Replacer(Method):
    name = "replacer"
    replaces_loss: ClassVar[bool] = True

    def losses(self, context):
        return {"own": context.u.sum()}


@dataclass
class Replacer2(Replacer):
    name = "replacer-2"


def test_invalid_combinations_are_refused_with_a_reason():
    def reason(**members):
        with pytest.raises(UsageError) as error:
            Combined("+".join(members), members)
        return str(error.value)

    multi, ogm = create_method("multi-loss"), create_method("ogm")
    assert "each of them takes over the training step" in reason(a=Stepper(), b=Stepper())
    assert "multi-loss would not be called (losses), as stepper takes over" in reason(a=multi, b=Stepper())
    assert "opm would not be called (edit_features), as passer replaces the forward pass" in reason(
        a=Passer(), b=create_method("opm")
    )
    assert "routes the gradients" in reason(a=Router(), b=multi)
    assert "both replace the joint loss" in reason(a=Replacer(), b=Replacer2())
    assert "both scale the encoders' gradients" in reason(
        a=ogm, b=create_method("fixed-modulation", {"factors": {}})
    )
    for spec in ("ensemble+joint", "joint+unimodal:audio"):
        with pytest.raises(UsageError, match="cannot be combined"):
            create_method(spec)
    with pytest.raises(UsageError, match="names a method twice"):
        create_method("joint+joint")
    Combined("a+b", {"a": Stepper(), "b": create_method("diagnose-relearn")})
    Combined("a+b", {"a": Router(), "b": ogm})


def test_a_loss_that_replaces_the_joint_loss():
    model = small_model()
    run = HandRun(
        Combined("x+multi-loss", {"x": Replacer(), "multi-loss": create_method("multi-loss")}), model
    )
    context = StepContext(run, random_batch(model))
    run.method.forward(context)
    assert list(run.method.losses(context)) == ["x.own", "multi-loss.unimodal"]


def test_needs_depend_on_the_trained_model(tmp_path):
    data = synthetic.write(tmp_path / "data")
    with pytest.raises(UsageError, match=r"'ogm' needs a model with additive_head"):
        eq.fit(data.path, "ogm+mmcosine", epochs=2)
    options = {"ogm.logits": "zero-feature"}
    assert eq.fit(data.path, "ogm+mmcosine", method_options=options, epochs=2).test["accuracy"] > 0


def test_scores_and_losses_read_features_before_editing():
    """OGM also scores the features that OPM drops: its scores are equal with and without OPM."""
    model = small_model()
    options = {"opm.start_epoch": 0, "opm.p_exe": 1.0, "ogm.tensors": "all"}
    run = HandRun(create_method("opm+ogm", options), model)
    alone = HandRun(create_method("ogm", {"tensors": "all"}), small_model())
    batch = random_batch(model)
    gradients, context = run.gradients(batch)
    plain, _ = alone.gradients(batch)
    assert not torch.equal(gradients["fusion.linear.weight"], plain["fusion.linear.weight"])
    assert not all(torch.equal(context.z[m], context.features[m]) for m in model.modalities)
    together = StepContext(run, batch)
    run.method.forward(together)
    apart = StepContext(alone, batch)
    alone.method.forward(apart)
    for m, u in apart.unimodal_logits("slice", detached=True).items():
        assert torch.equal(together.unimodal_logits("slice", detached=True)[m], u)


def test_a_dropped_feature_is_dropped_for_all_methods():
    model = small_model()
    run = HandRun(create_method("multi-loss+sample-valuation", {"multi-loss.logits": "slice"}), model)
    batch = random_batch(model)
    keep = {
        "audio": torch.zeros(len(batch), dtype=torch.bool),
        "video": torch.ones(len(batch), dtype=torch.bool),
    }
    gradients, _ = run.gradients(replace(batch, keep=keep))
    for name, _ in model.encoder_parameters("audio"):
        assert name not in gradients or not gradients[name].any()


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("dgl+multi-loss", "trains the encoders by its own losses only"),
        ("cggm+dgl", "trains the encoders by its own losses only"),
        ("agm+opm", "splits the joint logits of unchanged features"),
        ("pretrain-frozen+diagnose-relearn", "freezes the encoders"),
        ("pretrain-finetune+pretrain-frozen", "freezes the encoders"),
        ("inforeg+ogm", "gradients"),
        ("mla+aug", "each of them"),
    ],
)
def test_incompatible_methods_are_refused_in_either_order(spec, reason):
    for names in (spec.split("+"), spec.split("+")[::-1]):
        with pytest.raises(UsageError, match=reason):
            create_method("+".join(names))


def test_names_and_options():
    assert base_names("diagnose-relearn+multi-loss") == ["diagnose-relearn", "multi-loss"]
    assert base_names("unimodal:audio") == ["unimodal"]
    given = {"ogm": {"alpha": 0.3}, "multi-loss": {"weight": 2.0}}
    assert options_for("ogm+multi-loss", given) == {"ogm.alpha": 0.3, "multi-loss.weight": 2.0}
    assert options_for("ogm", given) == {"alpha": 0.3}
    method = create_method("ogm+multi-loss", {"ogm.alpha": 0.3})
    assert method.options()["ogm.alpha"] == 0.3
    with pytest.raises(UsageError, match=r"'alpha' of 'ogm\+multi-loss' names none of its methods"):
        create_method("ogm+multi-loss", {"alpha": 0.3})
    with pytest.raises(UnknownNameError, match="did you mean alpha"):
        create_method("ogm+multi-loss", {"ogm.alfa": 0.3})
    with pytest.raises(UnknownNameError, match="unknown method"):
        create_method("ogm+multiloss")


def test_in_the_trainer(tmp_path):
    data = synthetic.write(tmp_path / "data")
    spec = "diagnose-relearn+multi-loss"
    options = {"diagnose-relearn.every": 1, "diagnose-relearn.count": 1, "multi-loss.weight": 0.5}
    quick = {"epochs": 3, "batch_size": 32, "seed": 1}
    result = eq.fit(data.path, spec, method_options=options, out=tmp_path / "run", **quick)
    assert [d.epoch for d in result.relearnings] == [1]
    again = eq.load_run(tmp_path / "run")
    assert same(dict(again.model.state_dict()), dict(result.model.state_dict()))
    table = eq.compare(
        data.path,
        ["joint", spec],
        seeds=3,
        workers=1,
        method_options={"multi-loss": {"weight": 0.5}, "diagnose-relearn": {"every": 1, "count": 1}},
        **{key: value for key, value in quick.items() if key != "seed"},
    )
    assert table["rank"].notna().all()
    held = eq.load_run(f"{table.attrs['out']}/runs/{run_name(spec, 1)}")
    assert same(dict(held.model.state_dict()), dict(result.model.state_dict()))
