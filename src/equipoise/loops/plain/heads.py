"""The linear head of a user's model as a sum of parts, one for each modality."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

import torch
from torch import Tensor, nn

from equipoise.models.fusion.head import ConcatHead, HeadView, SumHead
from equipoise.types import ModelError, UsageError

Head = nn.Linear | Mapping[str, nn.Linear] | HeadView
TOLERANCE = 1e-4


def head_view(
    head: Head | None, widths: Mapping[str, int], z: Mapping[str, Tensor], logits: Tensor
) -> HeadView | None:
    """Return the view of an additive head, checked on a batch.

    The head is one linear layer over the features, concatenated in the order of the encoders; a linear layer
    for each modality, where their outputs are added; a view; or None. `widths` are those of the features `z`
    `[B, d_m]`, and `logits` the model's joint logits `[B, C]`, in evaluation mode.

    Raises:
        UsageError: it is something else.
        ModelError: its output for the features is not the logits; names the right order if there is one.
    """
    if head is None:
        return None
    view = _view(head, widths)
    if _makes(view, z, logits):
        return view
    if isinstance(head, nn.Linear) and len(widths) <= 5:
        for order in permutations(widths):
            if _makes(ConcatHead(head, {m: widths[m] for m in order}), z, logits):
                raise ModelError(
                    f"the head reads the features in the order {', '.join(order)}; give the encoders in that "
                    f"order, not as {', '.join(widths)}."
                )
    raise ModelError(
        "the logits are not the output of the head for the features, W [z_1 .. z_M] + b: there are layers "
        "between the encoders and the head, or after it; leave head= out, and choose logits='zero-feature' "
        "or 'aux' if the method has that option."
    )


def _view(head: Head, widths: Mapping[str, int]) -> HeadView:
    if isinstance(head, HeadView):
        return head
    if isinstance(head, nn.Linear):
        return ConcatHead(head, widths)
    if isinstance(head, Mapping) and all(isinstance(layer, nn.Linear) for layer in head.values()):
        if set(head) != set(widths):
            raise UsageError(
                f"head= has layers for {', '.join(map(str, head))}; expected one for each of "
                f"{', '.join(widths)}."
            )
        return SumHead({m: head[m] for m in widths})
    raise UsageError(
        f"head= is a {type(head).__name__}; expected the linear layer that reads the concatenated features, "
        "or a mapping from modality to linear layer."
    )


def _makes(view: HeadView, z: Mapping[str, Tensor], logits: Tensor) -> bool:
    made = torch.stack([view.slice(m, z[m]) for m in view.modalities]).sum(0).detach()
    if made.shape != logits.shape:
        return False
    scale = max(1.0, float(logits.abs().max()))
    near = max(TOLERANCE, *(8 * torch.finfo(x.dtype).eps for x in (logits, *z.values())))
    return bool(torch.allclose(made.double(), logits.double(), atol=near * scale, rtol=near))
