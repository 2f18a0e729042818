"""The starts of k-means: greedy k-means++, as scikit-learn draws them, for all starts at once."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from equipoise.diagnosis.room import copied
from equipoise.sharing import Blocks

Doubles = NDArray[np.float64]
Labels = NDArray[np.int64]
SLACK: Final = 1e-9
"""Bounds closer than this, of distances relative to the farthest point, are not trusted."""
LARGE: Final = 500_000
"""Values from which on single precision saves more time than it takes to check where rounding decides."""
UNIT: Final = 2.0**-24
"""Largest relative error of a number that is rounded to single precision."""
ROWS: Final = 1024
"""Points per step: they and their distances stay in the processor's cache."""


class Cloud:
    """Points `[N, d]` around the origin, with the squares of their norms `[N]`.

    Where processes share them, these are the points of this process, and all else is that of all.
    """

    def __init__(self, points: Doubles, blocks: Blocks) -> None:
        self.points, self.blocks = points, blocks
        self.squares: Doubles = np.einsum("nd,nd->n", points, points)
        size = blocks.total * points.shape[1]
        self.variance = float(blocks.sum(self.squares.sum()) / size)
        self.farthest = math.sqrt(blocks.highest(self.squares.max(initial=0.0)))
        self.slack = SLACK * self.farthest
        large = size >= LARGE and 1e-15 < self.farthest < 1e15  # squares that single precision holds
        self.compared: NDArray[np.floating] = copied(points, np.float32) if large else points
        # Of a product of a point with another or a centre, none of which is farther from the origin.
        self.error = (points.shape[1] + 8) * UNIT * self.farthest**2 if large else 0.0

    def __len__(self) -> int:
        return len(self.points)

    def distances(self, wanted: Labels) -> Doubles:
        """Return the squared distances `[S, N]` of the points from those `wanted`, by their number."""
        rows, squares = self.blocks.rows(self.points, wanted), self.blocks.rows(self.squares, wanted)
        squared = np.empty((len(wanted), len(self)))
        for part in steps(len(self)):
            squared[:, part] = rows @ self.points[part].T
        squared *= -2
        squared += squares[:, None]
        squared += self.squares
        return np.maximum(squared, 0, out=squared)


def draw_starts(cloud: Cloud, n_clusters: int, n_init: int, state: np.random.RandomState) -> Labels:
    """Return the points `[S, K]` that are the first centres of each start.

    Every next centre is the best of some candidates, drawn in proportion to the squared distance from the
    nearest centre. How many numbers are drawn does not depend on the points, so all starts go side by side.
    """
    blocks, trials = cloud.blocks, 2 + int(math.log(n_clusters))
    drawn = [(state.random_sample(), state.random_sample((n_clusters - 1, trials))) for _ in range(n_init)]
    chosen = np.empty((n_init, n_clusters), np.int64)
    even = np.cumsum(np.full(blocks.total, 1 / blocks.total))
    chosen[:, 0] = (even / even[-1]).searchsorted([first for first, _ in drawn], side="right")
    nearest = cloud.distances(chosen[:, 0])
    for place in range(1, n_clusters):
        totals = blocks.sum(nearest.sum(axis=1))
        wanted = np.stack([later[place - 1] for _, later in drawn]) * totals[:, None]
        candidates = np.minimum(_places(nearest, wanted, blocks), blocks.total - 1)
        best = _potentials(cloud, candidates, nearest).argmin(axis=1)
        chosen[:, place] = candidates[np.arange(n_init), best]
        np.minimum(nearest, cloud.distances(chosen[:, place]), out=nearest)
    return chosen


def _places(weights: Doubles, wanted: Doubles, blocks: Blocks) -> Labels:
    """Return how many sums of the first `weights [S, N]` are below those `wanted [S, trials]`."""
    sums = np.cumsum(weights, axis=1)
    if len(blocks.sizes) > 1:
        sums += blocks.before(sums[:, -1])[:, None]
    below = [row.searchsorted(values) for row, values in zip(sums, wanted, strict=True)]
    return blocks.sum(np.stack(below).astype(np.int64))


def _potentials(cloud: Cloud, candidates: Labels, nearest: Doubles) -> Doubles:
    """Return the sum of the squared distances from the nearest centre with each candidate, `[S, trials]`.

    Rounding could only matter where two candidates are equally good to the last digits.
    """
    starts, trials = candidates.shape
    kind = cloud.compared.dtype
    at = -2 * cloud.blocks.rows(cloud.compared, candidates.ravel())
    squares = cloud.blocks.rows(cloud.squares, candidates.ravel())[:, None].astype(kind)
    sums = np.zeros((starts, trials))
    for part in steps(len(cloud)):
        squared = at @ cloud.compared[part].T
        squared += squares
        squared += cloud.squares[part].astype(kind)
        by_start = np.maximum(squared, 0, out=squared).reshape(starts, trials, -1)
        np.minimum(by_start, nearest[:, None, part].astype(kind), out=by_start)
        sums += by_start.sum(axis=2, dtype=np.float64)
    return cloud.blocks.sum(sums)


def steps(count: int) -> list[slice]:
    """Return slices of `ROWS` rows."""
    return [slice(start, min(start + ROWS, count)) for start in range(0, count, ROWS)]
