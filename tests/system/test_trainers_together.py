"""Lightning and transformers in two processes: one decision, equal weights, and resumable checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from processes import torchrun
from two_processes import VALIDATION, N

SCRIPT = Path(__file__).parents[1] / "support" / "trainers_together.py"
SAMPLES = {"lightning": (5 * 8 * 2, VALIDATION), "transformers": (N, VALIDATION)}
CHECKPOINTS = {"lightning": "epoch=1.ckpt", "transformers": "trainer/checkpoint-14"}


def run(kind: str, folder: Path, *resumed: str) -> list[dict[str, Any]]:
    for ended in torchrun(SCRIPT, kind, folder, *resumed, cwd=folder):
        assert ended.returncode == 0, ended.stderr[-3000:]
    name = "again" if resumed else "whole"
    return [torch.load(folder / f"{name}{rank}.pt", weights_only=True) for rank in (0, 1)]


def is_statistic(name: str) -> bool:
    """Running statistics differ between processes until the wrapper synchronises them in its next pass."""
    return "running" in name


@pytest.mark.parametrize("kind", ["lightning", pytest.param("transformers", marks=pytest.mark.matrix)])
def test_processes_agree_and_resume_from_a_checkpoint(kind: str, tmp_path: Path) -> None:
    pytest.importorskip(kind)
    first, second = run(kind, tmp_path)
    assert first["history"] == second["history"]
    assert [entry["epoch"] for entry in first["history"]] == [1, 2]
    audio = first["history"][0]["modalities"]["audio"]
    assert audio["applied"] > 0
    assert (audio["n_train"], audio["n_val"]) == SAMPLES[kind]  # of both processes
    again = run(kind, tmp_path, str(tmp_path / CHECKPOINTS[kind]))
    assert again[0]["history"] == first["history"]
    for name, value in first["weights"].items():
        if not is_statistic(name):
            assert torch.equal(value, second["weights"][name]), name
            assert torch.equal(value, again[0]["weights"][name]), name
