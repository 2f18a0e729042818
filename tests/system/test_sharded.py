"""Re-learning with sharded weights, and with processes that estimate from their own share of the samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from processes import in_two_processes
from sharded import FIXED, averages, built, refusals, relearnt, shard_work, tensors
from two_processes import N, loaders, samples

# The processes work in float64, too.
pytestmark = pytest.mark.usefixtures("float64")


def loaded(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


OPTIONS = {
    "paper": {"every": 1, "count": 2},
    "other": {**FIXED, "target": "ema", "optimizer_state": "scale", "norm_stats": "blend"},
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_sharded_re_learning_equals_that_of_one_process(tmp_path: Path, kind: str) -> None:
    in_two_processes(shard_work, tmp_path, OPTIONS[kind])
    one, two = loaded(tmp_path)
    expected = relearnt(built(), loaders(shared=False), OPTIONS[kind])
    assert one["state1"] == two["state1"]
    assert all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(two), strict=True))
    for name, state in one["state1"].items():
        assert state["applied"] == pytest.approx(expected["state1"][name]["applied"], abs=1e-8)
        assert state["applied"] > 0
    for found, wanted in zip(tensors(one), tensors(expected), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-8)


def test_unsupported_uses_are_refused(tmp_path: Path) -> None:
    in_two_processes(refusals, tmp_path)


def test_statistics_and_head_use_all_processes(tmp_path: Path) -> None:
    in_two_processes(averages, tmp_path)
    one, two = loaded(tmp_path)
    for key, value in one["after"].items():
        assert torch.equal(value, two["after"][key]), key
    for key, value in one["end"].items():  # the wrapper synchronises statistics at the start of its next pass
        assert "running" in key or torch.equal(value, two["end"][key]), key
    first = built().audio[0]
    data = samples(N, 0)
    means = []
    for rank in range(2):  # the mean over the batches of a process
        shares = DistributedSampler(data, num_replicas=2, rank=rank)
        with torch.no_grad():
            means.append(
                torch.stack([first(batch[0]).mean(0) for batch in DataLoader(data, 8, sampler=shares)])
            )
    expected = torch.stack(means).mean(dim=(0, 1))
    torch.testing.assert_close(one["after"]["audio.1.running_mean"], expected, rtol=0, atol=1e-10)
