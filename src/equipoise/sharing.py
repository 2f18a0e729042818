"""Samples that several processes share: batches of which each encodes a part, and blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from equipoise.distributed import process_count, process_rank
from equipoise.randomness import derive_seed
from equipoise.types import Batch


@dataclass(frozen=True, slots=True)
class SharedBatch(Batch):
    """A batch of which every process has the targets of all samples, and the inputs of some.

    A model encodes the inputs of its process, and the features of all are then exchanged (see
    `BalancedModel.encode`). Whatever follows reads the whole batch in every process, as in one process alone.

    Attributes:
        owner: the process that has the inputs of each sample `[B]`, on the CPU.
        rank: this process.
    """

    owner: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    rank: int = 0

    @classmethod
    def of(cls, own: Batch, target: Tensor, index: Tensor, rank: int, processes: int) -> SharedBatch:
        """Return a batch of which process r has the samples `r, r + P, r + 2 P, ...`; `own` are ours."""
        return cls(own.inputs, target, index, None, torch.arange(len(target)) % processes, rank)

    def to(self, device: object, non_blocking: bool = False) -> SharedBatch:
        """Return the batch on `device`."""
        # Not super(): a dataclass with slots is another class than the one that is being defined here.
        moved = Batch.to(self, device, non_blocking)
        return SharedBatch(moved.inputs, moved.target, moved.index, moved.keep, self.owner, self.rank)

    @property
    def mine(self) -> Tensor:
        """The samples of this process, by position in the batch, on the CPU."""
        return (self.owner == self.rank).nonzero()[:, 0]

    def own(self) -> Batch:
        """Return the samples of this process."""
        mine = self.mine.to(self.target.device, non_blocking=True)
        keep = self.keep and {name: kept[mine] for name, kept in self.keep.items()}
        return Batch(self.inputs, self.target[mine], self.index[mine], keep)

    def chosen(self, which: Tensor) -> SharedBatch:
        """Return the samples for which `which [B]` (bool) is true; each stays with its process."""
        mine = which.cpu()[self.owner == self.rank]
        inputs = {name: x[mine.to(x.device)] for name, x in self.inputs.items()}
        return SharedBatch(
            inputs, self.target[which], self.index[which], None, self.owner[which.cpu()], self.rank
        )

    def followed_by(self, other: SharedBatch) -> SharedBatch:
        """Return the samples of this batch and another one."""
        inputs = {name: torch.cat([x, other.inputs[name]]) for name, x in self.inputs.items()}
        parts = (
            torch.cat([getattr(self, name), getattr(other, name)]) for name in ("target", "index", "owner")
        )
        target, index, owner = parts
        return SharedBatch(inputs, target, index, None, owner, self.rank)

    def exchanged(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return features `[B, d_m]` of all samples, from those that each process has encoded.

        All processes must call it. They compute the same loss of all samples, so that the mean of the
        gradients of the processes is the gradient that one process computes alone.
        """
        widths = [z.shape[1:] for z in own.values()]
        columns = torch.cat([z.flatten(1) for z in own.values()], dim=1)
        every: Tensor = _Exchange.apply(columns, self.owner, self.rank)  # type: ignore[no-untyped-call]
        parts = torch.split(every, [width.numel() for width in widths], dim=1)
        return {
            name: part.reshape(len(self), *width)
            for name, part, width in zip(own, parts, widths, strict=True)
        }

    @contextmanager
    def own_randomness(self) -> Iterator[None]:
        """Draw other random numbers in each process, such as those of dropout, within a block.

        Modules that ask for `shared_draws` draw for the whole batch, as one process does. After the block the
        random states of all processes are equal again.
        """
        state = torch.get_rng_state()
        common = torch.Generator()
        common.set_state(state)
        draws = SharedDraws(common, len(self), self.mine)
        devices = [torch.cuda.current_device()] if self.target.is_cuda else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(derive_seed("share", state.numpy().tobytes(), self.rank))
            begin = torch.get_rng_state()
            token = _draws.set(draws)
            try:
                yield
            finally:
                _draws.reset(token)
            own = self.target.is_cuda or not torch.equal(torch.get_rng_state(), begin)
        if own:  # so that the next block has another seed
            torch.randint(2, (), generator=common)
        torch.set_rng_state(self._agreed(common.get_state()))

    def _agreed(self, state: Tensor) -> Tensor:
        """Return a random state in which processes without a sample, which draw nothing, follow others."""
        if len(torch.unique(self.owner)) == process_count():
            return state
        shared = state.to(exchange_device())
        dist.broadcast(shared, src=int(self.owner[0]))
        return shared.cpu()


@dataclass(frozen=True)
class SharedDraws:
    """How random numbers are drawn for the samples of a `SharedBatch`.

    Attributes:
        generator: on the CPU, in the same state in all processes.
        total: samples of all processes.
        mine: those of this process.
    """

    generator: torch.Generator
    total: int
    mine: Tensor


_draws: ContextVar[SharedDraws | None] = ContextVar("draws", default=None)


def shared_draws() -> SharedDraws | None:
    """Return how to draw numbers for a batch that processes share; None where none is being encoded."""
    return _draws.get()


def mean_of_rows(x: Tensor) -> Tensor:
    """Return the mean of rows `[B, ...]`, without a graph; of a batch that processes share, of all rows."""
    x = x.detach()
    if _draws.get() is None:
        return x.mean(dim=0)
    count = torch.full_like(x.sum(dim=0).reshape(-1)[:1], len(x))
    total = torch.cat([x.sum(dim=0).reshape(-1), count])
    dist.all_reduce(total)
    return (total[:-1] / total[-1]).reshape(x.shape[1:])


class _Exchange(torch.autograd.Function):
    """Rows of all processes from those of each."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, owner: Tensor, rank: int) -> Tensor:
        processes = process_count()
        counts = torch.bincount(owner, minlength=processes).tolist()
        padded = own.new_zeros((max(counts), own.shape[1]))
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        ctx.mine = (owner == rank).nonzero()[:, 0].to(own.device, non_blocking=True)
        ctx.processes = processes
        rows = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
        # Row i of `rows` is that of sample `order[i]`.
        order = owner.argsort(stable=True)
        return rows[order.argsort().to(rows.device, non_blocking=True)]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][ctx.mine] * ctx.processes, None, None


def with_inputs(batch: Batch | Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> Any:
    """Return other inputs of the same samples, for a model's `encode`."""
    return replace(batch, inputs=inputs) if isinstance(batch, SharedBatch) else inputs


@dataclass(frozen=True)
class Blocks:
    """Rows `0 .. N - 1` in consecutive blocks, one for each process.

    All processes must call the methods that exchange something, in the same order.

    Attributes:
        sizes: rows of each process.
        rank: this process.
    """

    sizes: tuple[int, ...]
    rank: int

    @classmethod
    def alone(cls, count: int) -> Blocks:
        """Return one block, of all rows."""
        return cls((count,), 0)

    @classmethod
    def shared(cls, count: int) -> Blocks:
        """Return blocks of nearly equal sizes for all processes."""
        processes = process_count()
        bounds = [count * rank // processes for rank in range(processes + 1)]
        sizes = tuple(stop - start for start, stop in pairwise(bounds))
        return cls(sizes, process_rank())

    def chosen(self, rows: NDArray[np.int64]) -> Blocks:
        """Return the blocks of some rows, in order; each stays with its process."""
        ends = np.searchsorted(rows, np.cumsum(self.sizes))
        return Blocks(tuple(int(size) for size in np.diff(ends, prepend=0)), self.rank)

    @property
    def total(self) -> int:
        """Number of rows of all processes."""
        return sum(self.sizes)

    @property
    def start(self) -> int:
        """The first row of this process."""
        return sum(self.sizes[: self.rank])

    @property
    def own(self) -> slice:
        """The rows of this process."""
        return slice(self.start, self.start + self.sizes[self.rank])

    def sum(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the sum of an array over all processes."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def before(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the sum of an array over the processes before this one."""
        if len(self.sizes) == 1:
            return np.zeros_like(values)
        every = np.zeros((len(self.sizes), *values.shape), values.dtype)
        every[self.rank] = values
        before: NDArray[Any] = self.sum(every)[: self.rank].sum(axis=0)
        return before

    def lowest(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the smallest value of each entry of an array over all processes."""
        return self._reduced(values, dist.ReduceOp.MIN)

    def highest(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the largest value of each entry of an array over all processes."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def rows(self, own: NDArray[Any], wanted: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows by their number, each from the process that has it."""
        if len(self.sizes) == 1:
            found: NDArray[Any] = own[wanted]
            return found
        places = wanted - self.start
        here = (places >= 0) & (places < self.sizes[self.rank])
        rows = np.zeros((*wanted.shape, *own.shape[1:]), own.dtype)
        rows[here] = own[places[here]]
        return self.sum(rows)

    def joined(self, own: NDArray[Any]) -> NDArray[Any]:
        """Return the rows of all processes, in order."""
        if len(self.sizes) == 1:
            return own
        padded = torch.zeros((max(self.sizes), *own.shape[1:]), dtype=torch.from_numpy(own[:0]).dtype)
        padded[: len(own)] = torch.from_numpy(own)
        padded = padded.to(exchange_device())
        parts = [torch.empty_like(padded) for _ in self.sizes]
        dist.all_gather(parts, padded)
        kept = [part[:size].cpu() for part, size in zip(parts, self.sizes, strict=True)]
        return torch.cat(kept).numpy()

    def _reduced(self, values: NDArray[Any], operation: Any) -> NDArray[Any]:
        if len(self.sizes) == 1:
            return values
        shared = torch.tensor(values, device=exchange_device())
        dist.all_reduce(shared, operation)
        return shared.cpu().numpy()


def exchange_device() -> torch.device:
    """Return the device on which the processes can exchange numbers of the CPU."""
    on_cpu = "gloo" in dist.get_backend_config() or "mpi" in dist.get_backend_config()
    return torch.device("cpu") if on_cpu else torch.device("cuda", torch.cuda.current_device())
