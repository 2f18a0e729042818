"""A method in a user-defined loop in two processes: both have the weights of one on the same batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hand_processes import Parts, drawn, trained, work
from processes import in_two_processes, torchrun

# The processes work in float64, too.
pytestmark = pytest.mark.usefixtures("float64")
METHODS: dict[str, dict[str, Any]] = {
    "joint": {},
    "multi-loss": {},
    "agm": {},
    "ogm-ge": {"end_epoch": 2},
    "arl": {"warmup_epochs": 1},
    "inforeg": {"threshold": 0.0, "beta": 2.0},
    "fixed-modulation": {"factors": {"audio": 0.3}},
    "dgl": {},
}


def test_weights_equal_those_of_one_process(tmp_path: Path) -> None:
    in_two_processes(work, tmp_path, METHODS)
    for name, options in METHODS.items():
        one, two = (torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1))
        alone = drawn()
        trained(name, options, Parts(0, 1), alone, alone)
        for key, value in alone.state_dict().items():
            assert torch.equal(one["model"][key], two["model"][key]), (name, key)
            torch.testing.assert_close(one["model"][key], value, rtol=0, atol=1e-10)
        for key, value in one["method"]["modules"].items():
            assert torch.equal(value, two["method"]["modules"][key]), (name, key)


def test_lightning_in_two_processes_equals_one(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    import methods_together

    for ended in torchrun(methods_together.__file__, tmp_path, cwd=tmp_path):
        assert ended.returncode == 0, ended.stderr[-3000:]
    for name, options in methods_together.METHODS.items():
        one, two = (torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1))
        alone = methods_together.fitted(name, options, Parts(0, 1))
        for key, value in alone.state_dict().items():
            assert torch.equal(one[key], two[key]), (name, key)
            torch.testing.assert_close(one[key], value, rtol=0, atol=1e-10)
