"""When re-learning runs, and warnings about schedules that cannot work."""

from __future__ import annotations

import pytest

from equipoise.relearning.schedule import RelearningSchedule
from equipoise.types import UsageError


def test_the_paper_runs_after_epochs_20_40_and_60():
    schedule = RelearningSchedule()
    assert [epoch for epoch in range(90) if schedule.due(epoch)] == [20, 40, 60]
    assert [epoch for epoch in range(1000) if RelearningSchedule(every=20, count=3).due(epoch)] == [
        20,
        40,
        60,
    ]


def test_other_plans():
    assert RelearningSchedule(7, 2).planned == (7, 14)
    assert RelearningSchedule(count=0).planned == ()
    assert RelearningSchedule(epochs=(9, 3, 9, 0)).planned == (0, 3, 9)
    assert RelearningSchedule(epochs=()).planned == ()
    assert RelearningSchedule(epochs=(5,), every=1, count=9).planned == (5,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every is 0"),
        ({"count": -1}, "count is -1"),
        ({"epochs": (3, -2)}, r"epochs are \[3, -2\]"),
    ],
)
def test_invalid_plans(options, message):
    with pytest.raises(UsageError, match=message):
        RelearningSchedule(**options)


def test_valid_plans_give_no_warning():
    assert RelearningSchedule().problems(90) == []
    assert RelearningSchedule().problems(90, [2e-3] * 90) == []
    assert RelearningSchedule(count=0).problems(5, [0.1] * 5) == []
    assert RelearningSchedule(epochs=(3, 50)).problems(90, [0.1] * 60 + [0.01] * 30) == []


def test_never():
    (line,) = RelearningSchedule().problems(41)
    assert "after epoch 40, 60 never takes effect" in line
    assert "ends with epoch 40" in line
    assert "Train longer" in line
    (line,) = RelearningSchedule().problems(15)
    assert "after epoch 20, 40, 60 never" in line


def test_too_late():
    (line,) = RelearningSchedule().problems(70)  # 9 epochs follow epoch 60, half a period is 10
    assert "after epoch 60 comes too late" in line
    assert "fewer than 10 of 70" in line
    assert RelearningSchedule().problems(71) == []
    (line,) = RelearningSchedule(epochs=(5, 95)).problems(100)
    assert "after epoch 95 comes too late" in line


def test_low_learning_rate():
    rates = [1.0] * 50 + [0.09] * 40
    (line,) = RelearningSchedule().problems(90, rates)
    assert "after epoch 60 meets a learning rate below 10%" in line
    assert "re-warm" in line
    # The rate of the next epoch counts, and the peak of a warm-up rather than its start.
    assert RelearningSchedule(epochs=(49,)).problems(90, rates)
    assert not RelearningSchedule(epochs=(48,)).problems(90, rates)
    assert not RelearningSchedule(epochs=(20,)).problems(90, [0.01] * 10 + [1.0] * 80)
    assert not RelearningSchedule().problems(90, [1.0] * 50 + [0.1] * 40)
    assert not RelearningSchedule().problems(90, [0.0] * 90)


def test_several_at_once():
    lines = RelearningSchedule().problems(50, [1.0] * 30 + [0.01] * 20)
    assert len(lines) == 3
