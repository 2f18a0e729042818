"""Late fusion: every modality has a classifier of its own, and their predictions are averaged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from equipoise.models.fusion.base import Fusion
from equipoise.models.options import listed, one_of
from equipoise.types import ModelError

RULES = ("probability", "logit", "log-probability")


class AverageFusion(Fusion):
    """Average the predictions of one linear classifier per modality.

    With `u^m = z^m W_m^T + b_m` and `p^m = softmax(u^m)` the joint logits are

    - `probability`: `log(mean_m p^m)`, whose softmax is the mean probability;
    - `logit`: `mean_m u^m`;
    - `log-probability`: `mean_m log p^m`, the geometric mean up to a constant.

    Args:
        widths: modality to feature width `d_m`, in the model's order.
        num_classes: `C`.
        rule: what is averaged.

    Raises:
        UsageError: an unknown rule.
    """

    name: ClassVar[str] = "average"

    def __init__(self, widths: Mapping[str, int], num_classes: int, *, rule: str = "probability") -> None:
        super().__init__(widths, num_classes)
        self.rule = one_of("rule", rule, RULES)
        self.heads = nn.ModuleList(nn.Linear(d, self.num_classes) for d in self.widths.values())

    def own_logits(self, modality: str, z: Tensor) -> Tensor:
        """Return the logits `[B, C]` of the classifier of one modality for its feature `[B, d_m]`.

        Raises:
            ModelError: unknown modality.
        """
        if modality not in self.modalities:
            raise ModelError(f"the fusion has no modality {modality!r}; it has {listed(self.modalities)}.")
        logits: Tensor = self.heads[self.modalities.index(modality)](z)
        return logits

    def forward(self, z: Mapping[str, Tensor]) -> Tensor:
        """Fuse features `{m: [B, d_m]}` to logits `[B, C]`."""
        pairs = zip(self.heads, self.ordered(z), strict=True)
        logits = torch.stack([head(feature) for head, feature in pairs])
        if self.rule == "logit":
            return logits.mean(dim=0)
        log_probabilities = logits.log_softmax(dim=2)
        if self.rule == "log-probability":
            return log_probabilities.mean(dim=0)
        # The logarithm of a mean of exponentials stays finite where the probabilities underflow.
        return log_probabilities.logsumexp(dim=0) - math.log(len(self.modalities))
