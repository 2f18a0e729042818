"""k-means with the clusters of scikit-learn, in a fraction of the time.

The starts are those of scikit-learn's `KMeans` with the same `random_state`: greedy k-means++ (Arthur,
Vassilvitskii, SODA 2007) draws the same numbers. Lloyd's algorithm then gives the same clusters, and
scikit-learn is the reference of its tests. The time is saved by reading the features once for the draws of
all starts, by bounds that leave out points whose cluster cannot change (Hamerly, SDM 2010), by sums over the
changed points only, and by single precision where rounding cannot decide.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from equipoise.diagnosis.measures.kmeans_few import are_few, lloyd_at_once
from equipoise.diagnosis.measures.kmeans_starts import Cloud, Doubles, Labels, draw_starts, steps
from equipoise.diagnosis.room import room
from equipoise.sharing import Blocks

TOLERANCE: Final = 1e-4
"""Lloyd's algorithm stops when all centres together move by less, in variances of a feature."""


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
        for rows in steps(len(points)):
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
    blocks: Blocks | None = None,
) -> Clustering:
    """Cluster points `[N, d]` and return the best of `n_init` starts.

    Processes that share the points, each with its block, exchange sums over points, candidates for centres,
    and at the end the clusters; the points stay where they are.

    Args:
        points: finite numbers; at least `n_clusters` of them.
        n_clusters: number of clusters `K`.
        n_init: number of starts.
        max_iter: limit for the iterations of each.
        seed: scikit-learn's `random_state`.
        in_place: whether the points, in double precision, may be overwritten.
        blocks: those of the processes; None if this one has all points.
    """
    blocks = blocks or Blocks.alone(len(points))
    mean: Doubles = blocks.sum(points.sum(axis=0, dtype=np.float64)) / blocks.total
    own = in_place and points.dtype == np.float64
    centred = np.subtract(points, mean, out=points if own else room(points.shape, np.float64))
    cloud = Cloud(centred, blocks)
    starts = draw_starts(cloud, n_clusters, n_init, np.random.RandomState(seed))
    best: Clustering | None = None
    for found in _clusterings(cloud, starts, max_iter):
        if found is None:
            # A cluster has lost all its points, because some of them coincide.
            return _by_scikit_learn(blocks.joined(centred), mean, n_clusters, n_init, max_iter, seed)
        if best is None or (found.inertia < best.inertia and not _same(found, best, blocks)):
            best = found
    assert best is not None
    return Clustering(blocks.joined(best.labels), best.centers + mean, best.inertia)


def _clusterings(cloud: Cloud, starts: Labels, max_iter: int) -> Iterator[Clustering | None]:
    """Yield the clusters from each of the starts `[S, K]`; None if one has lost all its points."""
    blocks = cloud.blocks
    if len(blocks.sizes) == 1 and are_few(len(cloud), starts.shape[1], len(starts)):
        tolerance = TOLERANCE * cloud.variance
        at_once = lloyd_at_once(cloud.points, cloud.points[starts], max_iter, tolerance, cloud.slack)
        yield from [None] if at_once is None else [_clustering(cloud, *one) for one in at_once]
    else:
        runs = (_Lloyd(cloud, blocks.rows(cloud.points, start)).run(max_iter) for start in starts)
        yield from _exchanging(runs, blocks)


def _clustering(cloud: Cloud, labels: Labels, centers: Doubles) -> Clustering:
    return Clustering(labels, centers, _inertia(cloud, labels, centers))


def _inertia(cloud: Cloud, labels: Labels, centers: Doubles) -> float:
    """Return the sum of the squared distances of the points of this process from their centres."""
    inertia = 0.0
    for part in steps(len(cloud)):
        away = cloud.points[part] - centers[labels[part]]
        inertia += float(np.einsum("nd,nd->", away, away))
    return inertia


Run = Generator[Doubles, Doubles, "Clustering | None"]
"""Yields an array of this process, gets its sum over all processes, and ends with the clusters."""


def _exchanging(runs: Iterable[Run], blocks: Blocks) -> Iterator[Clustering | None]:
    """Return what runs end with, in order; several processes exchange the sums of all runs at once."""
    if len(blocks.sizes) == 1:
        for run in runs:
            yield _alone(run)
        return
    going, ended = dict(enumerate(runs)), dict[int, Clustering | None]()
    own = {place: next(run) for place, run in going.items()}
    while own:
        sums = blocks.sum(np.concatenate([values.ravel() for values in own.values()]))
        parts = np.split(sums, np.cumsum([values.size for values in own.values()])[:-1])
        for (place, values), part in zip(list(own.items()), parts, strict=True):
            try:
                own[place] = going[place].send(part.reshape(values.shape))
            except StopIteration as end:
                ended[place] = end.value
                del own[place]
    yield from (ended[place] for place in going)


def _alone(run: Run) -> Clustering | None:
    """Return what a run ends with in a process that has all points."""
    values = next(run)
    while True:
        try:
            values = run.send(values)
        except StopIteration as end:
            found: Clustering | None = end.value
            return found


class _Lloyd:
    """Lloyd's algorithm from given centres.

    For every point there is an upper bound of the distance from its own centre, and a lower bound of that
    from all others. They change with the centres; a point whose upper bound is below its lower one keeps its
    cluster, and is not looked at.
    """

    def __init__(self, cloud: Cloud, centers: Doubles) -> None:
        self.cloud, self.centers = cloud, centers
        self.labels: Labels = np.full(len(cloud), -1)
        self.upper, self.lower = np.empty(len(cloud)), np.empty(len(cloud))
        self.sums, self.counts = np.zeros_like(centers), np.zeros(len(centers))

    def run(self, max_iter: int) -> Run:
        """Return the clusters; None if one of them has lost all its points. See `Run`."""
        everywhere = np.arange(len(self.cloud))
        unsure = everywhere
        for _ in range(max_iter):
            changed = self._assign(unsure)
            own = np.append(np.column_stack([self.sums, self.counts]).ravel(), changed)
            totals = yield own
            if not totals[-1]:
                break
            totals = totals[:-1].reshape(len(self.centers), -1)
            if not totals[:, -1].all():
                return None
            moved = self._move(totals[:, :-1] / totals[:, -1:])
            if moved.max() <= self.cloud.slack:
                break  # another assignment could only change points as near to two centres, by rounding
            unsure = everywhere[self.upper >= self.lower - self.cloud.slack]
            if (moved**2).sum() <= TOLERANCE * self.cloud.variance:
                self._assign(unsure)
                break
        else:
            self._assign(unsure)
        inertia = yield np.array([_inertia(self.cloud, self.labels, self.centers)])
        return Clustering(self.labels, self.centers, float(inertia[0]))

    def _assign(self, unsure: Labels) -> bool:
        """Assign points to their nearest centres; return whether any has changed its cluster."""
        squared = np.einsum("kd,kd->k", self.centers, self.centers)
        doubled = -2 * self.centers.T
        compared = doubled.astype(self.cloud.compared.dtype)
        error = 2 * self.cloud.error
        changed = False
        for part in steps(len(unsure)):
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

    def _move(self, centers: Doubles) -> Doubles:
        """Move the centres to the means of their points; return the distances `[K]`, and widen the bounds."""
        moved: Doubles = np.sqrt(((centers - self.centers) ** 2).sum(axis=1))
        self.centers = centers
        self.upper += moved[self.labels]
        others = np.full(len(moved), moved.max())
        if len(moved) > 1:
            first = int(moved.argmax())
            others[first] = np.delete(moved, first).max()
        self.lower -= others[self.labels]
        return moved


def _two_nearest(away: NDArray[np.floating]) -> tuple[Labels, Doubles, Doubles]:
    """Return the smallest of each row of `[N, K]`, overwritten: its place, its value, and the next value."""
    every = np.arange(len(away))
    labels = away.argmin(axis=1)
    own = away[every, labels].astype(np.float64)
    away[every, labels] = np.inf
    return labels, own, away.min(axis=1).astype(np.float64)


def _same(one: Clustering, other: Clustering, blocks: Blocks) -> bool:
    """Return whether two clusterings differ by the names of the clusters alone."""
    both = np.zeros((len(one.centers), len(other.centers)), np.int64)
    both[one.labels, other.labels] = 1
    both = blocks.highest(both)
    return bool(both.sum() == both.any(axis=0).sum() == both.any(axis=1).sum())


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
