"""The cost of a run is counted by observing the encoders, not by the methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import equipoise as eq
import synthetic
from equipoise.methods import METHODS, Counters, StepContext
from equipoise.methods.joint import Joint
from equipoise.training.measuring.cost import PassCounter, PeakMemory

TRAIN, EPOCHS = 90, 4  # of 150 samples 60 % are for training
QUICK: dict[str, Any] = {"epochs": EPOCHS, "batch_size": 16, "diagnose_every": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data") / "toy"
    synthetic.write(folder)
    return str(folder)


def test_passes_by_hand() -> None:
    counters = Counters()
    counter = PassCounter(counters)
    encoder = nn.Linear(3, 2)
    counter.watch(encoder)
    x = torch.randn(5, 3)
    encoder(x).sum().backward()
    assert (counters.forward_passes, counters.backward_passes) == (0, 0)  # counting has not started
    with counter.counting():
        encoder(x)
        assert (counters.forward_passes, counters.backward_passes) == (5, 0)
        z = encoder(x)
        z.sum().backward(retain_graph=True)
        torch.autograd.grad(z.sum(), list(encoder.parameters()))  # also a backward pass
        assert (counters.forward_passes, counters.backward_passes) == (10, 10)
        with torch.no_grad():
            encoder(x)
        encoder(x).detach().requires_grad_().sum().backward()  # stops before the encoder
        with counter.counting(False):
            encoder(x).sum().backward()
        assert (counters.forward_passes, counters.backward_passes) == (20, 10)
        encoder.requires_grad_(False)
        encoder(x)
    assert (counters.forward_passes, counters.backward_passes) == (25, 10)


def cost(data: str, method: str, **options: Any) -> tuple[float, float]:
    """Samples passed forward and backward, in epochs of joint training."""
    summary = eq.fit(data, method, **{**QUICK, **options}).summary
    seen = summary["split_sizes"]["train"] * EPOCHS
    assert summary["split_sizes"]["train"] == TRAIN
    return summary["forward_samples"] / seen, summary["backward_samples"] / seen


def test_what_methods_cost(data: str) -> None:
    assert cost(data, "joint") == (1, 1)
    assert cost(data, "joint", diagnose_every=1) == (1, 1)  # diagnoses do not count as cost of a method
    assert cost(data, "unimodal:audio") == (0.5, 0.5)  # one of two encoders
    assert cost(data, "ensemble") == (1, 1)
    assert cost(data, "pretrain-frozen") == (2, 1)
    assert cost(data, "pretrain-finetune") == (2, 2)
    assert cost(data, "multi-loss") == (1, 1)
    relearn = {"method_options": {"every": 1, "count": 2}}
    assert cost(data, "diagnose-relearn", **relearn)[0] == pytest.approx(1 + 2 * (90 + 30) / (90 * EPOCHS))


def test_additional_passes_of_a_method_are_counted(data: str) -> None:
    class Twice(Joint):
        name = "twice"

        def after_backward(self, context: StepContext) -> None:
            context.run.model.encode(context.batch, only=["audio"])["audio"].sum().backward()

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS._entries(), "twice", Twice)
        assert cost(data, "twice") == (1.5, 1.5)


def test_peak_memory(data: str, tmp_path: Path) -> None:
    watched = PeakMemory(torch.device("cpu"))
    before = watched.bytes()
    if before is None:
        pytest.skip("the peak memory of a process is available on Linux only")
    block = torch.ones(64 * 2**20 // 4)
    assert watched.bytes() - before > 48 * 2**20
    del block
    again = PeakMemory(torch.device("cpu"))
    assert again.bytes() < watched.bytes() + 16 * 2**20  # the next run does not start at the peak of the last
    assert PeakMemory(torch.device("cpu"), earlier=2**50).bytes() == 2**50
    assert eq.fit(data, **QUICK).summary["peak_memory_bytes"] > 2**20
