"""Diagnosing & Re-learning in a plain loop, against a second implementation of the whole algorithm."""

from __future__ import annotations

import copy
import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.preprocessing import MinMaxScaler
from torch import nn
from torch.nn import functional as F

from equipoise.diagnosis import Diagnosis
from equipoise.relearning import DiagnoseRelearn
from equipoise.types import DataError, EquipoiseWarning, ModelError, UnknownNameError, UsageError

EPOCHS = 9


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=0.02)


def train_one_epoch(model, optimizer, loader):
    model.train()
    for audio, video, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(audio, video), y).backward()
        optimizer.step()


def weights(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def identical(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def slow_purity(features, labels):
    scaled = MinMaxScaler((-1, 1)).fit_transform(features)
    clusters = KMeans(len(set(labels)), random_state=0, n_init=10).fit(scaled).labels_
    agreeing = 0
    for k in set(clusters):
        inside = [label for label, cluster in zip(labels, clusters, strict=True) if cluster == k]
        agreeing += max(inside.count(label) for label in set(inside))
    return agreeing / len(labels)


def slow_algorithm(model, data, make_optimizer, fires, lam):
    """Algorithm of methods.md B.1, from its text; returns the strengths."""
    names = {"audio": "audio_net", "video": "visual_net"}
    theta0 = {key: value.detach().clone().numpy() for key, value in model.named_parameters()}
    optimizer, (loader, _) = make_optimizer(model), data.loaders()
    alphas = []
    for epoch in range(EPOCHS):
        train_one_epoch(model, optimizer, loader)
        if epoch not in fires:
            continue
        model.eval()
        for position, (modality, attribute) in enumerate(names.items()):
            encoder, purities = getattr(model, attribute), []
            for split in (data.train, data.val):
                with torch.no_grad():
                    z = encoder(split[position]).numpy()
                purities.append(slow_purity(z, split[2].tolist()))
            alpha = math.tanh(lam[modality] * abs(purities[0] - purities[1]))
            alphas.append((epoch, modality, *purities, alpha))
            for key, parameter in model.named_parameters():
                if key.startswith(f"{attribute}."):
                    blended = (1 - alpha) * parameter.detach().numpy() + alpha * theta0[key]
                    parameter.data.copy_(torch.from_numpy(blended))
    return alphas


@pytest.mark.parametrize("make_optimizer", [sgd, adamw])
@pytest.mark.parametrize("lam", [3.0, {"audio": 12.0, "video": 5.0}])
def test_equals_the_slow_definition(model, data, make_optimizer, lam):
    slow = copy.deepcopy(model)
    torch.manual_seed(1)
    by_name = lam if isinstance(lam, dict) else {"audio": lam, "video": lam}
    expected = slow_algorithm(slow, data, make_optimizer, (2, 4, 6), by_name)

    torch.manual_seed(1)
    train_loader, val_loader = data.loaders()
    optimizer, found = make_optimizer(model), []
    relearn = DiagnoseRelearn(
        {"audio": model.audio_net, "video": model.visual_net}, every=2, count=3, lam=lam
    )
    for epoch in range(EPOCHS):
        train_one_epoch(model, optimizer, train_loader)
        if relearn.due(epoch):
            d = relearn.step(epoch, model, train_loader, val_loader)
            assert isinstance(d, Diagnosis)
            found += [(epoch, m, d[m].train_score, d[m].val_score, d[m].applied) for m in d]

    assert [entry[:2] for entry in found] == [(e, m) for e in (2, 4, 6) for m in ("audio", "video")]
    for mine, reference in zip(found, expected, strict=True):
        assert mine[2:] == pytest.approx(reference[2:], abs=1e-6)
    assert max(entry[4] for entry in found) > 0.2  # there was a gap to re-learn for
    for key, value in slow.state_dict().items():
        assert model.state_dict()[key].numpy() == pytest.approx(value.numpy(), abs=1e-6)
    assert [entry["epoch"] for entry in relearn.history] == [2, 4, 6]
    assert relearn.history[0]["modalities"]["video"]["applied"] == found[1][4]
    assert relearn.samples_forwarded == 3 * (64 + 40)


def streams():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def whole_training(model, data, make_optimizer=sgd, **options):
    """Order and dropout use the global stream here; without options there is no re-learning."""
    torch.manual_seed(1)
    train_loader, val_loader = data.loaders(seed=None)
    optimizer = make_optimizer(model)
    needs = {"optimizer": optimizer, "head": model.head} if options else {}
    relearn = DiagnoseRelearn(model.handles(), **options, **needs) if options else None
    for epoch in range(EPOCHS):
        train_one_epoch(model, optimizer, train_loader)
        if relearn:
            relearn.track()
            if relearn.due(epoch):
                relearn.step(epoch, model, train_loader, val_loader)
    moments = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    return weights(model), moments, streams()


OFF = [
    {"lam": 0.0},
    {"lam": 0.0, "preset": "robust", "backend": "torch"},
    {"lam": {"audio": 0.0, "video": 0.0}, "strength": "linear", "target": "redraw"},
    {
        "lam": 0.0,
        "norm_stats": "recalibrate",
        "optimizer_state": "zero",
        "head_policy": "refit",
        "rewarm_steps": 4,
    },
    {"lam": 0.0, "norm_stats": "reset", "head_policy": "blend", "target": "ema", "strength": "fixed"},
    {"lam": 3.0, "max_alpha": 0.0},
    {"lam": 3.0, "min_gap": 1.0},
    {"lam": 3.0, "count": 0},
    {"lam": 3.0, "epochs": ()},
]


@pytest.mark.parametrize("options", OFF)
def test_switched_off_it_equals_joint_training_bit_for_bit(make_model, data, options):
    joint = whole_training(make_model(), data)
    off = whole_training(make_model(), data, **{"every": 2, "count": 3, **options})
    assert identical(joint[0], off[0])
    assert all(torch.equal(a, b) for a, b in zip(joint[1], off[1], strict=True))
    assert joint[2] == off[2]
    on = whole_training(make_model(), data, every=2, count=3)
    assert not identical(joint[0], on[0])


def test_two_runs_of_one_seed_are_identical(make_model, data):
    options = {
        "every": 2,
        "preset": "robust",
        "target": "redraw",
        "norm_stats": "recalibrate",
        "rewarm_steps": 3,
    }
    first, second = (whole_training(make_model(), data, **options) for _ in range(2))
    assert identical(first[0], second[0])
    assert first[2] == second[2]


@pytest.mark.parametrize(
    "options",
    [
        {"norm_stats": "recalibrate"},
        {"head_policy": "refit", "head_refit_steps": 9},
        {"target": "redraw", "norm_stats": "reset", "optimizer_state": "zero"},
    ],
)
@pytest.mark.parametrize("seed", [None, 3])
def test_a_step_does_not_change_streams_modes_and_gradients(model, data, options, seed):
    train_loader, val_loader = data.loaders(seed)
    optimizer = sgd(model)
    train_one_epoch(model, optimizer, train_loader)
    model.audio_net[1].eval()
    modes = [part.training for part in model.modules()]
    gradients = [p.grad.clone() for p in model.parameters()]
    relearn = DiagnoseRelearn(
        model.handles(), strength="fixed", lam=0.5, optimizer=optimizer, head=model.head, **options
    )
    before = streams()
    own = None if seed is None else train_loader.generator.get_state()
    relearn.step(0, model, train_loader, val_loader)
    assert streams() == before
    assert seed is None or torch.equal(train_loader.generator.get_state(), own)
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))


RESUMED = [
    {},
    {"target": "ema", "ema_decay": 0.5, "norm_stats": "blend"},
    {"target": "redraw", "optimizer_state": "scale", "rewarm_steps": 7},
    {"preset": "robust", "head_policy": "blend", "min_gap": "bootstrap"},
]


@pytest.mark.parametrize("options", RESUMED)
def test_an_interrupted_training_resumes_identically(make_model, data, tmp_path, options):
    options = {"every": 2, "lam": 2.0, **options}
    train_loader, val_loader = data.loaders()

    def build():
        model = make_model()
        optimizer = adamw(model)
        return (
            model,
            optimizer,
            DiagnoseRelearn(model.handles(), optimizer=optimizer, head=model.head, **options),
        )

    def run(parts, epochs):
        model, optimizer, relearn = parts
        for epoch in epochs:
            train_one_epoch(model, optimizer, train_loader)
            relearn.track()
            if relearn.due(epoch):
                relearn.step(epoch, model, train_loader, val_loader)

    def saved(parts):
        return {"parts": [part.state_dict() for part in parts], "rng": torch.get_rng_state(),
                "order": train_loader.generator.get_state()}  # fmt: skip

    whole = build()
    torch.manual_seed(4)
    run(whole, range(3))
    torch.save(saved(whole), tmp_path / "checkpoint.pt")
    run(whole, range(3, EPOCHS))
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    resumed = build()
    for part, own in zip(resumed, state["parts"], strict=True):
        part.load_state_dict(own)
    torch.set_rng_state(state["rng"])
    train_loader.generator.set_state(state["order"])
    assert [entry["epoch"] for entry in resumed[2].history] == [2]
    run(resumed, range(3, EPOCHS))
    assert identical(weights(whole[0]), weights(resumed[0]))
    assert whole[2].history == resumed[2].history
    assert whole[2].samples_forwarded == resumed[2].samples_forwarded


def test_state_dicts_are_copied_on_saving_and_loading(make_model):
    def relearner(model):
        return DiagnoseRelearn(model.handles(), target="ema", ema_decay=0.5)

    one, other = (relearner(make_model(seed)) for seed in (0, 1))
    state = one.state_dict()
    other.load_state_dict(state)
    kept = {m: {k: v.clone() for k, v in target.items()} for m, target in state["targets"].items()}
    other.track()
    assert all(identical(state["targets"][m], kept[m]) for m in kept)
    with pytest.raises(UsageError, match="modalities audio, video; expected audio"):
        DiagnoseRelearn({"audio": one.encoders["audio"]}).load_state_dict(state)


def test_samples_that_the_loss_ignores_are_left_out(make_model, data):
    """Targets of -100 are no class: the step equals one without these samples."""
    ignored = (torch.arange(64) % 5 == 1, torch.arange(40) % 7 == 2)
    without = replace(
        data, train=tuple(t[~ignored[0]] for t in data.train), val=tuple(t[~ignored[1]] for t in data.val)
    )
    masked = copy.deepcopy(data)
    for split, rows in zip((masked.train, masked.val), ignored, strict=True):
        split[2][rows] = -100
    found = []
    for each in (masked, without):
        model = make_model()
        relearn = DiagnoseRelearn(model.handles(), every=1, count=1)
        for parameter in model.audio_net.parameters():
            parameter.data.mul_(1.5)
        diagnosis = relearn.step(1, model, *each.loaders())
        found.append((diagnosis.to_dict(), weights(model)))
    assert found[0][0] == found[1][0]
    assert identical(found[0][1], found[1][1])
    assert found[0][0]["audio"]["n_train"] == 51


def test_the_order_of_modalities_does_not_matter(make_model, data):
    def run(order):
        model = make_model()
        train_loader, val_loader = data.loaders()
        relearn = DiagnoseRelearn({m: model.handles()[m] for m in order}, every=2)
        optimizer = sgd(model)
        torch.manual_seed(2)
        for epoch in range(4):
            train_one_epoch(model, optimizer, train_loader)
            if relearn.due(epoch):
                d = relearn.step(epoch, model, train_loader, val_loader)
        return weights(model), d

    forth, back = run(["audio", "video"]), run(["video", "audio"])
    assert identical(forth[0], back[0])
    assert list(forth[1]) == list(back[1])[::-1]
    assert dict(forth[1]) == dict(back[1])


def test_relearning_one_modality_does_not_change_the_others(model, data):
    train_loader, val_loader = data.loaders()
    before = weights(model)
    relearn = DiagnoseRelearn({"eyes": model.visual_net}, strength="fixed", lam=1.0)
    train_one_epoch(model, sgd(model), train_loader)
    trained = weights(model)
    relearn.step(0, model, train_loader, val_loader)
    for key, parameter in model.named_parameters():
        expected = before if key.startswith("visual_net") else trained
        assert torch.equal(parameter, expected[key])


def test_due(model):
    relearn = DiagnoseRelearn(model.handles(), every=20, count=3, lam=3.0)
    assert [epoch for epoch in range(90) if relearn.due(epoch)] == [20, 40, 60]
    assert [e for e in range(90) if DiagnoseRelearn(model.handles(), epochs=[7, 50]).due(e)] == [7, 50]


def test_checks_before_training(model):
    relearn = DiagnoseRelearn(model.handles())
    assert relearn.check(90) == relearn.check(90, [0.1] * 90) == []
    with pytest.warns(EquipoiseWarning, match="after epoch 60 never"):
        assert len(relearn.check(61)) == 1
    with pytest.warns(EquipoiseWarning, match="after epoch 60 comes too late"):
        assert len(relearn.check(65)) == 1
    rates = [1.0] * 50 + [0.01] * 40
    with pytest.warns(EquipoiseWarning, match="after epoch 60 meets a learning rate"):
        assert len(relearn.check(90, rates)) == 1
    warmed = DiagnoseRelearn(model.handles(), optimizer=sgd(model), rewarm_steps=5)
    assert warmed.check(90, [1.0] * 90) == []


def test_a_failing_step_changes_nothing(model, data):
    train_loader, val_loader = data.loaders()
    relearn = DiagnoseRelearn(model.handles(), strength="fixed", lam=0.5)
    train_one_epoch(model, sgd(model), train_loader)
    before = weights(model)
    audio, video, y = data.val
    for split, error, message in (
        ([], DataError, "gave no batch"),
        ([(audio, video, torch.where(y == 2, 1, y))], DataError, "no sample in the validation split: 2"),
        ([(audio * float("nan"), video, y)], DataError, "'audio' returned NaN"),
    ):
        with pytest.raises(error, match=message):
            relearn.step(0, model, train_loader, split)
    elsewhere = DiagnoseRelearn({"audio": torch.nn.Linear(1, 1)})
    with pytest.raises(ModelError, match="not part of the model"):
        elsewhere.step(0, model, train_loader, val_loader)
    assert identical(before, weights(model))
    assert relearn.history == elsewhere.history == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"lamda": 3}, UnknownNameError, "option of DiagnoseRelearn 'lamda': did you mean lam"),
        ({"scalar": "none"}, UnknownNameError, "did you mean scaler"),
        ({"preset": "papr"}, UnknownNameError, "did you mean paper"),
        ({"metric": "purty"}, UnknownNameError, "did you mean purity"),
        ({"strength": "tan"}, UnknownNameError, "did you mean tanh"),
        ({"target": "inti"}, UnknownNameError, "did you mean init"),
        ({"norm_stats": "recalibrat"}, UnknownNameError, "did you mean recalibrate"),
        ({"optimizer_state": "zeros"}, UnknownNameError, "did you mean zero"),
        ({"head_policy": "refitt"}, UnknownNameError, "did you mean refit"),
        ({"parameters": "no-norms"}, UnknownNameError, "did you mean no-norm"),
        ({"parameters": "last:9"}, UsageError, "more blocks than Sequential has"),
        ({"layer_strength": {"5": 1.0}}, UnknownNameError, "layer of layer_strength '5'"),
        ({"layer_strength": {"0": -1.0}}, UsageError, "layer_strength"),
        ({"lam": -1.0}, UsageError, "lam is -1"),
        ({"lam": {"audio": 1.0}}, UsageError, "lam lacks the modality 'video'"),
        ({"lam": {"audio": 1.0, "video": None}}, UsageError, "lam is None; expected a number"),
        ({"lam": {"audio": 1.0, "video": "3"}}, UsageError, "lam is '3'; expected a number"),
        ({"lam": "high"}, UsageError, "lam is 'high'; expected a number"),
        ({"lam": {"audio": 1.0, "vidio": 1.0}}, UnknownNameError, "did you mean video"),
        ({"max_alpha": 1.5}, UsageError, "max_strength is 1.5"),
        ({"ema_decay": 1.0}, UsageError, "ema_decay is 1"),
        ({"rewarm_steps": -1}, UsageError, "rewarm_steps"),
        ({"every": 0}, UsageError, "every is 0"),
        ({"target": {"vidio": {}}}, UnknownNameError, "modality of target 'vidio': did you mean video"),
        ({"target": {"video": {}}}, ModelError, "initial state lacks 6 of the 6 tensors"),
        ({"optimizer_state": "zero"}, UsageError, "optimizer_state needs the optimiser"),
        ({"rewarm_steps": 3}, UsageError, "rewarm_steps needs the optimiser"),
        ({"head_policy": "blend"}, UsageError, "needs the head"),
    ],
)  # fmt: skip
def test_invalid_options_are_refused_at_once(model, arguments, error, message):
    with pytest.raises(error, match=message):
        DiagnoseRelearn(model.handles(), **arguments)


def test_handles_that_are_not_modules(model):
    with pytest.raises(UsageError, match="no encoder was given"):
        DiagnoseRelearn({})
    with pytest.raises(UsageError, match="handle of 'audio' is a str"):
        DiagnoseRelearn({"audio": "audio_net"})


def test_an_impossible_redraw_is_refused_at_once():
    class Token(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = torch.nn.Parameter(torch.zeros(3))

    with pytest.raises(ModelError, match="cannot be drawn anew"):
        DiagnoseRelearn({"m": Token()}, target="redraw")


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (nn.LazyLinear(4), "'a' is lazy and has no weights yet; run the model on one batch first"),
        (torch.jit.trace(nn.Linear(3, 4), torch.zeros(1, 3)), "'a' comes from torch.jit"),
    ],
)
def test_encoders_that_cannot_be_re_learnt(encoder: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        DiagnoseRelearn({"a": encoder, "b": nn.Linear(3, 4)})
