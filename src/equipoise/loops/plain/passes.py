"""One forward pass of a user's model: its batch, its results, and several passes joined into one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from equipoise.diagnosis.features.reading import BatchReader, move_batch
from equipoise.methods.core.run import StepContext
from equipoise.types import Batch

Compute = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class HandBatch(Batch):
    """A batch whose inputs only the user's model can read.

    Attributes:
        pieces: the batches of the loader; several where gradients were accumulated.
        sizes: number of samples of each piece; empty if samples of other processes are included.
    """

    pieces: tuple[Any, ...] = ()
    sizes: tuple[int, ...] = ()

    @classmethod
    def of(cls, raw: Any, reader: BatchReader) -> HandBatch:
        """Wrap a loader's batch."""
        target = reader.target(raw)
        size = int(target.shape[0])
        return cls({}, target, torch.arange(size), None, (raw,), (size,))

    def to(self, device: object, non_blocking: bool = False) -> HandBatch:
        """Return the batch on `device`."""
        where = device if isinstance(device, torch.device) else torch.device(str(device))
        pieces = tuple(move_batch(piece, where) for piece in self.pieces)
        return HandBatch({}, self.target.to(where), self.index, None, pieces, self.sizes)


@dataclass
class Pass:
    """The pass of the user's model in a training step.

    Attributes:
        batch: its batch.
        compute: runs the user's code on it.
        split: whether the method changes features before the fusion: the pass is then run in two halves.
        own: whether `compute` returns the loss that is used as the joint loss.
        features: modality to feature `[B, d_m]`, once the encoders have run.
        raw: modality to the output of its encoder.
        held: modality to the feature in that output; of joined passes, those of the last.
        logits: `[B, C]`, once the pass is over.
        result: what `compute` returned.
        streams: random states before and after the encoders, if the pass is split.
    """

    batch: HandBatch
    compute: Compute
    split: bool = False
    own: bool = False
    features: dict[str, Tensor] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)
    held: dict[str, Tensor] = field(default_factory=dict)
    logits: Tensor | None = None
    result: Any = None
    streams: list[tuple[Tensor, Tensor | None]] = field(default_factory=list)


def loss_in(result: Any) -> Tensor | None:
    """Return the loss in the result of a user's step or model: a scalar, the first of a tuple, or `loss`."""
    if isinstance(result, tuple) and result and not hasattr(result, "loss"):
        result = result[0]
    if isinstance(result, Tensor):
        return result if result.ndim == 0 else None
    found = result.get("loss") if isinstance(result, Mapping) else getattr(result, "loss", None)
    return found if isinstance(found, Tensor) else None


def with_loss(output: Any, loss: Tensor) -> Any:
    """Return a model's output with another loss."""
    if isinstance(output, tuple):
        made = (loss, *output[1:])
        return made if type(output) is tuple else type(output)(*made)
    if isinstance(output, Mapping):
        output["loss"] = loss  # type: ignore[index]  # a dict, or a ModelOutput
    else:
        output.loss = loss
    return output


def random_state(device: str) -> tuple[Tensor, Tensor | None]:
    """Return the global random states of the CPU and, if the model is on a GPU, of the GPU."""
    return torch.get_rng_state(), torch.cuda.get_rng_state() if device == "cuda" else None


def set_random_state(state: tuple[Tensor, Tensor | None]) -> None:
    """Set the global random states."""
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1])


def joined_step(steps: Sequence[tuple[StepContext, Pass]], processes: int) -> tuple[StepContext, Pass]:
    """Join the batches of an optimiser step, of one process or of several, for scores over all samples.

    A single batch of a single process is returned unchanged. Otherwise features and logits are joined without
    their graphs, in the same order in every process.
    """
    if len(steps) == 1 and processes == 1:
        return steps[0]
    context, last = copy(steps[-1][0]), copy(steps[-1][1])
    contexts, batches = [context for context, _ in steps], [step.batch for _, step in steps]

    def by_name(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: _joined([part[name] for part in parts], processes) for name in parts[0]}

    context.features, context.z = by_name([c.features for c in contexts]), by_name([c.z for c in contexts])
    context.u = _joined([c.u for c in contexts], processes)
    target = _joined([batch.target for batch in batches], processes)
    pieces = tuple(piece for batch in batches for piece in batch.pieces)
    sizes = tuple(size for batch in batches for size in batch.sizes) if processes == 1 else ()
    context.batch = HandBatch({}, target, torch.arange(len(target)), None, pieces, sizes)
    last.batch, last.features, last.logits = context.batch, context.features, context.u
    return context, last


def _joined(parts: Sequence[Tensor], processes: int) -> Tensor:
    """Return the rows of all parts, of all processes in the order of their ranks."""
    own = torch.cat([part.detach() for part in parts])
    if processes == 1:
        return own
    counts = [torch.zeros(1, dtype=torch.int64, device=own.device) for _ in range(processes)]
    dist.all_gather(counts, torch.tensor([len(own)], device=own.device))
    most = max(int(count) for count in counts)
    padded = torch.zeros((most, *own.shape[1:]), dtype=own.dtype, device=own.device)
    padded[: len(own)] = own
    found = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(found, padded)
    return torch.cat([rows[: int(count)] for rows, count in zip(found, counts, strict=True)])
