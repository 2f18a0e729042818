"""lightning-fabric, without the packages that a training does not need, and the devices it can use."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import ModuleType
from typing import Any

import torch

from equipoise.distributed import process_count
from equipoise.training.settings import SCALED
from equipoise.types import UsageError

METRICS = "torchmetrics"


def make_fabric(device: str, precision: str) -> Any:
    """Return a `lightning_fabric.Fabric` for the device of this process."""
    with _unloaded_metrics():
        from lightning_fabric import Fabric
    devices: Any = 1
    chosen: Any = precision  # one of PRECISIONS, which Budget has checked
    if process_count() > 1 and torch.cuda.is_available() and device != "cpu":
        devices = [torch.cuda.current_device()]  # the one that `meet` has given it
    return Fabric(accelerator=device, devices=devices, precision=chosen)


def device_named(name: str) -> torch.device:
    """Return the device on which a run of one process computes; see `check_device`."""
    device: torch.device = make_fabric(name, "32-true").device
    return device


def meet(device: str, devices: int, nodes: int) -> None:
    """Connect this process with the others that lightning-fabric finds in its environment.

    Its strategy for data parallelism is used for no more than that, as its wrapper of the model expects a
    gradient for every parameter in every step, from a loss of each process's own samples. `SharedBatch` says
    what is exchanged instead.
    """
    with _unloaded_metrics():
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    # Numbers of the CPU are exchanged, too. Losses of processes are noticed by `Watch`, not by a timeout.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and device != "cpu" else "gloo"
    strategy = DDPStrategy(process_group_backend=backend, timeout=timedelta(days=30))
    Fabric(accelerator=device, devices=devices, num_nodes=nodes, strategy=strategy).launch()


@contextmanager
def _unloaded_metrics() -> Iterator[None]:
    """Let lightning-fabric find torchmetrics installed, but not load it.

    While it is imported, lightning-fabric checks the version of torchmetrics, which loads all of it, and
    transformers and matplotlib where they are installed. With an empty module in its place, the version comes
    from the metadata of the package. The empty module is then removed,
    so that a later import gets the real one.
    """
    if METRICS in sys.modules or "lightning_fabric" in sys.modules:
        yield
        return
    empty = ModuleType(METRICS)
    sys.modules[METRICS] = empty
    try:
        yield
    finally:
        if sys.modules.get(METRICS) is empty:
            del sys.modules[METRICS]


def passes_on(fabric: Any) -> bool:
    """Return whether fabric does nothing in a step: one process in single precision.

    Its wrappers of model and optimiser then take a tenth of the step of a small model, and can be left out.
    """
    from lightning_fabric.plugins.precision import Precision
    from lightning_fabric.strategies.single_device import SingleDeviceStrategy

    strategy = fabric.strategy
    return type(strategy) is SingleDeviceStrategy and type(strategy.precision) is Precision


def check_device(name: str, precision: str) -> None:
    """Refuse a device that this machine does not have, and a precision that the device does not have.

    Raises:
        UsageError: `cuda` or `mps` was requested, and torch finds none; or loss scaling without a GPU.
    """
    missing = (name == "cuda" and not torch.cuda.is_available()) or (
        name == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise UsageError(
            f"torch {torch.__version__} finds no {name} device on this machine; expected 'auto' or 'cpu' "
            "here, or a torch build and driver that support it."
        )
    if precision == SCALED and not (name in ("auto", "cuda") and torch.cuda.is_available()):
        where = "torch finds none" if name == "auto" else f"the device is {name!r}"
        raise UsageError(
            f"precision={precision!r} scales losses for a CUDA device, and {where}; choose bf16-mixed or "
            "32-true."
        )
