"""Re-learning of encoders that are pretrained, partly frozen, or adapted by peft."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import equipoise as eq
from equipoise.methods.diagnose_relearn import DiagnoseRelearnMethod
from equipoise.relearning import DiagnoseRelearn
from equipoise.types import ModelError, UnknownNameError, UsageError

HALF = {"strength": "fixed", "lam": 0.5}


def train(model, loader, lr=0.1):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    torch.manual_seed(11)
    model.train()
    for _ in range(3):
        for audio, video, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(audio, video), y).backward()
            optimizer.step()
    return optimizer


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def with_lora(model):
    """Add adapters to the first layer of the encoder of `audio`; its last layer is fully trained."""
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["0"], modules_to_save=["4"], lora_dropout=0.0)
    model.audio_net = peft.get_peft_model(model.audio_net, config).double()
    return model


@pytest.mark.parametrize("selection", ["all", "adapters", {"audio": "adapters"}])
def test_adapters_return_to_the_pretrained_model_and_the_rest_is_unchanged(model, data, selection):
    loaders, probe = data.loaders(), data.val[0]
    pretrained = model.audio_net.eval()(probe)
    with_lora(model)
    relearn = DiagnoseRelearn({"audio": model.audio_net}, **HALF, parameters=selection)
    start = state(model.audio_net)
    train(model, loaders[0])
    trained = state(model.audio_net)
    relearn.step(0, model, *loaders)
    moved = [name for name, value in state(model.audio_net).items() if not torch.equal(value, trained[name])]
    assert moved == [name for name, p in model.audio_net.named_parameters() if p.requires_grad]
    assert len(moved) == 4
    for name in moved:
        assert torch.allclose(model.audio_net.state_dict()[name], (start[name] + trained[name]) / 2)
    relearn.lam = {"audio": 1.0}
    relearn.step(1, model, *loaders)
    running = {name: value for name, value in start.items() if "running" in name}
    model.audio_net.load_state_dict(running, strict=False)  # statistics are kept by default
    assert torch.equal(model.audio_net.eval()(probe), pretrained)


def test_only_the_moments_of_adapters_are_reset(model, data):
    loaders = data.loaders()
    with_lora(model)
    for parameter in model.audio_net.parameters():
        parameter.requires_grad_(True)
    optimizer = train(model, loaders[0])
    relearn = DiagnoseRelearn(
        {"audio": model.audio_net}, **HALF, parameters="adapters", optimizer=optimizer, optimizer_state="zero"
    )
    relearn.step(0, model, *loaders)
    adapters = set(by_name(model.audio_net))
    for name, parameter in model.audio_net.named_parameters():
        if parameter in optimizer.state:
            assert optimizer.state[parameter]["exp_avg_sq"].any() == (name not in adapters), name


def by_name(module):
    return [name for name, _ in module.named_parameters() if "lora_" in name or "modules_to_save" in name]


def test_merged_adapters_are_refused_before_and_during_training(model, data):
    loaders = data.loaders()
    with_lora(model)
    relearn = DiagnoseRelearn({"audio": model.audio_net}, **HALF)
    model.audio_net.merge_adapter()
    before = state(model)
    with pytest.raises(ModelError, match="encoder of 'audio' has 1 adapters that are merged"):
        relearn.step(0, model, *loaders)
    with pytest.raises(ModelError, match="merged"):
        DiagnoseRelearn({"audio": model.audio_net}, **HALF)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_selections_by_modality(model, data):
    loaders = data.loaders()
    relearn = DiagnoseRelearn(model.handles(), **HALF, parameters={"video": "last:1"})
    train(model, loaders[0])
    before = state(model)
    relearn.step(0, model, *loaders)
    moved = {k for k, _ in model.named_parameters() if not torch.equal(model.state_dict()[k], before[k])}
    layers = [f"audio_net.{i}" for i in (0, 1, 4)] + ["visual_net.4"]
    assert moved == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    with pytest.raises(UnknownNameError, match="modality of parameters 'vidio': did you mean video"):
        DiagnoseRelearn(model.handles(), parameters={"vidio": "all"})
    with pytest.raises(ModelError, match="has no adapter"):
        DiagnoseRelearn(model.handles(), parameters={"video": "adapters"})


def test_frozen_parameters_do_not_change_even_after_manual_changes(model, data):
    loaders = data.loaders()
    relearn = DiagnoseRelearn(model.handles(), strength="fixed", lam=1.0)
    start = state(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    model.audio_net.requires_grad_(False)
    model.visual_net[0].requires_grad_(False)  # frozen after the start, like in gradual unfreezing
    before = state(model)
    d = relearn.step(0, model, *loaders)
    assert (d["audio"].applied, d["video"].applied) == (0.0, 1.0)
    assert relearn.history[0]["left_alone"] == {"audio": "all its selected parameters are frozen"}
    for key, _ in model.named_parameters():
        expected = start if key.startswith(("visual_net.1", "visual_net.4")) else before
        assert torch.equal(model.state_dict()[key], expected[key]), key


class Plain(nn.Module):
    """Encoders that return their input, so that the gaps depend on the data only."""

    def __init__(self, names):
        super().__init__()
        self.nets = nn.ModuleDict({name: nn.Linear(4, 4) for name in names})
        for net in self.nets.values():
            nn.init.eye_(net.weight)
            nn.init.zeros_(net.bias)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs):
        return self.head(sum(net(inputs[name]) for name, net in self.nets.items()))


def gaps(names=("noise", "learnt"), n=240):
    """`noise` has one distribution in both splits; `learnt` separates the classes in training only."""
    rng = np.random.default_rng(2)
    y = np.arange(n) % 3
    centres = 4 * np.eye(3, 4)

    def split(seen):
        noise = rng.normal(size=(n, 4))
        clear = rng.normal(size=(n, 4)) + (centres[y] if seen else 0)
        own = {"noise": noise, "learnt": clear}
        inputs = {name: torch.tensor(own[name], dtype=torch.float32) for name in names}
        return [(inputs, torch.tensor(y))]

    return split(True), split(False)


@pytest.mark.parametrize("names", [("noise", "learnt"), ("learnt", "noise")])
@pytest.mark.parametrize(
    ("options", "acts"),
    [
        ({}, {"noise", "learnt"}),
        ({"leave_alone": True}, {"learnt"}),
        ({"preset": "robust"}, {"learnt"}),
        ({"preset": "held-out"}, {"learnt"}),
        ({"preset": "robust", "leave_alone": False}, {"noise", "learnt"}),
        ({"preset": "robust", "min_gap": 0.0}, {"noise", "learnt"}),
        ({"preset": "robust", "bootstrap": 0}, {"noise", "learnt"}),
    ],
)
def test_an_encoder_whose_gap_may_be_zero_is_not_changed(names, options, acts):
    model = Plain(names)
    relearn = DiagnoseRelearn(dict(model.nets), **options)
    with torch.no_grad():
        for net in model.nets.values():
            net.bias.add_(1.0)
    d = relearn.step(0, model, *gaps(names))
    assert {name for name, net in model.nets.items() if net.bias[0] != 1.0} == acts
    assert {name for name in d if d[name].applied > 0} == acts
    assert d["noise"].train_score != d["noise"].val_score
    left = relearn.history[0].get("left_alone", {})
    assert set(left) == set(names) - acts
    for name, reason in left.items():
        low, high = d[name].interval
        assert low <= 0 <= high
        assert reason == f"the interval of its gap, [{low:.3f}, {high:.3f}], includes 0"


def test_one_rule_decides_which_encoders_are_not_changed(model):
    with pytest.raises(UsageError, match=r"leave_alone uses the interval .* min_gap=0.1 a limit"):
        DiagnoseRelearn(model.handles(), leave_alone=True, min_gap=0.1)
    relearn = DiagnoseRelearn(model.handles(), leave_alone=True, min_gap="bootstrap")
    assert relearn.diagnosis.min_gap == "bootstrap"
    assert DiagnoseRelearn(model.handles()).diagnosis.min_gap == 0.0


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        ({"layer_decay": 0.5}, (0.125, 0.25, 0.5)),
        ({"layer_decay": 0.5, "parameters": "no-norm"}, (0.25, 0.0, 0.5)),
        ({"layer_decay": 0.5, "layer_strength": {"0": 4.0}}, (0.5, 0.25, 0.5)),
        ({"layer_decay": 0.1, "parameters": "last:2"}, (0.0, 0.05, 0.5)),
        ({"layer_decay": 1.0}, (0.5, 0.5, 0.5)),
    ],
)
def test_blocks_near_the_output_are_relearnt_more(model, data, options, shares):
    loaders = data.loaders()
    relearn = DiagnoseRelearn({"audio": model.audio_net}, **HALF, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    before = state(model.audio_net)
    planned = relearn.plan(model, *loaders)
    layers = planned.layers
    relearn.carry_out(planned, 0, model, loaders[0])
    for layer, share in zip((0, 1, 4), shares, strict=True):
        for kind in ("weight", "bias"):
            name = f"{layer}.{kind}"
            moved = before[name] - model.audio_net.state_dict()[name]
            assert torch.allclose(moved, torch.full_like(moved, share))
            if options["layer_decay"] != 1:
                assert layers["audio"].get(name, 0.0) == pytest.approx(share)
    assert bool(layers) == (options["layer_decay"] != 1)


@pytest.mark.parametrize("decay", [0.0, -1.0, 1.5])
def test_invalid_decays(model, decay):
    with pytest.raises(UsageError, match="layer_decay is"):
        DiagnoseRelearn(model.handles(), layer_decay=decay)


def test_the_target_pretrained_is_the_given_initial_state(make_model, data):
    with pytest.raises(UsageError, match=r"encoder of 'audio' \(Sequential\) started from given weights"):
        DiagnoseRelearn(make_model().handles(), target="pretrained")
    results = []
    for target in ("init", "pretrained"):
        model, loaders = make_model(), data.loaders()
        for net in (model.audio_net, model.visual_net):
            net.loaded_weights = "given.safetensors"
        relearn = DiagnoseRelearn(model.handles(), **HALF, target=target)
        train(model, loaders[0])
        relearn.step(0, model, *loaders)
        results.append(state(model))
    assert all(torch.equal(value, results[1][key]) for key, value in results[0].items())


def test_wrappers_are_removed(make_model, data):
    plain, wrapped = make_model(), make_model()
    given = {f"module._orig_mod.{k}": torch.zeros_like(v) for k, v in plain.audio_net.state_dict().items()}
    wrapped.audio_net = nn.DataParallel(wrapped.audio_net)
    options = {**HALF, "layer_strength": {"0": 0.5}, "target": {"audio": given}, "parameters": "last:3"}
    for model in (plain, wrapped):
        loaders = data.loaders()
        relearn = DiagnoseRelearn(model.handles(), **options)
        train(model, loaders[0])
        relearn.step(0, model, *loaders)
    ours = [value for name, value in plain.named_parameters() if name.startswith("audio_net")]
    theirs = [value for name, value in wrapped.named_parameters() if name.startswith("audio_net")]
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    compiled = torch.compile(plain.audio_net, backend="eager")
    held = DiagnoseRelearn({"audio": compiled}).state_dict()["targets"]["audio"]
    assert set(held) == set(plain.audio_net.state_dict())


class Token(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(4, 4))

    def forward(self, x):
        return x @ self.token


def test_a_factory_for_redraws(data):
    model = Plain(("noise", "learnt"))
    model.nets["learnt"] = Token()
    relearn = DiagnoseRelearn(
        dict(model.nets),
        strength="fixed",
        lam=1.0,
        target="redraw",
        redraw_seed=4,
        redraw_with={"learnt": Token},
    )
    for turn in range(2):
        relearn.step(turn, model, *gaps())
        torch.manual_seed(4 + turn)
        assert torch.equal(model.nets["learnt"].token, torch.randn(4, 4))
    with pytest.raises(UsageError, match="expected that target"):
        DiagnoseRelearn(dict(model.nets), redraw_with={"learnt": Token})
    with pytest.raises(UnknownNameError, match="modality of redraw_with 'lernt'"):
        DiagnoseRelearn(dict(model.nets), target="redraw", redraw_with={"lernt": Token})
    with pytest.raises(UsageError, match="'redraw_with' holds functions"):
        DiagnoseRelearnMethod.create({"target": "redraw", "redraw_with": {"learnt": Token}})


def test_the_record_of_a_run_lists_unchanged_encoders_with_reasons(tmp_path):
    (train_inputs, y), (val_inputs, _) = (split[0] for split in gaps())
    inputs = {m: np.concatenate([train_inputs[m], val_inputs[m], val_inputs[m] + 0.01]) for m in train_inputs}
    split = np.repeat(["train", "val", "test"], len(y))
    eq.write_dataset(tmp_path / "data", inputs, np.tile(y.numpy(), 3), split=split)
    result = eq.fit(
        tmp_path / "data",
        method="diagnose-relearn",
        method_options={
            "epochs": [0],
            "leave_alone": True,
            "preset": "robust",
            "layer_decay": 0.5,
            "parameters": {"noise": "last:1"},
        },
        epochs=3,
        lr=1e-4,
        diagnose_every=0,
        out=tmp_path / "run",
    )
    lines = (tmp_path / "run" / "diagnosis.jsonl").read_text().splitlines()
    (event,) = [e for e in map(json.loads, lines) if e["event"] == "relearning"]
    assert event["left_alone"].keys() == {"noise"}
    assert "includes 0" in event["left_alone"]["noise"]
    assert event["modalities"]["noise"]["applied"] == 0.0
    assert event["modalities"]["learnt"]["applied"] > 0.3
    assert set(event["layers"]["noise"].values()) == {0.0}
    assert result.summary["method_options"]["leave_alone"] is True
