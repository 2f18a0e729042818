"""Disentangled gradients: encoders learn from unimodal losses, the fusion from the joint one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from equipoise.methods.core.method import Method, joint_loss, overrides
from equipoise.methods.core.options import choice, number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import StepContext
from equipoise.methods.core.search import LogUniform, space
from equipoise.methods.shared.unimodal_views import ReadsUnimodal
from equipoise.methods.shared.windows import Windowed
from equipoise.models import subset_logits
from equipoise.tasks import EVERY_TASK


@dataclass
class DGL(ReadsUnimodal, Windowed):
    """Keep the fusion's gradient away from the encoders.

    `grad theta_m = alpha * d CE(u^m, y) / d theta_m` with the head held constant, and
    `grad psi = d CE(g(stopgrad z), y) / d psi`. As the fusion reads detached features and the unimodal logits
    a constant head, one backward pass of the sum gives both.

    Attributes:
        alpha: weight of the unimodal losses; 0 does not train the encoders.
        logits: source of `u^m`, always through the joint head: `zero-feature`, `slice`, or `paired` (the
            modality's feature in place of all others), for fusions that multiply features.
    """

    alpha: float = number(4.0)
    logits: str = choice("zero-feature", "slice", "paired")

    name = "dgl"
    family = "optimisation"
    summary = "encoders learn from unimodal losses alone, the fusion from the joint loss alone"
    stacks = True
    source = "Wei et al., ICCV 2025, arXiv 2507.10213"
    bibtex = ("wei2025boosting",)
    cost = "a call of the head per modality per step"
    search_space = space(alpha=LogUniform(0.5, 16))
    # Encoders and fusion must be separate modules to have separate gradients.
    requires = Requirements(min_modalities=2, excludes=frozenset({"mid_fusion"}), tasks=EVERY_TASK)

    def needs(self) -> Requirements:
        """Add the equal widths that paired features need."""
        needs = super().needs()
        return needs.and_of("shared_head") if self.logits == "paired" else needs

    def conflicts(self, other: Method) -> str:
        """Refuse methods with losses that would reach the encoders."""
        if overrides(other, "losses"):
            return f"{self.name} trains the encoders by its own losses only, and {other.name} adds others"
        return super().conflicts(other)

    def fuse(self, z: dict[str, Tensor], context: StepContext) -> Tensor:
        """Return joint logits without gradient to the encoders."""
        if self.in_window(context.run):
            z = {m: feature.detach() for m, feature in z.items()}
        return super().fuse(z, context)

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the joint term, for the fusion alone, and the unimodal one, for the encoders alone."""
        if not self.alpha or not self.in_window(context.run):
            return {"joint": joint_loss(context)}
        unimodal = self.unimodal_loss(context, head_grad=False)
        return {"joint": joint_loss(context), "unimodal": self.alpha * unimodal}

    def unimodal(
        self, context: StepContext, *, detached: bool = False, head_grad: bool = True
    ) -> dict[str, Tensor]:
        """Return `u^m [B, C]` of each modality."""
        if self.logits != "paired":
            return super().unimodal(context, detached=detached, head_grad=head_grad)
        model = context.run.model
        z = {m: feature.detach() for m, feature in context.z.items()} if detached else context.z
        paired = {m: {n: z[m] for n in model.modalities if n != m} for m in model.modalities}
        return {m: subset_logits(model, z, (m,), absent=paired[m], head_grad=head_grad) for m in paired}
