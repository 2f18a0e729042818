"""Gradient-Guided Distillation: unimodal teachers, and weak modalities that lead one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from equipoise.methods.core.method import joint_loss
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Plan, Run
from equipoise.methods.core.step import StepContext
from equipoise.methods.shared.gradients import drop_gradients
from equipoise.methods.shared.option_checks import check_choice, check_number
from equipoise.methods.shared.precision import widened
from equipoise.methods.shared.teachers import ReadsTeachers, feature_distance
from equipoise.methods.shared.unimodal_views import true_class_scores
from equipoise.methods.shared.windows import Windowed
from equipoise.randomness import isolated_rng
from equipoise.scopes import constant, evaluating

ORDERS = ("batch", "train-set")


@dataclass
class G2D(ReadsTeachers, Windowed):
    """Distil unimodal teachers into the joint model, and at first train the weak modality's encoder only.

    `L = CE(u, y) + sum_m [a T^2 KL(softmax(t^m / T) || softmax(u / T)) + b MSE(z^m, zT^m)]`: the teachers'
    logits `t^m` teach the joint logits, their features the encoders. With `S^m = sum_i softmax(t^m_i)[y_i]`
    the window of epochs is cut into M - 1 phases of equal length; in phase r (from 0) only the encoder with
    the r-th smallest `S^m` is trained, the others rest. For M = 2, the paper's code, that is one phase in
    which the weaker encoder is trained alone. Modalities with equal scores are trained together.

    Attributes:
        logit_weight: `a`.
        feature_weight: `b`.
        temperature: `T`.
        order: what `S^m` is taken over: `batch` (each batch has an order of its own) or `train-set`.
        start_epoch: first epoch (0-based) in which encoders rest.
        end_epoch: last such epoch; None takes the first half of training (official: 0 to 150 of 300), and
            never the last epoch, so that every encoder is trained in one epoch at least.
    """

    logit_weight: float = 1.0
    feature_weight: float = 1.0
    temperature: float = 1.0
    order: str = "batch"

    name = "g2d"
    family = "objective"
    summary = "distil unimodal models, and train the weak modality's encoder first"
    source = "Rakib and Bagavathi, ICCV 2025, arXiv 2506.21514"
    cost = "the unimodal runs, and a forward pass of each teacher a step"
    requires = Requirements(min_modalities=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("logit_weight", self.logit_weight)
        check_number("feature_weight", self.feature_weight)
        check_number("temperature", self.temperature, low=1e-3)
        check_choice("order", self.order, ORDERS)
        self._scores: dict[str, float] = {}
        self._idle: tuple[str, ...] = ()

    def taught(self) -> bool:
        """Tell whether there is anything to distil or to order."""
        windowed = self.end_epoch is None or self.end_epoch >= self.start_epoch
        return self.logit_weight > 0 or self.feature_weight > 0 or windowed

    def last_epoch(self, epochs: int) -> int:
        """Return the last epoch of the window: by default half of training; -1 is no window."""
        if self.end_epoch is None:  # the last epoch is for all encoders, also where half of training is it
            return min(epochs // 2, epochs - 2)
        return min(self.end_epoch, epochs - 1)

    def problems(self, plan: Plan) -> list[str]:
        """Say that encoders rest to the end of training; by default they do not."""
        last = plan.epochs - 1
        if not self.start_epoch <= last <= self.last_epoch(plan.epochs):
            return super().problems(plan)
        never = "" if self.start_epoch else ", which is thus never trained"
        return [
            *super().problems(plan),
            f"{self.name} rests the encoder of the surest teacher to the end of training{never}: its window "
            f"has the epochs {self.start_epoch} to {last}, and epoch {last} is the last; "
            f"set end_epoch={last - 1} or lower, or train longer.",
        ]

    def phase(self, run: Run) -> int:
        """Return which phase the epoch belongs to, from 0 to M - 2."""
        length = self.last_epoch(run.total_epochs) - self.start_epoch + 1
        return (run.epoch - self.start_epoch) * (len(run.model.modalities) - 1) // length

    def epoch_start(self, run: Run) -> None:
        """Ask the teachers about the training set, once, where it decides on the order."""
        super().epoch_start(run)
        if self.order != "train-set" or self._scores or not self.in_window(run):
            return
        sums = dict.fromkeys(run.model.modalities, 0.0)
        with isolated_rng():  # loaders draw from the global stream
            for batch in run.train_eval:
                lesson = self.consult(batch.to(run.device), run)
                for m, score in confidence(lesson.logits, lesson.batch.target).items():
                    sums[m] += score
        self._scores = sums

    @contextmanager
    def scope(self, context: StepContext) -> Iterator[None]:
        """Run the model with the resting encoders as constants, in evaluation mode.

        Their running statistics thus rest too, and no gradient is computed that would be thrown away.
        """
        model = context.run.model
        self._idle = self._resting(context) if self.in_window(context.run) else ()
        at_work = {model.encoder_module(m) for m in model.modalities if m not in self._idle}
        with ExitStack() as stack:
            for modality in self._idle:
                stack.enter_context(constant(p for _, p in model.encoder_parameters(modality)))
                if model.encoder_module(modality) not in at_work:
                    stack.enter_context(evaluating(model.encoder_module(modality)))
            yield

    def _resting(self, context: StepContext) -> tuple[str, ...]:
        scores = self._scores
        if self.order == "batch":
            scores = confidence(self.lesson(context).logits, context.batch.target)
        return resting(scores, self.phase(context.run))

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the joint term and the distillation of logits and features."""
        terms = {"joint": joint_loss(context)}
        if self.logit_weight:
            logits = self.lesson(context).logits
            losses = [distillation(context.u, t, self.temperature) for t in logits.values()]
            terms["logits"] = self.logit_weight * torch.stack(losses).sum()
        if self.feature_weight:
            distance = feature_distance(context.features, self.lesson(context).features)
            terms["features"] = self.feature_weight * distance
        return terms

    def after_backward(self, context: StepContext) -> None:
        """Take gradients that came to resting encoders in another way, through zeroed inputs for instance.

        Without one, momentum and weight decay do not move them either.
        """
        super().after_backward(context)
        for modality in self._idle:
            drop_gradients(context.run.model.encoder_parameters(modality))

    def state_dict(self) -> dict[str, Any]:
        """Return the digest of the teachers and their scores on the training set."""
        return {**super().state_dict(), "scores": self._scores}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the scores."""
        super().load_state_dict(state)
        self._scores = dict(state["scores"])


def confidence(logits: Mapping[str, Tensor], target: Tensor) -> dict[str, float]:
    """Return `S^m = sum_i softmax(t^m_i)[y_i]` of the teachers' logits `[B, C]`."""
    return {m: float(p.sum()) for m, p in true_class_scores(logits, target).items()}


def resting(scores: Mapping[str, float], phase: int) -> tuple[str, ...]:
    """Return the modalities that rest: all but that, or those, with the `phase`-th smallest score."""
    leading = sorted(scores.values())[phase]
    return tuple(m for m, score in scores.items() if score != leading)


def distillation(u: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """Return `T^2 KL(softmax(t / T) || softmax(u / T))`, the mean over the batch.

    Args:
        u: joint logits `[B, C]`.
        taught: a teacher's logits `[B, C]`.
        temperature: `T`.
    """
    student, teacher = ((widened(x) / temperature).log_softmax(1) for x in (u, taught))
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)
