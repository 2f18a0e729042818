"""A method by hand in two processes: the weights of one process on the same batches, on both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

from hand_processes import Parts, drawn, trained, work

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
            torch.testing.assert_close(one["model"][key], value, rtol=0, atol=1e-6)
        for key, value in one["method"]["modules"].items():
            assert torch.equal(value, two["method"]["modules"][key]), (name, key)
