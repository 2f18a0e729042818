"""A Monitor sees what Diagnosing & Re-learning sees, and changes nothing."""

from __future__ import annotations

import copy
import json
import math
import random

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import equipoise as eq
from equipoise.relearning import DiagnoseRelearn, Monitor
from equipoise.types import DataError, EquipoiseWarning, ModelError, UnknownNameError, UsageError

EPOCHS = 4


def streams():
    """The next numbers of every global random stream, without taking them."""
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    drawn = random.random(), float(np.random.rand()), torch.rand(3).tolist()
    random.setstate(kept[0]), np.random.set_state(kept[1]), torch.set_rng_state(kept[2])
    return drawn


def traced_training(model, data, watcher=None, *, seed=None, epochs=EPOCHS):
    """Train; return every order of batches, weight, buffer, mode, moment and random number on the way."""
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    train_loader, val_loader = data.loaders(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    trace = []
    for epoch in range(epochs):
        model.train()
        model.audio_net[1].eval()  # a part that the user has frozen
        order = []
        for audio, video, y in train_loader:
            order.append(audio[:, 0].clone())
            optimizer.zero_grad()
            loss = F.cross_entropy(model(audio, video), y)
            loss.backward()
            optimizer.step()
        if watcher is not None and watcher.due(epoch):
            watcher.step(epoch, model, train_loader, val_loader)
        trace.append(
            {
                "order": torch.cat(order),
                "state": copy.deepcopy(model.state_dict()),
                "moments": copy.deepcopy(optimizer.state_dict()["state"]),
                "gradients": [p.grad.clone() for p in model.parameters()],
                "modes": [part.training for part in model.modules()],
                "streams": streams(),
                "own": None if seed is None else train_loader.generator.get_state(),
            }
        )
    return trace


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize(
    ("options", "seed"), [({}, None), ({"preset": "paper"}, 3), ({"metric": "knn", "assign": "cross-fit"}, 3)]
)
def test_training_with_it_equals_training_without_bit_for_bit(make_model, data, options, seed):
    plain, watched = make_model(), make_model()
    monitor = Monitor(
        watched.handles(), every=1, log=lambda numbers, epoch: (torch.rand(1), random.random()), **options
    )
    without = traced_training(plain, data, seed=seed)
    assert same(without, traced_training(watched, data, monitor, seed=seed))
    assert [entry["epoch"] for entry in monitor.history] == [*range(EPOCHS)]
    for part in watched.modules():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks
        assert not part._backward_hooks


def test_the_same_comparison_notices_a_relearning(make_model, data):
    with_it, without = make_model(), make_model()
    relearn = DiagnoseRelearn(with_it.handles(), every=1, count=3)
    assert not same(traced_training(without, data), traced_training(with_it, data, relearn))


def test_it_sees_what_a_relearning_would_apply(make_model, data):
    """Also with options that a strength depends on, and where one encoder is frozen."""
    for options in (
        {"preset": "paper"},
        {"preset": "robust"},
        {"preset": "paper", "allocation": "worst", "max_alpha": 0.4},
        {"preset": "paper", "strength": "linear", "only": ["audio"], "lam": {"audio": 2.0, "video": 1.0}},
    ):
        model = make_model()
        monitor = Monitor(model.handles(), **options)
        relearn = DiagnoseRelearn(model.handles(), **options)
        traced_training(model, data)
        for parameter in model.visual_net.parameters():
            parameter.requires_grad_(False)
        seen = monitor.step(3, model, *data.loaders())
        done = relearn.step(3, model, *data.loaders())
        assert seen.to_dict() == done.to_dict()
        assert seen["video"].applied == 0.0
    assert any(entry["modalities"]["audio"]["applied"] for entry in relearn.history)


def test_numbers_are_logged_under_flat_names(make_model, data):
    model, seen = make_model(), []
    monitor = Monitor(model.handles(), every=2, log=lambda numbers, epoch: seen.append((epoch, numbers)))
    traced_training(model, data, monitor)
    assert [epoch for epoch, _ in seen] == [0, 2]
    numbers = seen[-1][1]
    assert json.loads(json.dumps(numbers)) == numbers
    states = monitor.history[-1]["modalities"]
    keys = {"purity/{}/train": "train_score", "purity/{}/val": "val_score", "gap/{}": "gap"}
    expected = {
        f"equipoise/{key.format(name)}": states[name][own]
        for name in ("audio", "video")
        for key, own in {**keys, "strength/{}": "applied"}.items()
    }
    assert {key: value for key, value in numbers.items() if key != "equipoise/seconds"} == expected
    assert monitor.seconds == pytest.approx(sum(each["equipoise/seconds"] for _, each in seen))
    assert monitor.samples_forwarded == 2 * (64 + 40)


def test_the_history_as_a_table_and_in_words(make_model, data):
    model = make_model()
    monitor = Monitor(model.handles())
    assert str(monitor) == "nothing measured yet: audio, video"
    assert monitor.to_frame().empty
    assert monitor.verdicts == {}
    train_loader, val_loader = data.loaders()
    monitor.step(0, model, train_loader, val_loader)
    # Inputs that give the class away in training alone, as if the encoder knew the samples by heart.
    audio, video, y = data.train
    told = audio + 20 * F.one_hot(y, 5)
    monitor.step(5, model, [(told, video, y)], val_loader)
    frame = monitor.to_frame()
    assert list(frame.index) == [(epoch, name) for epoch in (0, 5) for name in ("audio", "video")]
    assert frame.loc[(5, "audio"), "strength"] == monitor.last["audio"].applied > 0.5
    assert list(frame["verdict"]) == ["not over-trained"] * 2 + ["over-trained", "not over-trained"]
    assert monitor.verdicts["audio"].state == "over-trained"
    text = str(monitor)
    assert f"2 looks took {monitor.seconds:.1f} s, the last after epoch 5" in text
    assert f"audio: over-trained. The gap is {frame.loc[(5, 'audio'), 'gap']:.3f} [" in text
    assert "video: not over-trained. The gap is " in text


def test_numbers_and_several_labels_as_targets():
    draw = torch.Generator().manual_seed(0)
    x = {name: torch.randn(90, 4, generator=draw) for name in ("a", "b", "c")}
    numbers = x["a"][:, 0] + 0.1 * torch.randn(90, generator=draw)
    labels = torch.stack([x["a"][:, 0] > 0, x["b"][:, 1] > 0, x["c"][:, 0] > 1], dim=1).float()

    class Three(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (torch.nn.Linear(4, 3) for _ in range(3))

        def forward(self, a, b, c):
            return self.a(a) + self.b(b) + self.c(c)

    for target, metric in ((numbers, "ridge-r2"), (labels, "linear-map")):
        sets = [
            TensorDataset(*(z[rows] for z in (*x.values(), target))) for rows in (slice(60), slice(60, 90))
        ]
        model = Three()
        monitor = Monitor({"a": model.a, "b": model.b, "c": model.c})
        found = monitor.step(0, model, *(DataLoader(part, 16) for part in sets))
        assert {state.metric for state in found.values()} == {metric}
        assert found.options.assign == "cross-fit"
        named = Monitor({"a": model.a, "b": model.b, "c": model.c}, metric=metric)
        assert named.step(0, model, *(DataLoader(part, 16) for part in sets)) == found
        assert list(monitor.to_frame().loc[0].index) == ["a", "b", "c"]
        assert str(monitor).startswith("1 look took")
        if metric == "ridge-r2":  # there are no thresholds for R2
            assert monitor.verdicts == {}
            assert list(monitor.to_frame()["verdict"]) == [None] * 3


def test_a_resumed_training_has_the_whole_history(make_model, data, tmp_path):
    model = make_model()
    monitor = Monitor(model.handles(), every=1)
    traced_training(model, data, monitor)
    torch.save(monitor.state_dict(), tmp_path / "m.pt")
    resumed = Monitor(model.handles())
    resumed.load_state_dict(torch.load(tmp_path / "m.pt", weights_only=True))
    assert resumed.history == monitor.history
    assert resumed.last == monitor.last
    assert resumed.samples_forwarded == monitor.samples_forwarded
    with pytest.raises(UsageError, match="the state has the modalities audio, video; expected audio"):
        Monitor({"audio": model.audio_net}).load_state_dict(monitor.state_dict())


def test_features_that_diverge_later_do_not_end_the_training(make_model, data):
    model = make_model()
    monitor = Monitor(model.handles())
    train_loader, val_loader = data.loaders()
    broken = [(audio * math.nan, video, y) for audio, video, y in val_loader]
    with pytest.raises(DataError, match="'audio' returned NaN"):
        monitor.step(0, model, train_loader, broken)
    monitor.step(0, model, train_loader, val_loader)
    with pytest.warns(EquipoiseWarning, match="nothing was measured after epoch 5, and the training goes on"):
        assert monitor.step(5, model, train_loader, broken) is None
    assert len(monitor.history) == 1
    with pytest.raises(ModelError, match="not part of the model"):
        Monitor({"audio": torch.nn.Linear(1, 1)}).step(0, model, train_loader, val_loader)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "every is 0"),
        ({"every": 2.5}, "every is 2.5"),
        ({"lamda": 3}, "option of Monitor 'lamda': did you mean lam"),
        ({"norm_stats": "reset"}, "option of Monitor 'norm_stats'"),
        ({"log": "tensorboard"}, "log is 'tensorboard'; expected a logger"),
        ({"preset": "robst"}, "did you mean robust"),
        ({"metric": "auxiliary-head"}, "'audio' has none; give heads="),
    ],
)
def test_invalid_arguments_are_refused_at_once(model, arguments, message):
    with pytest.raises(UsageError, match=message):
        Monitor(model.handles(), **arguments)


def test_no_copy_of_the_weights_is_kept(model):
    """Unlike a re-learner, which holds the initial weights."""
    held = [value for value in vars(Monitor(model.handles())).values() if isinstance(value, dict)]
    tensors = [x for one in held for x in one.values() if isinstance(x, torch.Tensor)]
    assert tensors == []
    assert eq.Monitor is Monitor
    with pytest.raises(UnknownNameError):
        Monitor(model.handles(), target="init")
