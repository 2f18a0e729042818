"""Gradient-Blending: losses weighted by the generalisation of each stream, online and offline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from equipoise.methods.core.options import choice, number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Plan, Run, StepContext, own_heads
from equipoise.methods.core.search import LogUniform, Whole, space
from equipoise.methods.shared.heldout import HoldsOut
from equipoise.methods.shared.positions import chunks, shuffled, stratified
from equipoise.models import BalancedModel, OwnHeads
from equipoise.randomness import isolated_rng
from equipoise.scopes import evaluating
from equipoise.tasks import EVERY_TASK

JOINT = ""
"""Key of the joint stream; no modality has an empty name."""

LEAST = 1e-8
"""Smallest relative growth used with a floor of 0, to avoid division by zero."""

Losses = Mapping[str, tuple[float, float]]
"""Stream to its mean loss on training samples and on held-out ones."""


def blend_weights(start: Losses, end: Losses, floor: float = 0.1) -> dict[str, float] | None:
    """Return `w_k`, proportional to `G_k / dO_k^2` and with sum 1; None if no stream improved.

    `G_k = V_k(start) - V_k(end)` is the gain on held-out samples, at least 0, and `dO_k` the growth of
    `O_k = V_k - T_k`. `|dO_k|` is at least `floor` times the largest one: otherwise a stream that by chance
    does not overfit would get all the weight. If no stream overfits, the gains decide.
    """
    gains = {k: max(start[k][1] - end[k][1], 0.0) for k in start}
    growth = {k: abs((end[k][1] - end[k][0]) - (start[k][1] - start[k][0])) for k in start}
    largest = max(growth.values()) or 1.0  # if all are 0, all get the floor
    ratios = {k: gains[k] / max(growth[k] / largest, floor, LEAST) ** 2 for k in start}
    total = sum(ratios.values())
    return {k: ratio / total for k, ratio in ratios.items()} if total > 0 else None


@dataclass
class GBlend(HoldsOut):
    """Weight the loss of each modality and the joint one by generalisation: `L = sum_k w_k CE(u^k, y)`.

    The streams k are the modalities, each with a separate linear head, and the joint model. Every weight
    comes from a probe: the stream is trained alone for some epochs from the present weights, its losses
    before and after are compared (`blend_weights`), and all weights are restored.

    Attributes:
        mode: `online` estimates the weights every `super_epoch` epochs, `offline` once, before the first
            epoch, over the whole length of training.
        super_epoch: epochs between online estimates.
        probe_epochs: epochs of a probe; None is the number of epochs that its weights are used for.
        floor: see `blend_weights`; 0 is the plain formula.
    """

    mode: str = choice("online", "offline")
    super_epoch: int = number(10, low=1)
    probe_epochs: int | None = number(None, low=1)
    floor: float = number(0.1, high=1)

    name = "gblend"
    family = "objective"
    summary = "blend unimodal and joint losses by generalisation against overfitting"
    source = "Wang, Tran and Feiszli, CVPR 2020, arXiv 1905.12681"
    bibtex = ("wang2020makes",)
    cost = "probes: with the defaults the cost of two more trainings"
    search_space = space(super_epoch=Whole(2, 20), floor=LogUniform(0.01, 1))
    requires = Requirements(min_modalities=2, tasks=EVERY_TASK)
    replaces_loss = True
    remembered = ("weights",)

    def extra_modules(self, model: BalancedModel, plan: Plan) -> dict[str, nn.Module]:
        """Return a linear head for each modality."""
        return {"heads": OwnHeads(model.feature_widths(), model.num_outputs)}

    def own_gradients(self) -> bool:
        """Whether probes train: always, with optimisers of their own."""
        return True

    def setup(self, run: Run) -> None:
        """Start from equal weights, and draw as many training samples to measure on as are held out."""
        super().setup(run)
        streams = (*run.model.modalities, JOINT)
        self.weights = {stream: 1 / len(streams) for stream in streams}
        share = self.heldout / (1 - self.heldout)
        chosen = stratified(run.train_target[self.seen_positions], share, run.generator)
        self._measured = self.seen_positions[chosen] if chosen.any() else self.seen_positions

    def epoch_start(self, run: Run) -> None:
        """Estimate the weights if that is due."""
        super().epoch_start(run)
        left = run.total_epochs - run.epoch
        if self.mode == "offline" and not run.epoch:
            self._estimate(run, self.probe_epochs or left)
        if self.mode == "online" and run.epoch % self.super_epoch == 0:
            self._estimate(run, self.probe_epochs or min(self.super_epoch, left))

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the blend."""
        logits = context.unimodal_logits("aux")
        logits[JOINT] = context.u
        parts = [w * context.run.loss(logits[k], context.batch.target) for k, w in self.weights.items()]
        return {"blend": torch.stack(parts).sum()}

    def _estimate(self, run: Run, epochs: int) -> None:
        start, end = {}, {}
        run.optimizer.zero_grad(set_to_none=True)  # clipping in a probe must not see old gradients
        for stream in self.weights:
            start[stream] = self._measure(run, stream)
            with undone(run.model, run.modules), isolated_rng():
                self._probe(run, stream, epochs)
                end[stream] = self._measure(run, stream)
        found = blend_weights(start, end, self.floor)
        self.weights = found or self.weights
        own = {m: self.weights[m] for m in run.model.modalities}
        run.record("blend", weights=own, joint_weight=self.weights[JOINT], improved=found is not None)

    def _probe(self, run: Run, stream: str, epochs: int) -> None:
        """Train one stream alone; all streams see the same batches."""
        module = run.model if stream == JOINT else run.model.encoder_module(stream)
        own = [] if stream == JOINT else own_heads(run).by_modality()[stream].parameters()
        optimizer = run.fresh_optimizer(groups_like(run.optimizer, chain(module.parameters(), own)))
        draws = run.stream(f"{self.name} probe {run.epoch}")
        for epoch in range(run.epoch, run.epoch + epochs):
            for group in optimizer.param_groups:
                group["lr"] = run.learning_rates[min(epoch, run.total_epochs - 1)] * group["factor"]
            for positions in shuffled(self.seen_positions, run.batch_size, draws):
                optimizer.zero_grad(set_to_none=True)
                run.backward(stream_loss(run, stream, positions))
                run.clip_gradients()
                optimizer.step()

    def _measure(self, run: Run, stream: str) -> tuple[float, float]:
        """Return the mean loss of a stream on training and on held-out samples, in evaluation mode."""
        means = []
        with torch.no_grad(), evaluating(run.model), evaluating(run.modules):
            for part in (self._measured, self.held_positions):
                pieces = chunks(part, run.batch_size)
                total = sum(float(stream_loss(run, stream, piece)) * len(piece) for piece in pieces)
                means.append(total / len(part))
        return means[0], means[1]


def groups_like(optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> list[Any]:
    """Return the parameters that an optimiser trains, grouped as there, with the `factor` of each group."""
    wanted = {parameter for parameter in parameters if parameter.requires_grad}
    shares = [
        (group["factor"], [p for p in group["params"] if p in wanted]) for group in optimizer.param_groups
    ]
    return [{"params": own, "factor": factor} for factor, own in shares if own]


def stream_loss(run: Run, stream: str, positions: Tensor) -> Tensor:
    """Return the loss `CE(u^k, y)` of one stream on training samples."""
    batch = run.take(positions.tolist()).to(run.device)
    with run.autocast():
        if stream == JOINT:
            logits = run.model.fuse(run.model.encode(batch))
        else:
            z = run.model.encode(batch, only=(stream,))
            logits = own_heads(run).own_logits(stream, z[stream])
        return run.loss(logits, batch.target)


@contextmanager
def undone(*modules: nn.Module) -> Iterator[None]:
    """Restore all parameters and buffers after a block, and remove all gradients."""
    saved = [{name: t.detach().clone() for name, t in _tensors(module)} for module in modules]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, values in zip(modules, saved, strict=True):
                for name, tensor in _tensors(module):
                    tensor.copy_(values[name])
                    tensor.grad = None


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return chain(module.named_parameters(), module.named_buffers())
