"""Regulation of encoders that lead while they still acquire information."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.methods.core.method import Method, joint_loss
from equipoise.methods.core.options import choice, number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Run, StepContext
from equipoise.methods.core.search import LogUniform, Uniform, space
from equipoise.methods.shared.modulation import Modulates
from equipoise.methods.shared.unimodal_views import ReadsUnimodal
from equipoise.methods.shared.windows import Windowed
from equipoise.models.precision import widened
from equipoise.tasks import EVERY_TASK, task_named


def still_grows(traces: list[float], threshold: float) -> bool:
    """Whether the last two traces fulfil `(Tr_{e-1} - Tr_{e-2}) / Tr_{e-1} > K`; False for fewer than two."""
    if len(traces) < 2 or traces[-1] <= 0:
        return False
    return (traces[-1] - traces[-2]) / traces[-1] > threshold


def mean_leads(scores: Mapping[str, float]) -> dict[str, float]:
    """Return `Delta_m`, the mean lead of m over modalities with a smaller score, else 0."""
    leads = {m: [score - s for s in scores.values() if s < score] for m, score in scores.items()}
    return {m: sum(gaps) / len(gaps) if gaps else 0.0 for m, gaps in leads.items()}


@dataclass
class InfoReg(ReadsUnimodal, Windowed):
    """Tie a leading encoder to its weights at the start of the epoch, while its window is open.

    The trace `Tr^m_e` is the mean squared norm of the gradient of encoder m over the batches of epoch e. The
    window of m is open in epoch `e >= 2` if `(Tr_{e-1} - Tr_{e-2}) / Tr_{e-1} > K`. The score is the negative
    unimodal loss (for classes the mean log-probability of the true class), and `Delta_m` its mean lead over
    the weaker modalities. An open window adds `a / 2 * |theta_m - theta_m^start|^2` to the loss where
    `Delta_m > 0`, with `a = exp(beta * tanh(Delta_m))`.

    Attributes:
        beta: strength of the regulation, at most 10, where `a` can reach 2e4.
        threshold: `K`, the relative growth of the trace that keeps the window open; it never opens at 1 or
            more.
        loss: `joint`, or `joint+unimodal` which adds `sum_m CE(u^m, y)`.
    """

    beta: float = number(0.9, high=10)
    threshold: float = number(0.04)
    loss: str = choice("joint", "joint+unimodal")

    name = "inforeg"
    family = "optimisation"
    summary = "tie encoders that lead to their recent weights while they acquire information"
    stacks = True
    source = "Huang et al., CVPR 2025, arXiv 2503.18595"
    bibtex = ("huang2025adaptive",)
    cost = "a copy of the encoders, and a head slice per modality per step"
    search_space = space(beta=Uniform(0.1, 1), threshold=LogUniform(0.01, 0.1))
    requires = Requirements(min_modalities=2, tasks=EVERY_TASK)
    remembered = ("_traces",)

    def conflicts(self, other: Method) -> str:
        """Refuse methods that scale the gradients of which the traces are measured."""
        if isinstance(other, Modulates):
            return f"{self.name} measures the encoders' gradients and adds to them, which {other.name} scales"
        return super().conflicts(other)

    def setup(self, run: Run) -> None:
        """Start without traces."""
        super().setup(run)
        self._traces: dict[str, list[float]] = {m: [] for m in run.model.modalities}
        self._anchors: dict[str, list[Tensor]] = {}
        self._squares: dict[str, list[Tensor]] = {m: [] for m in run.model.modalities}

    def epoch_start(self, run: Run) -> None:
        """Find the open windows, and copy the weights of their encoders."""
        self._squares = {m: [] for m in run.model.modalities}
        self._anchors = {
            m: [p.detach().clone() for _, p in run.model.encoder_parameters(m)]
            for m in run.model.modalities
            if self.in_window(run) and still_grows(self._traces[m], self.threshold)
        }

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the joint term, and the unimodal one if that is chosen."""
        if self.loss == "joint":
            return {"joint": joint_loss(context)}
        return {"joint": joint_loss(context), "unimodal": self.unimodal_loss(context)}

    def after_backward(self, context: StepContext) -> None:
        """Measure the gradients, then add those of the penalties."""
        model = context.run.model
        for m in model.modalities:
            gradients = [p.grad for _, p in model.encoder_parameters(m) if p.grad is not None]
            if gradients:
                self._squares[m].append(torch.stack([widened(g).square().sum() for g in gradients]).sum())
        if not self._anchors:
            return
        task = task_named(model.task)
        scores = {
            m: -float(task.loss(widened(u), context.batch.target))
            for m, u in self.unimodal(context, detached=True).items()
        }
        for m, lead in mean_leads(scores).items():
            if m not in self._anchors or lead <= 0:
                continue
            a = math.exp(self.beta * math.tanh(lead))
            for (_, p), anchor in zip(model.encoder_parameters(m), self._anchors[m], strict=True):
                if p.grad is not None:
                    p.grad.add_(p.detach() - anchor, alpha=a)

    def epoch_end(self, run: Run) -> None:
        """Compute the traces of the epoch."""
        for m, squares in self._squares.items():
            found = torch.stack(squares) if squares else torch.zeros(0)
            if len(finite := found[found.isfinite()]):  # others are of steps that a loss scaler skips
                trace = float(finite.mean())
                self._traces[m] = [*self._traces[m], trace][-2:]
        last = {m: traces[-1] for m, traces in self._traces.items() if traces}
        run.record("information", traces=last, regulated=list(self._anchors))
