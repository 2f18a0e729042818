"""Uni-Modal Teacher: the features of unimodal models, distilled into the joint model's encoders."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from equipoise.methods.core.method import joint_loss
from equipoise.methods.core.options import number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import StepContext
from equipoise.methods.core.search import LogUniform, space
from equipoise.methods.shared.teachers import ReadsTeachers, feature_distance
from equipoise.tasks import EVERY_TASK


@dataclass
class UMT(ReadsTeachers):
    """Keep each feature close to that of an encoder trained alone.

    `L = CE(u, y) + lam * sum_m MSE(z^m, zT^m)`, where `zT^m` is the feature of the frozen encoder of the run
    `unimodal:m` for the same input, and MSE is the mean over samples and features.

    Attributes:
        lam: weight of the distillation; 0 is joint training, and needs no unimodal run.
    """

    lam: float = number(10.0)

    name = "umt"
    family = "objective"
    summary = "distil the features of frozen unimodal models into the encoders"
    stacks = True
    source = "Du et al., ICML 2023, arXiv 2305.01233"
    bibtex = ("du2023unimodal",)
    cost = "the unimodal runs, and a forward pass of each teacher per step"
    search_space = space(lam=LogUniform(1, 100))
    requires = Requirements(tasks=EVERY_TASK)

    def taught(self) -> bool:
        """Whether features are distilled."""
        return self.lam > 0

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the joint term and the distillation."""
        terms = {"joint": joint_loss(context)}
        if self.lam:
            distance = feature_distance(context.features, self.lesson(context).features)
            terms["distillation"] = self.lam * distance
        return terms
