"""Joint training: one loss on the fused logits."""

from __future__ import annotations

from dataclasses import dataclass

from equipoise.methods.core.method import Method
from equipoise.methods.core.requirements import Requirements
from equipoise.tasks import EVERY_TASK


@dataclass
class Joint(Method):
    """Train all encoders and the fusion by `L = CE(u, y)`: the baseline of every comparison."""

    name = "joint"
    family = "reference"
    summary = "one cross-entropy on the fused logits"
    requires = Requirements(tasks=EVERY_TASK)
    stacks = True
    shards = True
    source = "the usual baseline"
