"""Conditional learning speed: for some steps, isolate the branch that depends most on the others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from equipoise.methods.core.options import number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Run, StepContext
from equipoise.methods.core.search import LogUniform, Whole, space
from equipoise.methods.shared.gradients import squared_norm, trainable
from equipoise.methods.shared.windows import Windowed
from equipoise.models import MidFusionModel
from equipoise.tasks import EVERY_TASK

TINY = 1e-30
"""Replaces a squared norm of zero."""


def relative_speeds(main: Mapping[str, float], by: Mapping[str, float]) -> dict[str, float]:
    """Return `D^m = log10(mu_by^m / mu_main^m)` of the summed speeds of a branch and of its gates.

    A branch of which one of the speeds is zero has no `D^m`, and is left out.
    """
    return {m: math.log10(by[m] / main[m]) for m in main if by[m] > 0 and main[m] > 0}


@dataclass
class Greedy(Windowed):
    """Balance the conditional learning speeds of the branches of a model with MMTM blocks.

    Each step that is not curated adds `||grad||^2 / ||parameters||^2` of encoder m to `mu_main^m`, and that
    of the block parameters which serve m to `mu_by^m`; `D^m` is `log10(mu_by^m / mu_main^m)`. Once
    `max_m D^m - min_m D^m > eps`, the next `window` steps are curated: the gates of `argmax_m D^m` are
    replaced by their running means, so that this branch gets no signal from the others. Only trained branches
    are measured and compared: a frozen encoder would have speed zero. The loss is `CE(u, y)`.

    Attributes:
        eps: difference of speeds that starts a curation.
        window: steps of a curation; 0 is the plain model.
        start_epoch: first epoch (0-based) with curation; speeds are summed from the first step on.
    """

    eps: float = number(0.01)
    window: int = number(5)
    start_epoch: int = 2

    name = "greedy"
    family = "forward"
    summary = "for some steps, isolate the branch that learns most through cross-modal gates"
    source = "Wu, Jastrzebski, Cho, Geras, ICML 2022, arXiv 2202.05306"
    bibtex = ("wu2022characterizing",)
    cost = "a norm over all gradients and weights per step"
    search_space = space(eps=LogUniform(0.001, 0.1), window=Whole(1, 20))
    requires = Requirements(frozenset({"gates"}), min_modalities=2, tasks=EVERY_TASK)
    remembered = ("_main", "_by", "_target", "_left")

    def setup(self, run: Run) -> None:
        """Start with speeds of zero."""
        self._main, self._by = (dict.fromkeys(run.model.modalities, 0.0) for _ in range(2))
        self._target: str | None = None
        self._left = 0

    @contextmanager
    def scope(self, context: StepContext) -> Iterator[None]:
        """Run a forward pass of training, curated if that is due."""
        model = cast("MidFusionModel", context.run.model)
        model.curate(self._curated(context.run))
        try:
            yield
        finally:
            model.curate(None)

    def after_backward(self, context: StepContext) -> None:
        """Count down a curation, or measure the speeds and start one if it is due."""
        run = context.run
        if self._curated(run) is not None:
            self._left -= 1
            return
        self._left = 0  # the end of the window also ends a curation
        learning = self._measure(run)
        speeds = {m: d for m, d in relative_speeds(self._main, self._by).items() if m in learning}
        if len(speeds) < 2 or not self.in_window(run):
            return
        if max(speeds.values()) - min(speeds.values()) > self.eps:
            self._target, self._left = max(speeds, key=lambda m: speeds[m]), self.window

    def _curated(self, run: Run) -> str | None:
        return self._target if self._left > 0 and self.in_window(run) else None

    def _measure(self, run: Run) -> list[str]:
        """Add the speeds of a step; return the trained branches, which are those measured."""
        model = cast("MidFusionModel", run.model)
        groups: list[list[nn.Parameter]] = []
        learning = []
        for m in model.modalities:
            own = trainable(model.encoder_parameters(m))
            if any(p.grad is not None for p in own):
                learning.append(m)
                groups += [own, trainable(model.block_parameters(m))]
        if not learning:
            return learning
        gradients = [[p.grad for p in group if p.grad is not None] for group in groups]
        lists: list[Iterable[Tensor]] = [*gradients, *groups]
        norms = [squared_norm(x).to(run.device) for x in lists]
        # One transfer for all numbers, as each one synchronises with the device.
        values = torch.stack(norms).tolist()
        ratios = [g / max(w, TINY) for g, w in zip(values[: len(groups)], values[len(groups) :], strict=True)]
        for i, m in enumerate(learning):
            self._main[m] += ratios[2 * i]
            self._by[m] += ratios[2 * i + 1]
        return learning
