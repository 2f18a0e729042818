"""Lloyd's algorithm from several starts at once, for few points and clusters.

Here calling NumPy takes longer than computing, so the distances from the centres of all starts are one
product. Of many points or clusters most distances need not be computed: see `kmeans`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Labels = NDArray[np.int64]
POINTS: Final = 8192
CENTERS: Final = 100
"""Largest numbers of points, and of centres of all starts together, for which this is faster."""


def are_few(points: int, clusters: int, starts: int) -> bool:
    """Return whether all starts are better run at once."""
    return starts > 1 and points <= POINTS and clusters * starts <= CENTERS


def lloyd_at_once(
    points: Doubles, starts: Doubles, max_iter: int, tolerance: float, slack: float
) -> list[tuple[Labels, Doubles]] | None:
    """Return labels `[N]` and centres `[K, d]` of each of the starts `[S, K, d]`.

    A start has ended when no label changes, after `max_iter` iterations, or when its centres move by at most
    `tolerance`, the sum of their squared distances; the points are then assigned once more, unless no centre
    moved by more than `slack`. None if a cluster has lost all its points.
    """
    count, clusters = len(starts), starts.shape[1]
    centers = starts.copy()
    labels: Labels = np.full((len(points), count), -1)
    sums, sizes = np.zeros_like(centers), np.zeros((count, clusters))
    running, ending = np.arange(count), np.zeros(count, bool)
    for step in range(max_iter + 1):
        now, before = _nearest(points, centers[running]), labels[:, running]
        labels[:, running] = now
        goes_on = (now != before).any(axis=0) & ~ending[running]
        if step == max_iter or not goes_on.any():
            break
        running, now, before = running[goes_on], now[:, goes_on], before[:, goes_on]
        rows = np.flatnonzero((now != before).any(axis=1))
        gained, added = _moved(points[rows], now[rows], before[rows], clusters)
        sums[running] += gained
        sizes[running] += added
        if not sizes[running].all():
            return None
        means = sums[running] / sizes[running][:, :, None]
        shifts = ((means - centers[running]) ** 2).sum(axis=2)
        centers[running], ending[running] = means, shifts.sum(axis=1) <= tolerance
        running = running[shifts.max(axis=1) > slack**2]
    return [(labels[:, start].copy(), centers[start]) for start in range(count)]


def _nearest(points: Doubles, centers: Doubles) -> Labels:
    """Return the nearest centre of each start `[N, S]`."""
    starts, clusters, width = centers.shape
    away = points @ (-2 * centers.reshape(-1, width).T)
    away += np.einsum("skd,skd->sk", centers, centers).ravel()
    nearest: Labels = away.reshape(-1, clusters).argmin(axis=1)
    return nearest.reshape(len(points), starts)


def _moved(points: Doubles, now: Labels, before: Labels, clusters: int) -> tuple[Doubles, Doubles]:
    """Return what the sums `[S, K, d]` and sizes `[S, K]` of clusters gain if points change theirs.

    Labels `before` are -1 at first.
    """
    starts = now.shape[1]
    offsets, every = clusters * np.arange(starts), np.arange(len(points))[:, None]
    signs = np.zeros((len(points), starts * clusters))
    signs[every, now + offsets] = 1
    if (before >= 0).all():
        signs[every, before + offsets] -= 1
    gained = (signs.T @ points).reshape(starts, clusters, -1)
    return gained, signs.sum(axis=0).reshape(starts, clusters)
