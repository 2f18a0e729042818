"""A method by hand in two processes: the weights of one process on the same batches, on both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from hand_processes import Parts, drawn, trained, work

# The processes work in float64, too.
pytestmark = pytest.mark.usefixtures("float64")
METHODS: dict[str, dict[str, Any]] = {
    "joint": {},
    "multi-loss": {},
    "ogm-ge": {"end_epoch": 2},
    "arl": {"warmup_epochs": 1},
    "inforeg": {"threshold": 0.0, "beta": 2.0},
    "fixed-modulation": {"factors": {"audio": 0.3}},
    "dgl": {},
}


def test_weights_are_those_of_one_process(tmp_path: Path) -> None:
    mp.spawn(work, (tmp_path, METHODS), nprocs=2)
    for name, options in METHODS.items():
        one, two = (torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1))
        alone = drawn()
        trained(name, options, Parts(0, 1), alone, alone)
        for key, value in alone.state_dict().items():
            assert torch.equal(one["model"][key], two["model"][key]), (name, key)
            torch.testing.assert_close(one["model"][key], value, rtol=0, atol=1e-10)
        for key, value in one["method"]["modules"].items():
            assert torch.equal(value, two["method"]["modules"][key]), (name, key)


def test_lightning_in_two_processes_ends_like_in_one(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    import methods_together

    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = Path(methods_together.__file__)
    done = subprocess.run([*command, script, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for name, options in methods_together.METHODS.items():
        one, two = (torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1))
        alone = methods_together.fitted(name, options, Parts(0, 1))
        for key, value in alone.state_dict().items():
            assert torch.equal(one[key], two[key]), (name, key)
            torch.testing.assert_close(one[key], value, rtol=0, atol=1e-10)
