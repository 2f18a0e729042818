"""`--compile`: compiled encoders, with the results of others to rounding."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import equipoise as eq
from equipoise.models.compiled import compile_forward
from equipoise.types import UnknownNameError

QUICK: dict[str, Any] = {"epochs": 3, "batch_size": 32, "device": "cpu"}


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Callable[..., Any]]:
    """Put a function that notes what it is given in place of the compiler."""
    given: list[Callable[..., Any]] = []

    def compile(forward: Callable[..., Any], mode: str) -> Callable[..., Any]:
        assert mode == "default"
        given.append(forward)
        return forward

    monkeypatch.setattr(torch, "compile", compile)
    return given


def test_a_copy_has_its_own_weights_and_everything_else_stays(compiled: list[Callable[..., Any]]) -> None:
    layer = nn.Linear(3, 2)
    names, calls = set(layer.state_dict()), []
    layer.register_forward_hook(lambda *_: calls.append(1))
    compile_forward([layer], "default")
    assert set(layer.state_dict()) == names
    assert list(layer.modules()) == [layer]
    other = copy.deepcopy(nn.Sequential(layer))[0]
    x = torch.ones(1, 3)
    expected = layer(x).clone()
    with torch.no_grad():
        other.weight.zero_()
        other.bias.zero_()
    assert torch.equal(layer(x), expected)
    assert torch.equal(other(x), torch.zeros(1, 2))
    assert len(calls) == 3
    assert len(compiled) == 2


def test_encoders_are_compiled_and_the_record_says_so(
    data: str, tmp_path: Path, compiled: list[Callable[..., Any]]
) -> None:
    plain = eq.fit(data, out=tmp_path / "plain", **QUICK)
    assert not compiled
    result = eq.fit(data, out=tmp_path / "compiled", compile="default", **QUICK)
    assert len(compiled) == 2
    assert result.test == plain.test
    assert "compile: default" in (tmp_path / "compiled" / "config.yaml").read_text()
    assert all("forward" not in vars(part) for part in result.model.modules())


def test_an_unknown_mode_is_refused(data: str) -> None:
    with pytest.raises(UnknownNameError, match="did you mean default"):
        eq.fit(data, compile="defautl", **QUICK)


@pytest.mark.matrix
def test_results_agree_to_rounding_with_dropout_and_re_learning(data: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method_options": {"epochs": [1]}, **QUICK}
    plain, compiled = (
        eq.fit(data, "diagnose-relearn", out=tmp_path / str(mode), compile=mode, **options)
        for mode in (None, "default")
    )
    for one, other in zip(plain.model.parameters(), compiled.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert compiled.test["loss"] == pytest.approx(plain.test["loss"], abs=1e-4)
