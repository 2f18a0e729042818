"""Joint logits when only some modalities are present: the value of a subset of modalities."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from equipoise.models.contract import BalancedModel, batch_inputs
from equipoise.models.options import listed
from equipoise.scopes import constant, evaluating
from equipoise.types import Batch, ModelError, UnknownNameError

ABSENCES = ("zero-feature", "zero-input")
"""What stands in for a modality that is absent: a feature of zeros, or the answer to an input of zeros."""


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
    """Compute the joint logits `g(..)` with other features in place of those outside `subset`.

    The fusion runs in evaluation mode, and every submodule gets its mode back: with all modalities in
    `subset` these are the logits that evaluation would give. Gradients reach the encoders through `z` where
    it is not detached.

    In a model with intermediate fusion `z^m` has already taken up signal from the other modalities, which
    replacing their features does not undo; `model.encode(batch, only=...)` does.

    Args:
        model: the model.
        z: `{m: [B, d_m]}`, the features of the modalities in `subset`, and of the others too for
            `zero-feature` without `absent`.
        subset: the modalities that are present; all and none are possible.
        kind: one of `ABSENCES`; has no effect where `absent` is given.
        batch: the batch behind `z`, for `zero-input`.
        absent: `{m: [B, d_m]}`, what stands in for those outside `subset`: what `answers_to_zeros` returned,
            computed once for many subsets, or anything else, such as features of other samples.
        head_grad: whether gradients reach the fusion's parameters; False makes them constants.

    Returns:
        `[B, C]`.

    Raises:
        ModelError: a modality is unknown, or what is needed is missing.
        UnknownNameError: no such kind.
    """
    present = (subset,) if isinstance(subset, str) else tuple(subset)
    _require_known(model, present, "subset")
    _require_known(model, z, "the features")
    if kind not in ABSENCES:
        raise UnknownNameError("kind of absence", kind, ABSENCES)
    if missing := [m for m in present if m not in z]:
        raise ModelError(f"the features of the present modality {listed(missing)} are missing.")
    others = [m for m in model.modalities if m not in present]
    if absent is None and others:
        absent = answers_to_zeros(model, batch) if kind == "zero-input" else zeros_for(model, z, others)
    if missing := [m for m in others if m not in (absent or {})]:
        raise ModelError(f"'absent' has nothing to stand in for {listed(missing)}; give it features [B, d].")
    features = {m: z[m] if m in present else (absent or {})[m] for m in model.modalities}
    with evaluating(model), head_gradient(head_grad, model):
        return model.fuse(features)


def answers_to_zeros(model: BalancedModel, batch: Batch | Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Return the encoders' features `{m: [B, d_m]}` of inputs of zeros, in evaluation mode.

    Args:
        model: the model.
        batch: a batch, or its inputs; gives the shapes.

    Raises:
        ModelError: no batch, or it misses a modality.
    """
    if batch is None:
        raise ModelError("'zero-input' needs the batch behind the features: give batch=batch.")
    own = getattr(model, "answers_to_zeros", None)
    if own is not None:  # a model whose inputs are not one tensor a modality
        answers: dict[str, Tensor] = own(batch)
        return answers
    inputs = batch_inputs(batch)
    zeros = {m: torch.zeros_like(inputs[m]) for m in model.modalities if m in inputs}
    with evaluating(model):
        return model.encode(zeros)


def zeros_for(
    model: BalancedModel, z: Mapping[str, Tensor], modalities: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """Return features of zeros `{m: [B, d_m]}` in place of given ones.

    Raises:
        ModelError: the features of one of the modalities are not given.
    """
    wanted = model.modalities if modalities is None else modalities
    if missing := [m for m in wanted if m not in z]:
        raise ModelError(f"zeroed passes need the features of every modality; missing: {listed(missing)}.")
    return {m: torch.zeros_like(z[m]) for m in wanted}


def head_gradient(head_grad: bool, *modules: nn.Module) -> AbstractContextManager[None]:
    """Let gradients reach the parameters of `modules`, or build graphs in which these are constants."""
    parameters = [p for module in modules for p in module.parameters()]
    return nullcontext() if head_grad else constant(parameters)


def _require_known(model: BalancedModel, modalities: Collection[str], what: str) -> None:
    if unknown := [m for m in modalities if m not in model.modalities]:
        raise ModelError(
            f"{what} names the unknown modality {listed(unknown)}; known: {listed(model.modalities)}."
        )
