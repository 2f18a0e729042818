"""The effect of each option of a re-learning, on weights changed by a known amount."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from equipoise.diagnosis.state import Diagnosis, LearningState
from equipoise.relearning import DiagnoseRelearn
from equipoise.relearning.options import ALLOCATIONS, RelearnOptions
from equipoise.relearning.strength import strengths_of
from equipoise.relearning.targets import redrawn_state
from equipoise.types import DataError, UsageError

HALF = {"strength": "fixed", "lam": 0.5}


class Setting:
    """A model that was changed by training since its re-learning was set up."""

    def __init__(self, model, data, **options) -> None:
        self.model, self.loaders = model, data.loaders()
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        options = {**HALF, "optimizer": self.optimizer, "head": model.head, **options}
        self.initial = self.weights()
        self.relearn = DiagnoseRelearn(model.handles(), **options)
        torch.manual_seed(11)
        model.train()
        for _ in range(3):
            for audio, video, y in self.loaders[0]:
                self.optimizer.zero_grad()
                F.cross_entropy(model(audio, video), y).backward()
                self.optimizer.step()
        with torch.no_grad():  # training does not change a bias before a normalisation layer
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        self.trained = self.weights()
        self.momentum = {p: s["momentum_buffer"].clone() for p, s in self.optimizer.state.items()}

    def weights(self):
        return {key: value.clone() for key, value in self.model.state_dict().items()}

    def step(self):
        return self.relearn.step(0, self.model, *self.loaders)

    def moved(self):
        """How far each parameter moved from trained to initial value; None if off the straight line."""
        out = {}
        for key, value in self.model.named_parameters():
            way, gone = self.initial[key] - self.trained[key], value.detach() - self.trained[key]
            share = float((gone * way).sum() / (way * way).sum())
            out[key] = round(share, 9) if torch.allclose(gone, share * way, atol=1e-12) else None
        return out


@pytest.fixture
def setting(model, data):
    return lambda **options: Setting(model, data, **options)


def by_layer(moved, encoder="audio_net"):
    return {key.split(".", 1)[1]: share for key, share in moved.items() if key.startswith(encoder)}


def test_by_default_only_the_parameters_of_encoders_change(setting):
    s = setting()
    d = s.step()
    assert {m: d[m].applied for m in d} == {"audio": 0.5, "video": 0.5}
    moved = s.moved()
    assert all(share == (0.0 if key.startswith("head") else 0.5) for key, share in moved.items())
    for key, value in s.model.state_dict().items():
        if "running" in key or "num_batches" in key:
            assert torch.equal(value, s.trained[key])
    assert all(torch.equal(s.optimizer.state[p]["momentum_buffer"], b) for p, b in s.momentum.items())
    assert s.optimizer.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"strength": "tanh", "lam": 2.0}, lambda gap: math.tanh(2 * gap)),
        ({"strength": "linear", "lam": 2.0}, lambda gap: min(1, 2 * gap)),
        ({"strength": "linear", "lam": 1e6}, lambda gap: 1.0),
        ({"strength": "fixed", "lam": 0.3}, lambda gap: 0.3),
        ({"strength": "fixed", "lam": 1.0, "max_alpha": 0.4}, lambda gap: 0.4),
        ({"strength": "tanh", "lam": 50.0, "max_alpha": 0.25}, lambda gap: 0.25),
        ({"strength": "fixed", "lam": 0.7, "min_gap": 2.0}, lambda gap: 0.0),
    ],
)
def test_strengths(setting, options, expected):
    s = setting(**options)
    d = s.step()
    for name, attribute in (("audio", "audio_net"), ("video", "visual_net")):
        assert d[name].gap > 0.01
        assert d[name].applied == pytest.approx(expected(d[name].gap))
        shares = by_layer(s.moved(), attribute)
        assert shares == pytest.approx(dict.fromkeys(shares, d[name].applied), abs=1e-8)
    (entry,) = s.relearn.history
    why = dict.fromkeys(d, "below min_gap 2.0") if "min_gap" in options else {}
    assert {m: reason.partition(" is ")[2] for m, reason in entry.pop("left_alone", {}).items()} == why
    assert entry == {"epoch": 0, "modalities": d.to_dict()}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (0.2, 0.4, 0.6)),
        ({"allocation": "own", "sharpness": 9.0}, (0.2, 0.4, 0.6)),
        ({"allocation": "sharpened"}, (0.6 / 81, 0.6 * 16 / 81, 0.6)),
        ({"allocation": "sharpened", "sharpness": 1.0}, (0.2, 0.4, 0.6)),
        ({"allocation": "sharpened", "sharpness": 0.0}, (0.6, 0.6, 0.6)),
        ({"allocation": "worst"}, (0.0, 0.0, 0.6)),
        ({"allocation": "even"}, (0.4, 0.4, 0.4)),
        ({"allocation": "swapped"}, (0.6, 0.4, 0.2)),
        ({"only": ["b"]}, (0.0, 0.4, 0.0)),
        ({"allocation": "sharpened", "sharpness": 0.0, "only": ["a", "b"]}, (0.6, 0.6, 0.0)),
    ],
)
def test_allocations(options, expected):
    gaps = {"a": 0.1, "b": 0.2, "c": 0.3}
    states = {m: LearningState(m, 0.5 + g, 0.5, g, None, False, "purity", 9, 9) for m, g in gaps.items()}
    choices = RelearnOptions(strength="linear", **options)
    lam, alone = dict.fromkeys(gaps, 2.0), [[m] for m in gaps]
    found = strengths_of(Diagnosis(states), lam, choices, alone, {name: ["weight"] for name in gaps})
    assert tuple(found.values()) == pytest.approx(expected)
    assert list(found) == list(gaps)


def test_no_allocation_strengthens_a_gap_that_does_not_count():
    state = LearningState("a", 0.4, 0.5, 0.0, None, True, "purity", 9, 9)
    diagnosis = Diagnosis({"a": state, "b": replace(state, modality="b")})
    for allocation in ALLOCATIONS:
        choices = RelearnOptions(strength="fixed", allocation=allocation)
        lam, selected = {"a": 1.0, "b": 1.0}, {"a": ["weight"], "b": ["weight"]}
        assert set(strengths_of(diagnosis, lam, choices, [["a"], ["b"]], selected).values()) == {0.0}
    with pytest.raises(UsageError, match="sharpness is -1"):
        RelearnOptions(sharpness=-1.0)


def test_strengths_by_modality(setting):
    s = setting(lam={"video": 0.25, "audio": 1.0})
    s.step()
    assert set(by_layer(s.moved()).values()) == {1.0}
    assert set(by_layer(s.moved(), "visual_net").values()) == {0.25}
    for key, value in s.model.audio_net.named_parameters():
        assert torch.equal(value, s.initial[f"audio_net.{key}"])  # exactly


NAMES = [f"{layer}.{kind}" for layer in (0, 1, 4) for kind in ("weight", "bias")]


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        ({"parameters": "all"}, (0.5, 0.5, 0.5)),
        ({"parameters": "no-norm"}, (0.5, 0.0, 0.5)),
        ({"parameters": "last:1"}, (0.0, 0.0, 0.5)),
        ({"parameters": "last:2"}, (0.0, 0.5, 0.5)),
        ({"layer_strength": {"0": 0.5, "4": 2.0}}, (0.25, 0.5, 1.0)),
        ({"layer_strength": {"": 0.2, "4": 9.0}}, (0.1, 0.1, 1.0)),
        ({"layer_strength": {"0": 0.0}, "parameters": "no-norm"}, (0.0, 0.0, 0.5)),
    ],
)
def test_parts_of_an_encoder(setting, options, shares):
    s = setting(**options)
    s.step()
    expected = dict(zip(NAMES, [share for share in shares for _ in range(2)], strict=True))
    assert by_layer(s.moved()) == pytest.approx(expected)


def test_only_trainable_parameters(model, data):
    model.audio_net[0].weight.requires_grad_(False)
    s = Setting(model, data, parameters="trainable")
    s.step()
    assert s.moved()["audio_net.0.weight"] == 0.0
    assert s.moved()["audio_net.0.bias"] == 0.5


def test_redrawn_targets(setting):
    s = setting(target="redraw", redraw_seed=40)
    for turn in range(2):
        before = s.weights()
        drawn = redrawn_state(s.model.audio_net, 40 + turn)
        s.step()
        for key, value in s.model.audio_net.named_parameters():
            assert torch.allclose(value, (before[f"audio_net.{key}"] + drawn[key]) / 2)


def test_custom_targets(model, data):
    pretrained = {key: torch.full_like(value, 7.0) for key, value in model.audio_net.named_parameters()}
    s = Setting(model, data, target={"audio": pretrained})
    s.step()
    for key, value in model.audio_net.named_parameters():
        assert torch.allclose(value, (s.trained[f"audio_net.{key}"] + 7) / 2)
    assert set(by_layer(s.moved(), "visual_net").values()) == {0.5}  # toward its initial weights


def test_given_targets_with_a_selection_for_each_modality(model, data):
    train, val = data.loaders()
    goal = {name: value + 1 for name, value in model.audio_net.state_dict().items()}
    relearn = DiagnoseRelearn(
        model.handles(),
        lam=1.0,
        strength="fixed",
        target={"audio": goal},
        parameters={"audio": "all", "video": "last:1"},
        norm_stats="blend",
    )
    relearn.step(0, model, train, val)
    for name, value in model.audio_net.state_dict().items():
        if value.is_floating_point():
            assert torch.equal(value, goal[name])


def test_a_moving_average_as_target(setting):
    s = setting(target="ema", ema_decay=0.75)
    s.relearn.track()
    s.relearn.track()
    key = "audio_net.0.weight"
    average = 0.75**2 * s.initial[key] + (1 - 0.75**2) * s.trained[key]
    s.step()
    assert torch.allclose(s.model.state_dict()[key], (s.trained[key] + average) / 2)
    plain = Setting(s.model, type("D", (), {"loaders": lambda self: s.loaders})(), target="init")
    plain.relearn.track()  # has no effect with other targets
    assert torch.equal(plain.relearn.state_dict()["targets"]["audio"]["0.weight"], plain.initial[key])


@pytest.mark.parametrize(("policy", "share"), [("keep", 0.0), ("blend", 0.5), ("reset", 1.0)])
@pytest.mark.parametrize("parameters", ["all", "no-norm", "last:2"])
def test_norm_statistics(setting, policy, share, parameters):
    s = setting(norm_stats=policy, parameters=parameters)
    s.step()
    for net in ("audio_net", "visual_net"):
        for key in ("running_mean", "running_var"):
            full = f"{net}.1.{key}"
            expected = (1 - share) * s.trained[full] + share * s.initial[full]
            assert torch.allclose(s.model.state_dict()[full], expected)
            assert not torch.allclose(s.initial[full], s.trained[full])
        count = s.model.state_dict()[f"{net}.1.num_batches_tracked"]
        assert count == (0 if policy == "reset" else 12)


def test_norm_statistics_of_unselected_blocks(setting):
    s = setting(norm_stats="reset", parameters="last:1")
    s.step()
    assert torch.equal(s.model.audio_net[1].running_mean, s.trained["audio_net.1.running_mean"])


def test_recalibrated_norm_statistics(setting, data):
    s = setting(norm_stats="recalibrate")
    s.step()
    with torch.no_grad():
        hidden = s.model.audio_net[0](data.train[0])  # the re-learnt layer
    norm = s.model.audio_net[1]
    assert norm.num_batches_tracked == 4
    assert torch.allclose(norm.running_mean, hidden.mean(0))
    assert not torch.allclose(norm.running_mean, s.trained["audio_net.1.running_mean"], atol=1e-3)


class OwnTrain(nn.Module):
    """Keeps the normalisation of one stream in evaluation mode by its own `train`."""

    def __init__(self, model):
        super().__init__()
        self.inside = model

    def forward(self, audio, video):
        return self.inside(audio, video)

    def train(self, mode=True):
        super().train(mode)
        self.inside.audio_net[1].eval()
        return self


@pytest.mark.parametrize("norm_stats", ["recalibrate", "reset", "blend"])
@pytest.mark.parametrize(
    "how", ["a loop", "its own train", "its own train, all in evaluation", "frozen scale"]
)
def test_statistics_of_norms_kept_in_evaluation_mode_stay(model, data, norm_stats, how):
    whole, frozen, other = model, model.audio_net[1], model.visual_net[1]
    relearn = DiagnoseRelearn(model.handles(), **HALF, norm_stats=norm_stats)
    for norm in (frozen, other):
        norm.running_mean.fill_(7.0)
    if how == "a loop":
        frozen.eval()
    elif how == "frozen scale":
        frozen.requires_grad_(False)
        whole.eval()
    else:
        whole = OwnTrain(model).train()
        whole.train(how == "its own train")
    modes = [part.training for part in whole.modules()]
    relearn.step(0, whole, *data.loaders())
    assert (frozen.running_mean == 7.0).all()
    assert frozen.num_batches_tracked == 0
    assert not (other.running_mean == 7.0).any()
    assert [part.training for part in whole.modules()] == modes


@pytest.mark.parametrize("all_in_evaluation", [False, True])
def test_norms_that_train_are_recalibrated_in_either_mode(setting, all_in_evaluation):
    s = setting(norm_stats="recalibrate")
    s.model.train(not all_in_evaluation)
    s.step()
    assert s.model.audio_net[1].num_batches_tracked == 4


def test_recalibration_needs_no_logits(model, data):
    class Wordy(type(model)):
        def forward(self, audio, video):
            return {"scores": super().forward(audio, video)}

    train_loader, val_loader = data.loaders()
    wordy = Wordy().double()
    relearn = DiagnoseRelearn(wordy.handles(), **HALF, norm_stats="recalibrate")
    relearn.step(0, wordy, train_loader, val_loader)
    assert wordy.audio_net[1].num_batches_tracked == 4


@pytest.mark.parametrize(("policy", "factor"), [("keep", 1.0), ("zero", 0.0), ("scale", 0.5)])
def test_optimizer_state(setting, policy, factor):
    s = setting(optimizer_state=policy, parameters="no-norm")
    s.step()
    touched = {
        id(p) for net in (s.model.audio_net, s.model.visual_net) for i in (0, 4) for p in net[i].parameters()
    }
    for parameter, before in s.momentum.items():
        expected = before * (factor if id(parameter) in touched else 1.0)
        assert torch.allclose(s.optimizer.state[parameter]["momentum_buffer"], expected)


def test_the_head_is_blended_with_the_mean_strength(setting):
    s = setting(head_policy="blend", lam={"audio": 0.2, "video": 0.6}, optimizer_state="zero")
    s.step()
    assert s.moved()["head.weight"] == pytest.approx(0.4)
    assert s.moved()["head.bias"] == pytest.approx(0.4)
    assert not s.optimizer.state[s.model.head.weight]["momentum_buffer"].any()


@pytest.mark.parametrize("steps", [2, 11])
def test_the_head_is_refitted(setting, data, steps):
    s = setting(head_policy="refit", head_refit_steps=steps)
    calls = []
    s.model.head.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    s.step()
    assert sum(calls) == steps  # also if one pass over the data is shorter
    assert all(share == 0.5 for key, share in s.moved().items() if not key.startswith("head"))
    assert not torch.equal(s.model.head.weight, s.trained["head.weight"])


def test_refitting_lowers_the_loss(setting, data):
    def loss(s):
        s.model.eval()
        with torch.no_grad():
            return F.cross_entropy(s.model(*data.train[:2]), data.train[2]).item()

    kept = setting()
    kept.step()
    before = loss(kept)
    for key, value in kept.initial.items():
        kept.model.state_dict()[key].copy_(value)
    refitted = Setting(kept.model, data, head_policy="refit", head_refit_steps=40)
    refitted.step()
    assert loss(refitted) < before


def test_the_learning_rate_warms_up_again(setting):
    s = setting(rewarm_steps=4)
    s.step()
    s.optimizer.zero_grad()
    s.optimizer.param_groups[0]["momentum"] = 0.0
    s.model.head.bias.grad = torch.ones(3).double()
    moves = []
    for _ in range(5):
        before = s.model.head.bias.detach().clone()
        s.optimizer.step()
        moves.append((before - s.model.head.bias.detach())[0].item())
    assert moves == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])


def test_options_of_the_diagnosis_are_passed_on(setting):
    s = setting(preset="robust", metric="nmi", repeats=2)
    options = s.step().options
    assert (options.metric, options.matched_size, options.repeats) == ("nmi", True, 2)
    assert setting().step().options.matched_size is False


class Tied(nn.Module):
    """One encoder for both ears; it shares a layer with that of the eye."""

    def __init__(self) -> None:
        super().__init__()
        common = nn.Linear(4, 4)
        self.ear = nn.Sequential(nn.Linear(5, 4), common)
        self.eye = nn.Sequential(nn.Linear(5, 4), common)
        self.head = nn.Linear(12, 3)

    def forward(self, left, right, eye):
        return self.head(torch.cat([self.ear(left), self.ear(right), self.eye(eye)], dim=1))


def test_shared_encoders_and_layers_are_blended_once(data):
    torch.manual_seed(0)
    model = Tied().double()
    handles = {"left": model.ear, "right": model.ear, "eye": model.eye}
    relearn = DiagnoseRelearn(handles, strength="fixed", lam={"left": 0.2, "right": 0.4, "eye": 0.9})
    initial = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    audio, _, y = data.train
    d = relearn.step(0, model, [(audio, audio + 1, audio * 2, y)], [(audio, audio + 1, audio * 2, y)])
    assert {m: d[m].applied for m in d} == pytest.approx({"left": 0.3, "right": 0.3, "eye": 0.9})
    for key, share in (("ear.0.weight", 0.3), ("ear.1.weight", 0.3), ("eye.0.weight", 0.9)):
        assert torch.allclose(model.state_dict()[key], initial[key] + 1 - share)


@pytest.mark.parametrize("names", [("m",), ("a.b", "state"), ("0", "", "видео"), tuple("uvwxyz")])
def test_any_number_of_modalities_with_any_names(data, names):
    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nets = nn.ModuleList(nn.Linear(5, 4) for _ in names)

        def forward(self, inputs):
            return sum(net(inputs[name]) for name, net in zip(names, self.nets, strict=True))

    model = Many().double()
    relearn = DiagnoseRelearn(dict(zip(names, model.nets, strict=True)), **HALF)
    before = [net.weight.clone() for net in model.nets]
    with torch.no_grad():
        for net in model.nets:
            net.weight.add_(1.0)
    audio, _, y = data.train
    batches = [({name: audio + i for i, name in enumerate(names)}, y)]
    assert list(relearn.step(0, model, batches, batches)) == list(names)
    for net, old in zip(model.nets, before, strict=True):
        assert torch.allclose(net.weight, old + 0.5)


def test_low_precision_encoders(data):
    model = nn.Sequential(nn.Linear(5, 4)).bfloat16()
    relearn = DiagnoseRelearn({"m": model[0]}, **HALF)
    initial = model[0].weight.detach().clone()
    model[0].weight.data.add_(1.0)
    trained = model[0].weight.detach().clone()
    batches = [(data.train[0].bfloat16(), data.train[2])]
    relearn.step(0, model, batches, batches)
    expected = ((trained.float() + initial.float()) / 2).bfloat16()
    assert torch.equal(model[0].weight, expected)


def test_only_names_modalities(setting):
    s = setting(only=["video"])
    assert {m: state.applied for m, state in s.step().items()} == {"audio": 0.0, "video": 0.5}
    assert s.relearn.history[0].get("left_alone") is None
    with pytest.raises(UsageError, match="unknown modality of only 'vidoe': did you mean video"):
        setting(only=["vidoe"])
    with pytest.raises(UsageError, match="only is 'video'; expected a list"):
        setting(only="video")


def test_the_ruler_may_be_the_accuracy_of_each_modalitys_own_head(model, data):
    """Against a count of hits, sample by sample."""
    torch.manual_seed(5)
    heads = {m: torch.nn.Linear(6, 3).double() for m in model.handles()}
    options = {"metric": "auxiliary-head", "bootstrap": 0, "heads": heads}
    found = DiagnoseRelearn(model.handles(), **options).diagnose(model, *data.loaders())
    model.eval()
    for modality, place in (("audio", 0), ("video", 1)):
        scores = []
        for split in (data.train, data.val):
            hits = 0
            for row in range(len(split[2])):
                z = model.handles()[modality](split[place][row : row + 1])
                hits += int(heads[modality](z).argmax()) == int(split[2][row])
            scores.append(hits / len(split[2]))
        state = found[modality]
        assert (state.train_score, state.val_score) == pytest.approx(scores, abs=1e-12)
        assert state.gap == pytest.approx(abs(scores[0] - scores[1]), abs=1e-12)
    with pytest.raises(UsageError, match="'video' has none; give heads="):
        DiagnoseRelearn(model.handles(), metric="auxiliary-head", heads={"audio": heads["audio"]})


def test_a_head_with_fewer_logits_than_classes_is_refused(model, data):
    heads = {m: torch.nn.Linear(6, 2).double() for m in model.handles()}
    relearn = DiagnoseRelearn(model.handles(), metric="auxiliary-head", heads=heads)
    with pytest.raises(DataError, match="'audio' returns .* at least 3 classes"):
        relearn.diagnose(model, *data.loaders())


def test_a_head_may_know_classes_without_training_samples(model, data):
    """The classes are 1 and 2 of 3; the logit of class 0 is the largest and does not count."""
    kept = [tuple(part[split[2] > 0] for part in split) for split in (data.train, data.val)]
    loaders = [[split] for split in kept]
    head = torch.nn.Linear(6, 3).double()
    with torch.no_grad():
        head.bias += torch.tensor([1e6, 0.0, 0.0])
    heads = dict.fromkeys(model.handles(), head)
    relearn = DiagnoseRelearn(model.handles(), metric="auxiliary-head", heads=heads)
    found = relearn.diagnose(model, *loaders)
    z = model.eval().audio_net(kept[0][0])
    expected = (head(z)[:, 1:].argmax(dim=1) + 1 == kept[0][2]).double().mean()
    assert found["audio"].train_score == pytest.approx(float(expected))
