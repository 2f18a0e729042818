"""One pass of a user's model, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from equipoise.loops.plain.batch import HandBatch

Compute = Callable[[], Any]


@dataclass
class Pass:
    """The pass of the user's model that a training step consists of.

    Attributes:
        batch: its batch.
        compute: runs the user's code on it.
        own: whether `compute` gives the loss that stands for the joint one.
        split: whether features are looked at before the fusion reads them: then the pass is cut in two.
        features: modality to feature `[B, d_m]`, once the encoders have run.
        raw: modality to what its encoder returned.
        held: modality to the feature in it; several passes that are taken for one have those of the last.
        logits: `[B, C]`, once the pass is over.
        result: what `compute` returned.
        streams: random states at the begin and behind the encoders, where the pass is split.
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
    """Return the loss in what a user's step or model returned: a number, or under the name `loss`."""
    if isinstance(result, Tensor):
        return result if result.ndim == 0 else None
    found = result.get("loss") if isinstance(result, Mapping) else getattr(result, "loss", None)
    return found if isinstance(found, Tensor) else None


def random_state(device: str) -> tuple[Tensor, Tensor | None]:
    """Return the global random states of the CPU and, where the model is on one, of the GPU."""
    return torch.get_rng_state(), torch.cuda.get_rng_state() if device == "cuda" else None


def set_random_state(state: tuple[Tensor, Tensor | None]) -> None:
    """Take global random states over."""
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1])
