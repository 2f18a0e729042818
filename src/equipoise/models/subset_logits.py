"""Joint logits of a subset of the modalities."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from equipoise.models.contract import BalancedModel, batch_inputs
from equipoise.models.options import listed, require_modalities
from equipoise.scopes import constant, evaluating
from equipoise.sharing import with_inputs
from equipoise.types import Batch, ModelError, check_known

ABSENCES = ("zero-feature", "zero-input")
"""Replacement of an absent modality: a feature of zeros, or the encoder's output for an input of zeros."""


def subset_logits(
    model: BalancedModel,
    z: Mapping[str, Tensor],
    subset: Collection[str],
    *,
    kind: str = "zero-feature",
    batch: Batch | Mapping[str, Tensor] | None = None,
    absent: Mapping[str, Tensor] | None = None,
    head_grad: bool = True,
) -> Tensor:
    """Return the joint logits `g(..)` `[B, C]` with the features outside `subset` replaced.

    The fusion runs in evaluation mode, and the mode of every submodule is restored: with all modalities in
    `subset` the result equals the logits of an evaluation. Gradients reach the encoders through `z` unless it
    is detached.

    With intermediate fusion, `z^m` contains signals of the other modalities, which replacing their features
    does not remove; `model.encode(batch, only=...)` does.

    Args:
        model: the model.
        z: `{m: [B, d_m]}`, the features of the modalities in `subset`, and of all modalities for
            `zero-feature` without `absent`.
        subset: the present modalities; all and none are possible.
        kind: one of `ABSENCES`; not used if `absent` is given.
        batch: the batch of `z`, for `zero-input`.
        absent: `{m: [B, d_m]}`, the replacements: a result of `answers_to_zeros`, computed once for many
            subsets, or other features, such as those of other samples.
        head_grad: whether gradients reach the fusion's parameters; False makes them constants.

    Raises:
        ModelError: a modality is unknown, or features or the batch are missing.
        UnknownNameError: the kind is unknown.
    """
    present = (subset,) if isinstance(subset, str) else tuple(subset)
    require_modalities(present, model.modalities, "subset names the unknown modality")
    require_modalities(z, model.modalities, "the features name the unknown modality")
    check_known("kind of absence", [kind], ABSENCES)
    if missing := [m for m in present if m not in z]:
        raise ModelError(f"the features of the present modality {listed(missing)} are missing.")
    others = [m for m in model.modalities if m not in present]
    if absent is None and others:
        absent = answers_to_zeros(model, batch) if kind == "zero-input" else zeros_for(model, z, others)
    if missing := [m for m in others if m not in (absent or {})]:
        raise ModelError(f"'absent' has no features for {listed(missing)}; add features [B, d].")
    features = {m: z[m] if m in present else (absent or {})[m] for m in model.modalities}
    with evaluating(model), head_gradient(head_grad, model):
        return model.fuse(features)


def answers_to_zeros(model: BalancedModel, batch: Batch | Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Return the encoders' features `{m: [B, d_m]}` of zeros like the inputs of a batch, in evaluation mode.

    Raises:
        ModelError: the batch is missing, or lacks a modality.
    """
    if batch is None:
        raise ModelError("'zero-input' needs the batch of the features: give batch=batch.")
    own = getattr(model, "answers_to_zeros", None)
    if own is not None:  # a model whose modalities are not single tensors
        answers: dict[str, Tensor] = own(batch)
        return answers
    inputs = batch_inputs(batch)
    zeros = {m: torch.zeros_like(inputs[m]) for m in model.modalities if m in inputs}
    with evaluating(model):
        return model.encode(with_inputs(batch, zeros))


def zeros_for(
    model: BalancedModel, z: Mapping[str, Tensor], modalities: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """Return zeros in the shape of the given features; raise ModelError where those of a modality miss."""
    wanted = model.modalities if modalities is None else modalities
    if missing := [m for m in wanted if m not in z]:
        raise ModelError(f"zeroed passes need the features of every modality; missing: {listed(missing)}.")
    return {m: torch.zeros_like(z[m]) for m in wanted}


def head_gradient(head_grad: bool, *modules: nn.Module) -> AbstractContextManager[None]:
    """Let gradients reach the parameters of `modules`, or make these constants."""
    parameters = [p for module in modules for p in module.parameters()]
    return nullcontext() if head_grad else constant(parameters)
