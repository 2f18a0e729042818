"""Contrastive losses over the features of several modalities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from equipoise.models.precision import unit_rows, widened


def contrastive_loss(z: Mapping[str, Tensor], target: Tensor, temperature: float) -> Tensor:
    """Return the supervised contrastive loss between modalities, the mean over their pairs.

    For a pair (m, n) it is `-mean_i mean_j log softmax_j(cos(z^m_i, z^n_j) / temperature)` over the samples j
    of the class of sample i, including i itself; the two directions are averaged. The features `[B, d]` have
    one width; the target is `[B]`.
    """
    rows = [unit_rows(feature) for feature in z.values()]
    positive = (target[:, None] == target[None, :]).to(rows[0])
    losses = []
    for a, b in combinations(rows, 2):
        with torch.autocast(a.device.type, enabled=False):  # half precision is too coarse for cosines
            cosines = a @ b.T / temperature
        for similarity in (cosines, cosines.T):
            chosen = (similarity.log_softmax(dim=1) * positive).sum(dim=1) / positive.sum(dim=1)
            losses.append(-chosen.mean())
    return torch.stack(losses).mean()


def supervised_contrastive(features: Sequence[Tensor], target: Tensor, temperature: float) -> Tensor:
    """Return the supervised contrastive loss over the features `[B, d]` of all modalities, of one width.

    It is `mean over anchors a of mean over positives p of -log(exp(s_ap) / sum_{b != a} exp(s_ab))`, with the
    cosine over the temperature as `s`; the positives of a feature are all others of its class.
    """
    similarity, positive, own = _stacked_pairs(features, target, temperature)
    log_p = similarity - similarity.masked_fill(own, -math.inf).logsumexp(1, keepdim=True)
    # With at least two modalities each anchor has a positive: the same sample in another modality.
    return -(log_p * positive).sum(1).div(positive.sum(1)).mean()


def labelled_nt_xent(features: Sequence[Tensor], target: Tensor, temperature: float) -> Tensor:
    """Return NT-Xent with labels over the features `[B, d]` of all modalities, of one width.

    It is `mean over pairs (a, p) of -log(exp(s_ap) / (exp(s_ap) + sum_n exp(s_an)))`, with `s` and the
    positives p of `supervised_contrastive`, and the features of other classes as negatives n.
    """
    similarity, positive, own = _stacked_pairs(features, target, temperature)
    negatives = similarity.masked_fill(positive | own, -math.inf).logsumexp(1, keepdim=True)
    missed = torch.logaddexp(similarity, negatives) - similarity
    return (missed * positive).sum() / positive.sum()


def _stacked_pairs(
    features: Sequence[Tensor], target: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return cosine over temperature, whether two differ but share a class, and the diagonal, `[MB, MB]`."""
    stacked = torch.cat(list(features))
    label = target.repeat(len(features))
    with torch.autocast(stacked.device.type, enabled=False):  # half precision is too coarse for cosines
        unit = F.normalize(widened(stacked), dim=1)
        similarity = unit @ unit.T / temperature
    own = torch.eye(len(label), dtype=torch.bool, device=label.device)
    return similarity, (label[:, None] == label) & ~own, own
