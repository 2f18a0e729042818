"""k-means in torch, for large sets and for GPUs: an optimum as good as that of scikit-learn, in less time.

All starts are drawn from some of the points and improved there, side by side. The best one is then improved
on all points, until an iteration hardly lowers the inertia. Memory beyond the features is that of one block
of distances and of the sample.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equipoise.diagnosis.measures.kmeans import Clustering
from equipoise.diagnosis.room import room

SAMPLE: Final = 4096
"""Points that starts are drawn from and improved on, if there are fewer clusters than 64."""
PER_CLUSTER: Final = 64
"""The same for each cluster, if there are more."""
ENOUGH: Final = 1e-4
"""The algorithm stops when an iteration lowers the inertia by less than this part of it."""
BLOCK: Final = 2**19
"""Distances, or numbers of points, that are held at a time on a CPU: they stay in the processor's cache."""
BLOCK_ON_GPU: Final = 2**28
TRIALS: Final = 4
"""Candidates for each further centre of a start; the best of them is taken."""


def torch_kmeans(
    points: NDArray[np.floating], n_clusters: int, *, n_init: int, max_iter: int, seed: int
) -> Clustering:
    """Cluster points `[N, d]` on a GPU if available, else on the CPU, in the precision of the points.

    The arguments are those of `kmeans`. Starts are drawn on the CPU, to be the same on every device.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.as_tensor(points, device=device)
    generator = torch.Generator().manual_seed(seed)
    # Squared distances of points far from the origin would lose precision in single precision.
    origin = x.mean(dim=0)
    if x.is_cuda:
        x = x - origin
    else:
        x = torch.sub(x, origin, out=torch.from_numpy(room(points.shape, points.dtype)))
    chosen = torch.randperm(len(x), generator=generator)[: max(SAMPLE, PER_CLUSTER * n_clusters)]
    sample = x[chosen.to(device)] if len(chosen) < len(x) else x
    centers = _draw(sample, n_clusters, n_init, generator)
    inertia = torch.full((n_init,), torch.inf, dtype=torch.float64, device=device)
    for _ in range(max_iter):
        before = inertia
        centers, inertia, _ = _iterate(sample, centers)
        if bool((inertia >= before * (1 - ENOUGH)).all()):
            break
    centers = centers[inertia.argmin()][None]
    # A small set is finished: a few iterations more cost nothing.
    enough, last = 0.0 if sample is x else ENOUGH, torch.inf
    for step in range(max_iter + 1):
        moved, inertia, labels = _iterate(x, centers)
        if step == max_iter or float(inertia) >= last * (1 - enough):
            break
        centers, last = moved, float(inertia)
    found: NDArray[np.float64] = (centers[0].double() + origin.double()).cpu().numpy()
    return Clustering(labels[:, 0].cpu().numpy(), found, float(inertia))


def _draw(x: Tensor, clusters: int, starts: int, generator: torch.Generator) -> Tensor:
    """Return the first centres `[S, K, d]` by k-means++ with several candidates, of all starts at once."""
    squares = x.square().sum(dim=1)
    first = torch.randint(len(x), (starts, 1), generator=generator).to(x.device)
    chosen = [first[:, 0]]
    nearest = _from_rows(x, squares, first)[:, 0]
    for _ in range(1, clusters):
        sums = nearest.double().cumsum(dim=1)
        drawn = torch.rand(starts, TRIALS, generator=generator, dtype=torch.float64).to(x.device)
        rows = torch.searchsorted(sums, drawn * sums[:, -1:]).clamp(max=len(x) - 1)
        with_each = torch.minimum(_from_rows(x, squares, rows), nearest[:, None])
        best = with_each.double().sum(dim=2).argmin(dim=1)
        every = torch.arange(starts, device=x.device)
        nearest = with_each[every, best]
        chosen.append(rows[every, best])
    return x[torch.stack(chosen, dim=1)]


def _from_rows(x: Tensor, squares: Tensor, rows: Tensor) -> Tensor:
    """Return the squared distances `[S, R, N]` of all points from those in `rows [S, R]`."""
    flat = rows.flatten()
    squared = torch.addmm(squares[flat][:, None] + squares, x[flat], x.T, alpha=-2)
    return squared.clamp_(min=0).view(*rows.shape, -1)


def _iterate(x: Tensor, centers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Take one iteration of Lloyd's algorithm from centres `[S, K, d]`.

    Returns:
        The next centres, and of the given ones the inertia `[S]` (float64) and the nearest `[N, S]`.
    """
    starts, clusters, width = centers.shape
    flat = centers.reshape(-1, width)
    squares = flat.square().sum(dim=1)
    doubled = flat.T * -2
    sums, counts = torch.zeros_like(flat), torch.zeros(len(flat), device=x.device, dtype=x.dtype)
    inertia = torch.zeros(starts, dtype=torch.float64, device=x.device)
    offsets = torch.arange(starts, device=x.device) * clusters
    rows = max(1, (BLOCK if x.device.type == "cpu" else BLOCK_ON_GPU) // max(len(flat), width))
    # Memory of the CPU that is taken and given back by blocks, between results that stay, would break up.
    labels = torch.empty(len(x), starts, dtype=torch.int64, device=x.device)
    squared = torch.empty_like(x[:rows])
    for part, own in zip(torch.split(x, rows), torch.split(labels, rows), strict=True):
        away, nearest = torch.addmm(squares, part, doubled).view(len(part), starts, clusters).min(dim=2)
        away += torch.square(part, out=squared[: len(part)]).sum(dim=1, keepdim=True)
        inertia += away.clamp_(min=0).sum(dim=0, dtype=torch.float64)
        own.copy_(nearest)
        places = nearest + offsets
        for start in range(starts):
            sums.index_add_(0, places[:, start], part)
        counts += places.flatten().bincount(minlength=len(flat))
    moved = sums / counts.clamp(min=1)[:, None]
    moved = torch.where((counts == 0)[:, None], flat, moved)
    return moved.view_as(centers), inertia, labels
