"""The processes that train a run together."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch

from equipoise.distributed import process_count, process_rank
from equipoise.training.fabric import meet
from equipoise.training.processes.watch import Watch, meeting
from equipoise.types import EquipoiseWarning, UsageError

_watch: Watch | None = None


@dataclass(frozen=True)
class Arrangement:
    """How many processes train a run together.

    Attributes:
        devices: processes on each machine, each with its device.
        nodes: machines.
        started: whether torchrun, SLURM or the like has started them, this one among them.
    """

    devices: int = 1
    nodes: int = 1
    started: bool = False

    @property
    def count(self) -> int:
        """Number of processes."""
        return self.devices * self.nodes


def arranged(devices: int | None, nodes: int | None, device: str) -> Arrangement:
    """Return the processes of a run: those that have been started, or else those that are asked for.

    Raises:
        UsageError: the numbers are impossible, or not those of the processes that have been started.
    """
    for name, value in (("devices", devices), ("nodes", nodes)):
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}; expected at least 1.")
    found = _started(devices, nodes) or Arrangement(devices or 1, nodes or 1)
    for name, wanted, there in (("devices", devices, found.devices), ("nodes", nodes, found.nodes)):
        if wanted not in (None, there):
            raise UsageError(
                f"{name} is {wanted}, but {found.devices} processes have been started on each of "
                f"{found.nodes} machines; leave {name} out."
            )
    if found.devices > 1 and (device == "mps" or (device == "auto" and torch.backends.mps.is_available())):
        raise UsageError("several processes cannot share an mps device; expected device 'cpu'.")
    if device in ("auto", "cuda") and 0 < torch.cuda.device_count() < found.devices:
        raise UsageError(
            f"devices is {found.devices}, and torch finds {torch.cuda.device_count()} cuda devices on this "
            "machine; give as many as there are, or device 'cpu'."
        )
    return found


def _started(devices: int | None, nodes: int | None) -> Arrangement | None:
    """Return the processes that torchrun, SLURM, LSF or MPI has started; None if this one is alone."""
    environment = _environment()
    if environment is None:
        return None
    size, told = int(environment.world_size()), os.environ
    match type(environment).__name__:
        case "TorchElasticEnvironment":
            local = int(told.get("LOCAL_WORLD_SIZE", devices or size))
        case "SLURMEnvironment":
            local = size // int(told.get("SLURM_NNODES", nodes or 1))
        case _:
            local = size // (nodes or 1)
    return Arrangement(local, size // local, started=True)


STARTERS: Final = {
    "TorchElastic": ("TORCHELASTIC_RUN_ID",),
    "SLURM": ("SLURM_STEP_ID",),  # set by srun; a batch script has the other variables, too
    "LSF": ("JSM_NAMESPACE_SIZE",),
    "MPI": ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"),
}
"""Environments of lightning-fabric, in the order in which it looks for them, and variables that show them."""


def _environment() -> Any:
    """Return lightning-fabric's view of the processes that were started; None if this one is alone."""
    for name, variables in STARTERS.items():
        if not any(variable in os.environ for variable in variables):
            continue
        from lightning_fabric.plugins import environments

        kind = getattr(environments, f"{name}Environment")
        try:
            found = kind() if kind.detect() else None
        except RuntimeError as error:  # such as tasks of SLURM without their number on each machine
            raise UsageError(f"lightning-fabric cannot use the processes of {name}: {error}") from None
        if found is not None:
            return found if int(found.world_size()) > 1 else None
    return None


def speaks(nodes: int | None) -> bool:
    """Return whether this process shows what a run does: the first of those that have been started."""
    environment = _environment()
    if environment is not None:
        return int(environment.global_rank()) == 0
    return (nodes or 1) == 1 or os.environ.get("NODE_RANK", "0") == "0"


def refuse_several() -> None:
    """Refuse a comparison or a tuning that torchrun or the like has started in several processes.

    Raises:
        UsageError: it has.
    """
    if (found := _started(None, None)) is not None:
        raise UsageError(
            f"the command has been started in {found.count} processes, each of which would compute all of "
            "it; start it once: only 'equipoise train' shares a run."
        )


@contextmanager
def joined(arrangement: Arrangement, device: str) -> Iterator[None]:
    """Meet the other processes for a block, and end all of them if one fails or is lost.

    A run within a run shares its processes.
    """
    global _watch
    if not arrangement.started or _watch is not None:
        yield
        return
    with meeting(arrangement.count):
        if process_count() == 1:
            meet(device, arrangement.devices, arrangement.nodes)
        _watch = Watch(quiet=bool(os.environ.get(LAUNCHED)))
    _watch.start()
    try:
        with warnings.catch_warnings():
            if process_rank():  # they are those of the first process
                warnings.simplefilter("ignore", EquipoiseWarning)
            yield
        _watch.stop()
        torch.distributed.barrier()
    except Exception as error:
        found = _watch.explained(error)
        if _watch.repeated(found):
            raise SystemExit(getattr(found, "exit_code", 1)) from None
        if found is error:
            raise
        raise found from error
    finally:
        _watch.stop()
        _watch = None


LAUNCHED = "EQUIPOISE_LAUNCHED"
"""Variable of the environment of processes that `launch` has started."""
