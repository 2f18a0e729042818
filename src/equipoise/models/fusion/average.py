"""Late fusion: the mean of the predictions of one classifier for each modality."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.models.fusion.base import Fusion
from equipoise.models.fusion.own_heads import OwnHeads
from equipoise.models.options import one_of

RULES = ("probability", "logit", "log-probability")


class AverageFusion(Fusion):
    """Average the predictions of one linear classifier per modality.

    With `u^m = z^m W_m^T + b_m` and `p^m = softmax(u^m)` the joint logits are

    - `probability`: `log(mean_m p^m)`, whose softmax is the mean probability;
    - `logit`: `mean_m u^m`;
    - `log-probability`: `mean_m log p^m`, the geometric mean up to a constant.

    Args:
        rule: the quantity to average.

    Attributes:
        own: the classifiers.
    """

    name: ClassVar[str] = "average"

    def __init__(self, widths: Mapping[str, int], num_classes: int, *, rule: str = "probability") -> None:
        super().__init__(widths, num_classes)
        self.rule = one_of("rule", rule, RULES)
        self.own = OwnHeads(self.widths, self.num_classes)

    def own_logits(self, modality: str, z: Tensor) -> Tensor:
        """Return the logits `[B, C]` of one modality; see `OwnHeads.own_logits`."""
        return self.own.own_logits(modality, z)

    def forward(self, z: Mapping[str, Tensor]) -> Tensor:
        """Fuse features `{m: [B, d_m]}` to logits `[B, C]`."""
        features = dict(zip(self.modalities, self.ordered(z), strict=True))
        logits = torch.stack(list(self.own(features).values()))
        if self.rule == "logit":
            return logits.mean(dim=0)
        log_probabilities = logits.log_softmax(dim=2)
        if self.rule == "log-probability":
            return log_probabilities.mean(dim=0)
        # logsumexp is finite even if the probabilities underflow.
        return log_probabilities.logsumexp(dim=0) - math.log(len(self.modalities))
