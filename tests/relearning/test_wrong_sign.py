"""A gap of the wrong sign, validation purer than training by chance, and few validation samples per class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from equipoise.diagnosis import diagnose
from equipoise.diagnosis.options import PRESETS
from equipoise.relearning import DiagnoseRelearn
from equipoise.types import EquipoiseWarning

CLASSES = 27


def noise(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(n, 16, generator=torch.Generator().manual_seed(seed)), torch.arange(n) % CLASSES


def informed(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise whose class can be seen."""
    x, y = noise(n, seed)
    return x + 4 * torch.randn(CLASSES, 16, generator=torch.Generator().manual_seed(9))[y], y


def step_on(train, val, **options):
    """Re-learn an encoder that is the identity plus 1; return the diagnosis, its bias and the history."""
    encoder = nn.Linear(16, 16)
    nn.init.eye_(encoder.weight)
    nn.init.zeros_(encoder.bias)
    relearn = DiagnoseRelearn({"m": encoder}, **options)
    with torch.no_grad():
        encoder.bias.add_(1.0)
    state = relearn.step(0, nn.Sequential(encoder), [train], [val])["m"]
    return state, float(encoder.bias[0].detach()), relearn.history[0]


FEW = noise(27 * 40, 0), noise(108, 1)
REVERSED = noise(27 * 40, 0), informed(27 * 40, 1)
"""Validation is separable and training is not: an interval below zero under every preset that refits."""


def test_the_paper_re_initialises_on_a_gap_of_the_wrong_sign_and_warns_with_the_remedy():
    with pytest.warns(EquipoiseWarning, match=r"108 samples of 27 classes.*preset='robust'") as caught:
        state, bias, _ = step_on(*FEW)
    assert len([w for w in caught if w.category is EquipoiseWarning]) == 1
    assert state.train_score < state.val_score
    assert state.interval[1] < 0
    assert state.applied == pytest.approx(np.tanh(3 * (state.val_score - state.train_score)))
    assert bias == pytest.approx(1 - state.applied, abs=1e-6)


@pytest.mark.parametrize("metric", ["nearest-class-mean", "nmi"])
def test_it_warns_with_other_measures_of_classes_too(metric):
    with pytest.warns(EquipoiseWarning, match=rf"108 samples.*the gap of {metric} is chance"):
        state, _, _ = step_on(*FEW, metric=metric)
    assert state.applied > 0.3


def test_the_paper_warns_once(recwarn):
    encoder = nn.Linear(16, 16)
    relearn = DiagnoseRelearn({"m": encoder})
    model = nn.Sequential(encoder)
    for epoch in range(2):
        relearn.step(epoch, model, [FEW[0]], [FEW[1]])
    assert len([w for w in recwarn if w.category is EquipoiseWarning]) == 1


@pytest.mark.parametrize("count", [269, 270])
def test_ten_samples_per_class_are_enough_for_the_paper(count, recwarn):
    step_on(noise(27 * 40, 0), noise(count, 1))
    assert len([w for w in recwarn if w.category is EquipoiseWarning]) == (count < 10 * CLASSES)


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"paper"}))
@pytest.mark.parametrize(
    "options",
    [{}, {"leave_alone": False}, {"min_gap": 0.0}, {"bootstrap": 0}, {"strength": "fixed", "min_gap": 0.0}],
)
def test_no_other_preset_re_learns_on_a_gap_of_the_wrong_sign(preset, options):
    assign = {"assign": "refit"} if preset == "held-out" else {}
    state, bias, history = step_on(*REVERSED, preset=preset, **assign, **options)
    assert state.train_score < state.val_score
    assert (state.gap, state.applied, bias) == (0, 0, 1)
    assert list(history["left_alone"]) == ["m"]
    if not options:
        low, high = state.interval
        assert history["left_alone"]["m"] == f"the interval of its gap, [{low:.3f}, {high:.3f}], lies below 0"
    else:
        assert "is below that of validation" in history["left_alone"]["m"]


def test_leave_alone_needs_an_interval_above_zero_under_the_paper_too():
    state, bias, history = step_on(*REVERSED, leave_alone=True)
    assert state.interval[1] < 0
    assert bias == 1
    assert "lies below 0" in history["left_alone"]["m"]


def test_an_over_trained_encoder_is_re_learnt_by_every_preset():
    for preset in PRESETS:
        assign = {"assign": "refit"} if preset == "held-out" else {}
        state, bias, _ = step_on(*REVERSED[::-1], preset=preset, **assign)
        assert state.train_score > state.val_score
        assert state.applied > 0.5
        assert bias < 0.5


@pytest.mark.parametrize("preset", PRESETS)
def test_the_strength_of_a_diagnosis_has_the_same_rule(preset):
    (x, y), (x_val, y_val) = REVERSED
    assign = {"assign": "refit"} if preset == "held-out" else {}
    state = diagnose({"m": x}, y, {"m": x_val}, y_val, preset=preset, **assign)["m"]
    assert (state.strength() > 0) == (preset == "paper")
    assert (state.strength(1.0, kind="fixed") > 0) == (preset == "paper")
