"""k-means with the clusters of scikit-learn, in a fraction of the time.

The starts are those of scikit-learn's `KMeans` with the same `random_state`: greedy k-means++ (Arthur,
Vassilvitskii, SODA 2007) draws the same numbers. Lloyd's algorithm then gives the same clusters, and
scikit-learn is the reference of its tests. The time is saved by reading the features once for the draws of
all starts, by bounds that leave out points whose cluster cannot change (Hamerly, SDM 2010), by sums over the
changed points only, and by single precision where rounding cannot decide.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Labels = NDArray[np.int64]
TOLERANCE: Final = 1e-4
"""Lloyd's algorithm stops when all centres together move by less, in variances of a feature."""
SLACK: Final = 1e-9
"""Bounds closer than this, of distances relative to the farthest point, are not trusted."""
LARGE: Final = 500_000
"""Values from which on single precision saves more time than it takes to check where rounding decides."""
UNIT: Final = 2.0**-24
"""Largest relative error of a number that is rounded to single precision."""
ROWS: Final = 1024
"""Points per step: they and their distances stay in the processor's cache."""


@dataclass(frozen=True)
class Clustering:
    """Clusters of points.

    Attributes:
        labels: the cluster `[N]` of each point.
        centers: `[K, d]`.
        inertia: sum of the squared distances of the points from the centres of their clusters.
    """

    labels: Labels
    centers: Doubles
    inertia: float

    def assign(self, points: NDArray[np.floating]) -> Labels:
        """Return the nearest cluster `[N]` of points `[N, d]`."""
        squared = np.einsum("kd,kd->k", self.centers, self.centers)
        labels = np.empty(len(points), np.int64)
        for rows in _steps(len(points)):
            labels[rows] = (squared - 2 * (points[rows] @ self.centers.T)).argmin(axis=1)
        return labels


def kmeans(
    points: NDArray[np.floating],
    n_clusters: int,
    *,
    n_init: int,
    max_iter: int,
    seed: int,
    in_place: bool = False,
) -> Clustering:
    """Cluster points `[N, d]` and return the best of `n_init` starts.

    Args:
        points: finite numbers; at least `n_clusters` of them.
        n_clusters: number of clusters `K`.
        n_init: number of starts.
        max_iter: limit for the iterations of each.
        seed: scikit-learn's `random_state`.
        in_place: whether the points, in double precision, may be overwritten.
    """
    mean = points.mean(axis=0, dtype=np.float64)
    centred = np.subtract(points, mean, out=points if in_place and points.dtype == np.float64 else None)
    cloud = _Cloud(centred)
    starts = _draw_starts(cloud, n_clusters, n_init, np.random.RandomState(seed))
    best: Clustering | None = None
    for start in starts:
        found = _Lloyd(cloud, centred[start]).run(max_iter)
        if found is None:
            # A cluster has lost all its points, because some of them coincide.
            return _by_scikit_learn(centred, mean, n_clusters, n_init, max_iter, seed)
        if best is None or (found.inertia < best.inertia and not _same(found.labels, best.labels)):
            best = found
    assert best is not None
    return Clustering(best.labels, best.centers + mean, best.inertia)


class _Cloud:
    """Points `[N, d]` around the origin, with the squares of their norms `[N]`."""

    def __init__(self, points: Doubles) -> None:
        self.points = points
        self.squares: Doubles = np.einsum("nd,nd->n", points, points)
        self.variance = float(self.squares.sum() / points.size)
        self.farthest = math.sqrt(self.squares.max(initial=0.0))
        self.slack = SLACK * self.farthest
        large = points.size >= LARGE and 1e-15 < self.farthest < 1e15  # squares that single precision holds
        self.compared: NDArray[np.floating] = points.astype(np.float32) if large else points
        # Of a product of a point with another or a centre, none of which is farther from the origin.
        self.error = (points.shape[1] + 8) * UNIT * self.farthest**2 if large else 0.0

    def __len__(self) -> int:
        return len(self.points)

    def distances(self, rows: Labels) -> Doubles:
        """Return the squared distances `[S, N]` of all points from those in `rows`."""
        squared = np.empty((len(rows), len(self)))
        for part in _steps(len(self)):
            squared[:, part] = self.points[rows] @ self.points[part].T
        squared *= -2
        squared += self.squares[rows][:, None]
        squared += self.squares
        return np.maximum(squared, 0, out=squared)


def _draw_starts(cloud: _Cloud, n_clusters: int, n_init: int, state: np.random.RandomState) -> Labels:
    """Return the points `[S, K]` that are the first centres of each start.

    Every next centre is the best of some candidates, drawn in proportion to the squared distance from the
    nearest centre. How many numbers are drawn does not depend on the points, so all starts go side by side.
    """
    trials = 2 + int(math.log(n_clusters))
    drawn = [(state.random_sample(), state.random_sample((n_clusters - 1, trials))) for _ in range(n_init)]
    chosen = np.empty((n_init, n_clusters), np.int64)
    even = np.cumsum(np.full(len(cloud), 1 / len(cloud)))
    chosen[:, 0] = (even / even[-1]).searchsorted([first for first, _ in drawn], side="right")
    nearest = cloud.distances(chosen[:, 0])
    for place in range(1, n_clusters):
        sums = [np.cumsum(row) for row in nearest]
        totals = nearest.sum(axis=1)
        candidates = np.stack(
            [
                np.minimum(sums[i].searchsorted(later[place - 1] * totals[i]), len(cloud) - 1)
                for i, (_, later) in enumerate(drawn)
            ]
        )
        best = _potentials(cloud, candidates, nearest).argmin(axis=1)
        chosen[:, place] = candidates[np.arange(n_init), best]
        np.minimum(nearest, cloud.distances(chosen[:, place]), out=nearest)
    return chosen


def _potentials(cloud: _Cloud, candidates: Labels, nearest: Doubles) -> Doubles:
    """Return the sum of the squared distances from the nearest centre with each candidate, `[S, trials]`.

    Rounding could only matter where two candidates are equally good to the last digits.
    """
    starts, trials = candidates.shape
    flat = candidates.ravel()
    kind = cloud.compared.dtype
    at, squares = -2 * cloud.compared[flat], cloud.squares[flat][:, None].astype(kind)
    sums = np.zeros((starts, trials))
    for part in _steps(len(cloud)):
        squared = at @ cloud.compared[part].T
        squared += squares
        squared += cloud.squares[part].astype(kind)
        by_start = np.maximum(squared, 0, out=squared).reshape(starts, trials, -1)
        np.minimum(by_start, nearest[:, None, part].astype(kind), out=by_start)
        sums += by_start.sum(axis=2, dtype=np.float64)
    return sums


class _Lloyd:
    """Lloyd's algorithm from given centres.

    For every point there is an upper bound of the distance from its own centre, and a lower bound of that
    from all others. They change with the centres; a point whose upper bound is below its lower one keeps its
    cluster, and is not looked at.
    """

    def __init__(self, cloud: _Cloud, centers: Doubles) -> None:
        self.cloud, self.centers = cloud, centers
        self.labels: Labels = np.full(len(cloud), -1)
        self.upper, self.lower = np.empty(len(cloud)), np.empty(len(cloud))
        self.sums, self.counts = np.zeros_like(centers), np.zeros(len(centers))

    def run(self, max_iter: int) -> Clustering | None:
        """Return the clusters; None if one of them has lost all its points."""
        everywhere = np.arange(len(self.cloud))
        unsure = everywhere
        for _ in range(max_iter):
            if not self._assign(unsure):
                return self._clustering()
            if not self.counts.all():
                return None
            moved = self._move()
            unsure = everywhere[self.upper >= self.lower - self.cloud.slack]
            if (moved**2).sum() <= TOLERANCE * self.cloud.variance:
                break
        self._assign(unsure)
        return self._clustering()

    def _assign(self, unsure: Labels) -> bool:
        """Assign points to their nearest centres; return whether any has changed its cluster."""
        squared = np.einsum("kd,kd->k", self.centers, self.centers)
        doubled = -2 * self.centers.T
        compared = doubled.astype(self.cloud.compared.dtype)
        error = 2 * self.cloud.error
        changed = False
        for part in _steps(len(unsure)):
            rows = unsure[part]
            away = self.cloud.compared[rows] @ compared
            away += squared.astype(away.dtype)
            labels, own, other = _two_nearest(away)
            if error and (close := np.flatnonzero(other - own <= 2 * error)).size:
                exact = self.cloud.points[rows[close]] @ doubled
                exact += squared
                labels[close], own[close], other[close] = _two_nearest(exact)
            squares = self.cloud.squares[rows]
            self.upper[rows] = np.sqrt(np.maximum(own + squares + error, 0))
            self.lower[rows] = np.sqrt(np.maximum(other + squares - error, 0))
            before = self.labels[rows]
            if (new := np.flatnonzero(labels != before)).size:
                changed = True
                self.labels[rows] = labels
                self._transfer(self.cloud.points[rows[new]], before[new], labels[new])
        return changed

    def _transfer(self, points: Doubles, before: Labels, after: Labels) -> None:
        """Move points from the sums of their clusters `before`, -1 at first, to others."""
        signs = np.zeros((len(points), len(self.centers)))
        every = np.arange(len(points))
        signs[every, after] = 1
        had = before >= 0
        signs[every[had], before[had]] = -1
        self.sums += signs.T @ points
        self.counts += signs.sum(axis=0)

    def _move(self) -> Doubles:
        """Move the centres to the means of their points; return the distances `[K]`, and widen the bounds."""
        centers = self.sums / self.counts[:, None]
        moved: Doubles = np.sqrt(((centers - self.centers) ** 2).sum(axis=1))
        self.centers = centers
        self.upper += moved[self.labels]
        others = np.full(len(moved), moved.max())
        if len(moved) > 1:
            first = int(moved.argmax())
            others[first] = np.delete(moved, first).max()
        self.lower -= others[self.labels]
        return moved

    def _clustering(self) -> Clustering:
        inertia = 0.0
        for part in _steps(len(self.cloud)):
            away = self.cloud.points[part] - self.centers[self.labels[part]]
            inertia += float(np.einsum("nd,nd->", away, away))
        return Clustering(self.labels, self.centers, inertia)


def _two_nearest(away: NDArray[np.floating]) -> tuple[Labels, Doubles, Doubles]:
    """Return the smallest of each row of `[N, K]`, overwritten: its place, its value, and the next value."""
    every = np.arange(len(away))
    labels = away.argmin(axis=1)
    own = away[every, labels].astype(np.float64)
    away[every, labels] = np.inf
    return labels, own, away.min(axis=1).astype(np.float64)


def _same(labels: Labels, others: Labels) -> bool:
    """Return whether two clusterings differ by the names of the clusters alone."""
    pairs = len(np.unique(labels * (others.max() + 1) + others))
    return pairs == len(np.unique(labels)) == len(np.unique(others))


def _steps(count: int) -> list[slice]:
    return [slice(start, min(start + ROWS, count)) for start in range(0, count, ROWS)]


def _by_scikit_learn(
    centred: Doubles, mean: Doubles, n_clusters: int, n_init: int, max_iter: int, seed: int
) -> Clustering:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # Points may have collapsed into fewer distinct ones than clusters.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = KMeans(n_clusters, n_init=n_init, max_iter=max_iter, random_state=seed).fit(centred)
    return Clustering(model.labels_.astype(np.int64), model.cluster_centers_ + mean, float(model.inertia_))
