"""Diagnose the features that a model's encoders returned, where several processes may share the samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from equipoise.diagnosis.estimate import diagnose_with
from equipoise.diagnosis.features.capture import Captured
from equipoise.diagnosis.options import DiagnosisOptions
from equipoise.diagnosis.state import Diagnosis
from equipoise.scopes import evaluating
from equipoise.types import DataError


def diagnose_captured(options: DiagnosisOptions, train: Captured, val: Captured) -> Diagnosis:
    """Measure the learning states of all modalities; the same in all processes that share the samples."""
    blocks = (train.blocks, val.blocks) if train.blocks and val.blocks else None
    if blocks is None:
        train, val = (part.whole() if part.blocks else part for part in (train, val))
    return diagnose_with(options, train.features, train.target, val.features, val.target, blocks)


def through_heads(
    heads: Mapping[str, nn.Module], train: Captured, val: Captured
) -> tuple[Captured, Captured]:
    """Return both splits with the logits `[N, C]` of each modality's head in place of its features.

    There is one for each class of the training labels, in their order; classes without a training sample
    have none. Without heads the splits are returned as they are.
    """
    if not heads:
        return train, val
    classes = torch.unique(train.target).long()

    def logits(name: str, part: Captured) -> torch.Tensor:
        head, z = heads[name], part.features[name]
        weight = next(head.parameters())
        with evaluating(head), torch.no_grad():
            found: torch.Tensor = head(z.to(weight.device, weight.dtype))
        if int(classes.max()) >= found.shape[1]:
            raise DataError(
                f"the head of {name!r} returns {list(found.shape)}; expected logits [N, C] of at least "
                f"{int(classes.max()) + 1} classes, which the targets have."
            )
        found = found if found.dtype == torch.float64 else found.float()
        return found.cpu()[:, classes]

    first, second = (
        replace(part, features={name: logits(name, part) for name in part.features}) for part in (train, val)
    )
    return first, second
