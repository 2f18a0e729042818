"""The logits `u^m` of one modality: six definitions, which different methods use.

| source | definition | needs |
|---|---|---|
| `slice` | `u^m = z^m W_m^T + b / M`, so that `sum_m u^m = u` | an additive head |
| `zero-feature` | `u^m = g(0 .. z^m .. 0)` | any fusion |
| `zero-input` | `u^m = g(f_1(0) .. z^m .. f_M(0))` | the batch |
| `aux` | `u^m = h_m(z^m)` | one head per modality |
| `shared` | `u^m = h(z^m)` | one head, equal widths |
| `proto` | `u^m_c = -sqrt(sum_i (z^m_i - c^m_ci)^2 + 1e-12)` | prototypes |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from equipoise.models.contract import BalancedModel
from equipoise.models.fusion.shared import SharedFusion
from equipoise.models.options import require_modalities
from equipoise.models.subset_logits import answers_to_zeros, head_gradient, subset_logits, zeros_for
from equipoise.types import Batch, ModelError, UnknownNameError

LOGIT_SOURCES = ("slice", "zero-feature", "zero-input", "aux", "shared", "proto")

DISTANCE_EPS = 1e-12
"""Added to a squared distance, because the square root has no finite gradient at zero."""

Features = Mapping[str, Tensor]
V = TypeVar("V")


def unimodal_logits(
    model: BalancedModel,
    z: Features,
    source: str = "slice",
    *,
    batch: Batch | Mapping[str, Tensor] | None = None,
    heads: Mapping[str, nn.Module] | None = None,
    shared_head: nn.Module | None = None,
    prototypes: Features | None = None,
    head_grad: bool = True,
) -> dict[str, Tensor]:
    """Return the unimodal logits `{m: [B, C]}` of every modality, in the model's order.

    Every source is a function of the given features `z`; gradients reach the encoders through them unless
    they are detached (detach for scores). Forward passes with zeros run in evaluation mode, without effect on
    running statistics and without dropout; the mode of every submodule is restored. `zero-input` computes
    only the encoders' outputs for zeros; in training mode, `z^m` thus keeps the batch statistics of the joint
    pass.

    Args:
        model: the model.
        z: `{m: [B, d_m]}`; the two zero sources need every modality, the others use those given.
        source: one of `LOGIT_SOURCES`.
        batch: the batch of `z`, for `zero-input`.
        heads: modality to module `[B, d_m]` to `[B, C]`, for `aux`; not needed if the fusion has a
            classifier for every modality.
        shared_head: one module `[B, d]` to `[B, C]`, for `shared`; not needed with a `SharedFusion`.
        prototypes: modality to class centres `[C, d_m]`, for `proto`; they never receive a gradient.
        head_grad: whether gradients reach the head (the fusion, the own heads, the shared head); False makes
            its parameters constants. The encoders' outputs for zeros always have gradients.

    Raises:
        ModelError: the model does not support this source, or an argument of the source is missing.
        UnknownNameError: the source is unknown.
    """
    require_modalities(z, model.modalities, "features of unknown modality")
    given = {m: z[m] for m in model.modalities if m in z}
    match source:
        case "slice":
            return _slice(model, given, head_grad)
        case "zero-feature" | "zero-input":
            absent, names = zeros_for(model, given), model.modalities
            if source == "zero-input":
                absent = answers_to_zeros(model, batch)
            return {m: subset_logits(model, z, (m,), absent=absent, head_grad=head_grad) for m in names}
        case "aux":
            return _aux(model, given, heads, head_grad)
        case "shared":
            if shared_head is None and isinstance(getattr(model, "fusion", None), SharedFusion):
                return _aux(model, given, None, head_grad)
            return _shared(given, shared_head, head_grad)
        case "proto":
            return {m: prototype_logits(x, _of(m, prototypes, "prototypes")) for m, x in given.items()}
    raise UnknownNameError("logit source", source, LOGIT_SOURCES)


def prototype_logits(z: Tensor, prototypes: Tensor) -> Tensor:
    """Return minus the Euclidean distance `[B, C]` of `z [B, d]` to prototypes `[C, d]`, which are constants.

    It is `-sqrt(|z - c_k|^2 + 1e-12)`. Half precision is converted to float32: in half precision 1e-12 would
    vanish and squares overflow.

    Raises:
        ModelError: the widths differ.
    """
    if prototypes.ndim != 2 or z.ndim != 2 or z.shape[1] != prototypes.shape[1]:
        raise ModelError(
            "prototypes must be [C, d] for features [B, d]; "
            f"found {list(prototypes.shape)} for {list(z.shape)}."
        )
    wide = torch.promote_types(torch.promote_types(z.dtype, prototypes.dtype), torch.float32)
    difference = z.to(wide)[:, None, :] - prototypes.detach().to(wide)[None, :, :]
    return -(difference.square().sum(dim=2) + DISTANCE_EPS).sqrt()


def _slice(model: BalancedModel, z: Features, head_grad: bool) -> dict[str, Tensor]:
    head = model.head
    if head is None:
        raise ModelError(
            "source 'slice' needs an additive head (fusion 'concat' or 'sum'), which this model lacks; "
            "use 'zero-feature', which any fusion supports, or 'aux' with a head for every modality."
        )
    return {m: head.slice(m, feature, head_grad) for m, feature in z.items()}


def _aux(
    model: BalancedModel, z: Features, heads: Mapping[str, nn.Module] | None, head_grad: bool
) -> dict[str, Tensor]:
    own: Callable[[str, Tensor], Tensor] | None
    own = getattr(getattr(model, "fusion", None), "own_logits", None)
    if heads is None and own is not None:
        with head_gradient(head_grad, model):
            return {m: own(m, feature) for m, feature in z.items()}
    chosen = {m: _of(m, heads, "heads") for m in z}
    with head_gradient(head_grad, *chosen.values()):
        return {m: head(z[m]) for m, head in chosen.items()}


def _shared(z: Features, head: nn.Module | None, head_grad: bool) -> dict[str, Tensor]:
    if head is None:
        raise ModelError("source 'shared' needs one head for all: unimodal_logits(..., shared_head=module).")
    if len({feature.shape[1] for feature in z.values()}) > 1:
        widths = {m: feature.shape[1] for m, feature in z.items()}
        raise ModelError(
            f"one shared head cannot read features of different widths {widths}; choose encoders of equal "
            "width, or use 'aux' with a head for every modality."
        )
    with head_gradient(head_grad, head):
        return {m: head(feature) for m, feature in z.items()}


def _of(modality: str, values: Mapping[str, V] | None, argument: str) -> V:
    if values is None or modality not in values:
        raise ModelError(
            f"this source needs {argument} of modality {modality!r}: "
            f"unimodal_logits(..., {argument}={{modality: ...}})."
        )
    return values[modality]
