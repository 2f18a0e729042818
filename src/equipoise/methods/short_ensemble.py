"""Several nets, each trained for a part of the epochs, and the mean of their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from equipoise.methods.core.run import Plan, Run
from equipoise.methods.core.search import LogUniform, Whole, space
from equipoise.methods.multi_loss import MultiLoss
from equipoise.methods.shared.cycles import at_rest, cycle_ends, restarted, too_short
from equipoise.models import BalancedModel
from equipoise.models.averaged import CopiesModel
from equipoise.randomness import derive_seed
from equipoise.relearning.optimizer_state import settle_optimizer_state
from equipoise.relearning.targets import redrawn_state
from equipoise.types import UsageError


@dataclass
class ShortEnsemble(MultiLoss):
    """Train several nets for `E / nets` epochs each, from weights drawn anew, and average their predictions.

    The loss is that of `multi-loss`. In the epochs of each net the learning rate falls from its peak to 0 by
    a half cosine. Training costs as much as one net, prediction as much as `nets`. What resets one net in
    these epochs has to be compared with this.

    Attributes:
        nets: number of nets.
    """

    nets: int = 4

    name = "short-ensemble"
    summary = "mean prediction of several nets, each trained for a part of the epochs"
    source = "the usual baseline, at equal cost of training"
    cost = "a linear head per modality; predicting with several nets"
    search_space = space(weight=LogUniform(0.1, 10), nets=Whole(2, 6))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nets < 1:
            raise UsageError(f"nets is {self.nets}; expected at least 1.")

    def build(self, reference: BalancedModel) -> BalancedModel:
        """Return the model with room for the nets before the last."""
        return CopiesModel(reference, self.nets - 1) if self.nets > 1 else reference

    def check(self, model: BalancedModel) -> None:
        """Refuse a model whose weights cannot be drawn anew."""
        super().check(model)
        if self.nets > 1:
            redrawn_state(model, 0)

    def problems(self, plan: Plan) -> list[str]:
        """Say where there are not enough epochs for the nets."""
        return super().problems(plan) + too_short(plan.epochs, self.nets, "nets")

    def learning_rates(self, plan: Plan) -> Sequence[float]:
        """Return rates that fall by a half cosine for each net, from the planned peak."""
        planned = plan.learning_rates()
        return restarted(planned, cycle_ends(len(planned), self.nets))

    def is_candidate(self, run: Run) -> bool:
        """Whether the last net is nearly trained: before, nets are missing, or its rate is still high."""
        return self.nets == 1 or at_rest(run.epoch, cycle_ends(run.total_epochs, self.nets))

    def epoch_end(self, run: Run) -> None:
        """Keep a net that is finished, and draw the next one."""
        ends = cycle_ends(run.total_epochs, self.nets)[:-1]
        if run.epoch + 1 not in ends:
            return
        model = cast("CopiesModel", run.model)
        model.take()
        for place, module in enumerate((model.inner, *run.modules.values())):
            seed = derive_seed(run.generator.initial_seed(), "net", ends.index(run.epoch + 1), place)
            module.load_state_dict(redrawn_state(module, seed))
            settle_optimizer_state(run.optimizer, dict.fromkeys(module.parameters(), 1.0), "zero")
