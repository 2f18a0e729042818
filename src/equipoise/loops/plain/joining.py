"""Several batches, of one process or of several, taken for the one batch of an optimiser step."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
import torch.distributed as dist
from torch import Tensor

from equipoise.distributed import process_count
from equipoise.loops.plain.batch import HandBatch
from equipoise.loops.plain.passes import Pass
from equipoise.methods.core.run import StepContext


def joined_step(steps: Sequence[tuple[StepContext, Pass]]) -> tuple[StepContext, Pass]:
    """Return the context and pass that a method reads behind the backward passes.

    A single batch of a single process is returned as it is. Else scores are taken over all samples: features
    and logits are joined without their graphs, in the same order in every process.
    """
    if len(steps) == 1 and process_count() == 1:
        return steps[0]
    context, last = copy(steps[-1][0]), copy(steps[-1][1])
    context.features, context.z, context.u = (
        _by_name([c.features for c, _ in steps]),
        _by_name([c.z for c, _ in steps]),
        _joined([c.u for c, _ in steps]),
    )
    own = HandBatch.joined([step.batch for _, step in steps])
    target = _joined([own.target])
    context.batch = HandBatch(
        {}, target, torch.arange(len(target)), None, own.pieces, own.sizes if process_count() == 1 else ()
    )
    last.batch, last.features, last.logits = context.batch, context.features, context.u
    return context, last


def _by_name(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: _joined([part[name] for part in parts]) for name in parts[0]}


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Return rows of all parts, and of all processes by rank."""
    own = torch.cat([part.detach() for part in parts])
    if process_count() == 1:
        return own
    counts = [torch.zeros(1, dtype=torch.int64, device=own.device) for _ in range(process_count())]
    dist.all_gather(counts, torch.tensor([len(own)], device=own.device))
    most = max(int(count) for count in counts)
    padded = torch.zeros((most, *own.shape[1:]), dtype=own.dtype, device=own.device)
    padded[: len(own)] = own
    found = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(found, padded)
    return torch.cat([rows[: int(count)] for rows, count in zip(found, counts, strict=True)])
