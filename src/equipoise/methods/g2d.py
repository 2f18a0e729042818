"""Gradient-Guided Distillation: unimodal teachers, and weak modalities that are trained first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from equipoise.methods.core.method import joint_loss
from equipoise.methods.core.options import choice, number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Plan, Run, StepContext
from equipoise.methods.core.search import LogUniform, space
from equipoise.methods.shared.teachers import ReadsTeachers, feature_distance
from equipoise.methods.shared.turns import encoders_to_eval, freeze_step
from equipoise.methods.shared.unimodal_views import score_sums
from equipoise.methods.shared.windows import Windowed
from equipoise.models.precision import widened
from equipoise.randomness import isolated_rng
from equipoise.scopes import constant, modes_restored


@dataclass
class G2D(ReadsTeachers, Windowed):
    """Distil unimodal teachers into the joint model, and at first train only the weak modality's encoder.

    `L = CE(u, y) + sum_m [a T^2 KL(softmax(t^m / T) || softmax(u / T)) + b MSE(z^m, zT^m)]`: the teachers'
    logits `t^m` teach the joint logits, their features the encoders. With `S^m = sum_i softmax(t^m_i)[y_i]`
    the window of epochs is divided into M - 1 phases of equal length; in phase r (from 0) only the encoder
    with the r-th smallest `S^m` is trained, the others are frozen. For M = 2, the paper's code, that is one
    phase in which only the weaker encoder is trained. Modalities with equal scores are trained together.

    Attributes:
        logit_weight: `a`.
        feature_weight: `b`.
        temperature: `T`.
        order: samples of `S^m`: `batch` (a separate order for each batch) or `train-set`.
        start_epoch: first epoch (0-based) in which encoders are frozen.
        end_epoch: last such epoch; None takes the first half of training (official: 0 to 150 of 300), and
            never the last epoch, so that every encoder is trained in at least one epoch.
    """

    logit_weight: float = number(1.0)
    feature_weight: float = number(1.0)
    temperature: float = number(1.0, low=1e-3)
    order: str = choice("batch", "train-set")

    name = "g2d"
    family = "objective"
    summary = "distil unimodal models, and train the weak modality's encoder first"
    source = "Rakib and Bagavathi, ICCV 2025, arXiv 2506.21514"
    bibtex = ("rakib2025g2d",)
    cost = "the unimodal runs, and a forward pass of each teacher per step"
    search_space = space(logit_weight=LogUniform(0.1, 10), feature_weight=LogUniform(0.1, 10))
    requires = Requirements(min_modalities=2)
    remembered = ("_scores",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._scores: dict[str, float] = {}
        self._frozen: tuple[str, ...] = ()

    def taught(self) -> bool:
        """Whether the options need teachers: for distillation or for the order."""
        windowed = self.end_epoch is None or self.end_epoch >= self.start_epoch
        return self.logit_weight > 0 or self.feature_weight > 0 or windowed

    def last_epoch(self, epochs: int) -> int:
        """Return the last epoch of the window: by default half of training; -1 is no window."""
        if self.end_epoch is None:  # the last epoch trains all encoders, also in very short trainings
            return min(epochs // 2, epochs - 2)
        return min(self.end_epoch, epochs - 1)

    def problems(self, plan: Plan) -> list[str]:
        """Warn that encoders are frozen to the end of training."""
        found, last = super().problems(plan), plan.epochs - 1
        if self.start_epoch <= last <= self.last_epoch(plan.epochs):
            never = "" if self.start_epoch else ", which is thus never trained"
            found.append(
                f"{self.name} freezes the encoder of the most confident teacher to the end of "
                f"training{never}: its window has the epochs {self.start_epoch} to {last}, and epoch {last} "
                f"is the last; set end_epoch={last - 1} or lower, or train longer."
            )
        return found

    def phase(self, run: Run) -> int:
        """Return the phase of the epoch, from 0 to M - 2."""
        length = self.last_epoch(run.total_epochs) - self.start_epoch + 1
        return (run.epoch - self.start_epoch) * (len(run.model.modalities) - 1) // length

    def epoch_start(self, run: Run) -> None:
        """Score the teachers on the training set, once, if that decides the order."""
        super().epoch_start(run)
        if self.order != "train-set" or self._scores or not self.in_window(run):
            return
        sums = dict.fromkeys(run.model.modalities, 0.0)
        with isolated_rng():  # loaders draw from the global stream
            for batch in run.train_eval:
                lesson = self.consult(batch.to(run.device), run)
                for m, score in score_sums(lesson.logits, lesson.batch.target).items():
                    sums[m] += score
        self._scores = sums

    @contextmanager
    def scope(self, context: StepContext) -> Iterator[None]:
        """Run the model with the frozen encoders as constants, in evaluation mode.

        Their running statistics thus stay fixed, and no unused gradient is computed.
        """
        model = context.run.model
        self._frozen = self._to_freeze(context) if self.in_window(context.run) else ()
        with constant(p for m in self._frozen for _, p in model.encoder_parameters(m)), modes_restored(model):
            encoders_to_eval(model, self._frozen)
            yield

    def _to_freeze(self, context: StepContext) -> tuple[str, ...]:
        scores = self._scores
        if self.order == "batch":
            scores = score_sums(self.lesson(context).logits, context.batch.target)
        return frozen(scores, self.phase(context.run))

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
        """Remove gradients that reached frozen encoders in another way, such as through zeroed inputs."""
        super().after_backward(context)
        freeze_step(context.run.model, self._frozen)


def frozen(scores: Mapping[str, float], phase: int) -> tuple[str, ...]:
    """Return the frozen modalities: all but the one (or ones) with the `phase`-th smallest score."""
    leading = sorted(scores.values())[phase]
    return tuple(m for m, score in scores.items() if score != leading)


def distillation(u: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """Return `T^2 KL(softmax(t / T) || softmax(u / T))` of logits `[B, C]`, the mean over the batch."""
    student, teacher = ((widened(x) / temperature).log_softmax(1) for x in (u, taught))
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)
