"""A joint linear head on given features: ridge regression from sufficient statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, cho_solve, cholesky, lapack

STRENGTHS: Final = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Ridge strengths to choose from, in units of a standardised feature's variance."""
CHUNK = 512
CONSTANT = 1e-9
"""Features whose standard deviation is below this share of their mean count as constant."""
Matrix = NDArray[np.float64]
Features = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Moments:
    """The statistics of a training split that least squares needs.

    Attributes:
        columns: modality to its columns among all `D = sum_m d_m` features.
        n: number of samples.
        mean: of each feature `[D]`.
        scale: factor that makes the variance of each feature 1 `[D]`; 0 for a constant feature.
        gram: `X'X` of the standardised features `[D, D]`.
        cross: `X'Y` `[D, C]`, with centred targets Y.
        bias: mean of the targets `[C]`.
        total: `sum Y^2`.
    """

    columns: Mapping[str, slice]
    n: int
    mean: Matrix
    scale: Matrix
    gram: Matrix
    cross: Matrix
    bias: Matrix
    total: float


@dataclass(frozen=True)
class LinearHead:
    """Scores `sum_m x^m W_m + b` of the standardised features `x^m`.

    Attributes:
        weights: modality to `W_m [d_m, C]`, which includes the scaling.
        means: modality to the means `[d_m]` that are subtracted from features.
        bias: `b [C]`.
        strength: the ridge strength.
    """

    weights: Mapping[str, Matrix]
    means: Mapping[str, Matrix]
    bias: Matrix
    strength: float

    def parts(self, features: Features) -> dict[str, Matrix]:
        """Return the term of each modality in the scores, `{m: [N, C]}`; a mean feature adds 0."""
        return {
            m: np.concatenate([(x.astype(np.float64) - self.means[m]) @ own for x in _chunks(features[m])])
            for m, own in self.weights.items()
        }


def moments(features: Features, targets: Matrix) -> Moments:
    """Accumulate the statistics of features `{m: [N, d_m]}` and targets `[N, C]`, one-hot classes or numbers.

    This is done chunk by chunk in double precision; the features are never copied as a whole.
    """
    ends = np.cumsum([x.shape[1] for x in features.values()])
    columns = {
        m: slice(int(end) - x.shape[1], int(end)) for end, (m, x) in zip(ends, features.items(), strict=True)
    }
    count, size = len(targets), int(ends[-1])
    mean = np.concatenate([_mean(x) for x in features.values()])
    bias = targets.mean(axis=0)
    gram, cross, total = np.zeros((size, size), order="F"), np.zeros((size, targets.shape[1])), 0.0
    for start in range(0, count, CHUNK):
        rows = slice(start, start + CHUNK)
        # Centred before squaring, as moments about zero lose the precision of small deviations.
        x = np.concatenate([part[rows] for part in features.values()], axis=1, dtype=np.float64) - mean
        y = targets[rows] - bias
        gram = blas.dsyrk(1.0, x.T, beta=1.0, c=gram, overwrite_c=1)
        cross += x.T @ y
        total += float(np.square(y).sum())
    gram = np.triu(gram) + np.triu(gram, 1).T
    deviation = np.sqrt(np.diag(gram) / count)
    varies = deviation > CONSTANT * np.abs(mean)
    scale = np.divide(1.0, deviation, out=np.zeros(size), where=varies)
    gram *= scale
    gram *= scale[:, None]
    return Moments(columns, count, mean, scale, gram, cross * scale[:, None], bias, total)


def fit_head(known: Moments, modalities: Sequence[str], strength: float | None = None) -> LinearHead:
    """Fit a head to some of the modalities: `min |Y - X W|^2 + n * strength * |W|^2`.

    Without a strength it is chosen among `STRENGTHS` by generalised cross-validation (Golub, Heath and Wahba,
    1979) on the training split.
    """
    rows = np.concatenate([np.arange(known.mean.size)[known.columns[m]] for m in modalities])
    gram, cross = known.gram[np.ix_(rows, rows)], known.cross[rows]
    if strength is None:
        risks = [_gcv(gram, cross, known, candidate) for candidate in STRENGTHS]
        strength = STRENGTHS[int(np.argmin(risks))]
    weights = cho_solve((_factor(gram, known.n * strength), True), cross) * known.scale[rows, None]
    cuts = np.cumsum([known.columns[m].stop - known.columns[m].start for m in modalities])[:-1]
    return LinearHead(
        dict(zip(modalities, np.split(weights, cuts), strict=True)),
        {m: known.mean[known.columns[m]] for m in modalities},
        known.bias,
        strength,
    )


def fit_whole(features: Features, target: NDArray[Any], num_classes: int) -> tuple[Moments, LinearHead]:
    """Return the statistics of a training split and the head on all of its modalities.

    The target is `[N]` class indices, or numbers, for which `num_classes` is ignored.
    """
    if np.issubdtype(target.dtype, np.floating):
        targets = target.astype(np.float64)[:, None]
    else:
        targets = np.zeros((len(target), num_classes))
        targets[np.arange(len(target)), target] = 1.0
    known = moments(features, targets)
    return known, fit_head(known, list(features))


def _factor(gram: Matrix, ridge: float) -> Matrix:
    loaded = gram.copy()
    loaded[np.diag_indices_from(loaded)] += ridge
    factor: Matrix = cholesky(loaded, lower=True, overwrite_a=True, check_finite=False)
    return factor


def _gcv(gram: Matrix, cross: Matrix, known: Moments, strength: float) -> float:
    """Return `(RSS / n) / (1 - df / (n + 1))^2`, with the degrees of freedom of the fit and its bias.

    `n + 1` instead of `n` avoids a division by zero for a head that fits all samples exactly (df = n).
    """
    ridge = known.n * strength
    factor = _factor(gram, ridge)
    weights = cho_solve((factor, True), cross)
    residual = known.total - float((weights * cross).sum()) - ridge * float(np.square(weights).sum())
    inverse, _ = lapack.dtrtri(factor, lower=1)
    freedom = 1 + len(gram) - ridge * float(np.square(np.tril(inverse)).sum())
    return max(residual, 0.0) / known.n / (1 - freedom / (known.n + 1)) ** 2


def _mean(x: NDArray[Any]) -> Matrix:
    total = np.zeros(x.shape[1])
    for part in _chunks(x):
        total += part.sum(axis=0, dtype=np.float64)
    return total / len(x)


def _chunks(x: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(x), CHUNK):
        yield x[start : start + CHUNK]
