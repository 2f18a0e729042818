from __future__ import annotations

import pytest
import torch
from torch import nn

from equipoise.models.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.937])
def test_drops_the_stated_share_of_numbers_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    n = 400_003  # not a multiple of the numbers drawn at once
    x = torch.ones(n)
    changed = Dropout(p)(x)
    share = float((changed == 0).float().mean())
    assert abs(share - p) < 5 * (p * (1 - p) / n) ** 0.5
    values = changed[changed != 0]
    assert values.unique().numel() == 1
    # Unbiased for the probability of zero that was drawn, p rounded to 1/65536.
    assert float(values[0]) == pytest.approx(1 / (1 - round(p * 65536) / 65536), rel=1e-6)


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(1)
    zero = (Dropout(0.5)(torch.ones(800_000)) == 0).double() - 0.5
    for lag in (1, 2, 3, 4, 8):  # four numbers share one draw
        assert abs(float((zero[lag:] * zero[:-lag]).mean()) * 4) < 5 / 800_000**0.5


def test_gradient_is_the_mask_and_the_draw_depends_on_the_seed_alone() -> None:
    x = torch.randn(7, 3, 5, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(3)
    first = Dropout(0.4)(x)
    first.sum().backward()
    torch.manual_seed(3)
    assert torch.equal(Dropout(0.4)(x), first)
    assert first.dtype == torch.float64
    assert torch.equal(x.grad * x, first)
    torch.manual_seed(4)
    assert not torch.equal(Dropout(0.4)(x), first)


def test_evaluation_mode_and_the_extremes_are_those_of_torch() -> None:
    x = torch.randn(5, 4)
    assert Dropout(0.5).eval()(x) is x
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(1.0)(x), torch.zeros_like(x))
    assert isinstance(Dropout(), nn.Dropout)
    assert Dropout(0.5)(torch.empty(0, 3)).shape == (0, 3)


def test_half_precision_is_kept() -> None:
    torch.manual_seed(0)
    changed = Dropout(0.5)(torch.ones(100, dtype=torch.bfloat16))
    assert changed.dtype == torch.bfloat16
    assert set(changed.tolist()) == {0.0, 2.0}
