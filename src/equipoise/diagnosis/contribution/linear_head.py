"""A joint linear head on features in hand: ridge regression from sufficient statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import blas, cho_solve, cholesky, lapack
from threadpoolctl import threadpool_limits

from equipoise.diagnosis.contribution.contributions import Contributions
from equipoise.diagnosis.contribution.head_inputs import Features, head_targets, matched_features
from equipoise.diagnosis.contribution.subset_scores import Ruler, answers

STRENGTHS: Final = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Ridge strengths to choose from, in units of a standardised feature's variance."""
CHUNK = 512
CONSTANT = 1e-9
"""A feature whose standard deviation is below this share of its mean is constant."""
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """All that least squares needs to know of a training split.

    Attributes:
        columns: modality to its columns among all `D = sum_m d_m`.
        n: number of samples.
        mean: of each feature `[D]`.
        scale: factor that makes its variance 1 `[D]`; 0 where the feature is constant.
        gram: `X'X` of the standardised features `[D, D]`.
        cross: `X'Y` `[D, C]`, with the centred targets Y.
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
        weights: modality to `W_m [d_m, C]`, for features as they are given: the scaling is in it.
        means: modality to the means `[d_m]` that are taken off.
        bias: `b [C]`.
        strength: the ridge strength.
    """

    weights: Mapping[str, Matrix]
    means: Mapping[str, Matrix]
    bias: Matrix
    strength: float

    def parts(self, features: Features) -> dict[str, Matrix]:
        """Return what each modality adds to the scores, `{m: [N, C]}`; a mean feature adds 0."""
        found = {}
        for m, weights in self.weights.items():
            found[m] = np.concatenate(
                [(x.astype(np.float64) - self.means[m]) @ weights for x in _chunks(features[m])]
            )
        return found


@dataclass(frozen=True)
class Refits:
    """Scores of heads that were fitted to some modalities only.

    Attributes:
        alone: modality to the score of a head on it alone.
        without: modality to the score of a head on all others; empty where there are none.
        everything: score of the head on all modalities.
    """

    alone: dict[str, float]
    without: dict[str, float]
    everything: float

    def into(self, contributions: Contributions) -> Contributions:
        """Return the contributions with these scores beside them."""
        return replace(contributions, refitted=self.alone, without=self.without, refitted_all=self.everything)


def moments(features: Features, targets: Matrix) -> Moments:
    """Accumulate the statistics of a split, chunk by chunk in double precision.

    Args:
        features: modality to `[N, d_m]`; never copied as a whole.
        targets: `[N, C]`, one-hot classes or numbers.
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
        # Centred before it is squared: moments about zero would lose what small deviations have.
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

    Args:
        known: the training split.
        modalities: those that the head reads; their block of the Gram matrix is all that is needed.
        strength: of the ridge; None chooses among `STRENGTHS` by generalised cross-validation (Golub, Heath
            and Wahba, 1979) on the training split.
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


def refits(known: Moments, whole: LinearHead, features: Features, target: NDArray[Any]) -> Refits:
    """Score heads on each modality alone, on all others, and on all.

    A head on one modality chooses its own ridge strength. A head on several takes that of the head on all:
    it reads nearly the same, and choosing again would cost more than all else.

    Args:
        known: the training split.
        whole: the head on all modalities.
        features: of the split that is scored, `{m: [N, d_m]}`.
        target: its classes or numbers `[N]`.
    """
    ruler, names = Ruler(target), tuple(known.columns)

    def scored(head: LinearHead) -> float:
        scores = sum(head.parts(features).values(), start=head.bias)
        return ruler.score(ruler.outcomes(answers(scores, target)))

    others = {m: [n for n in names if n != m] for m in names}
    heads: dict[tuple[str, ...], LinearHead] = {(m,): fit_head(known, [m]) for m in names}
    heads |= {tuple(o): fit_head(known, o, whole.strength) for o in others.values() if len(o) > 1}
    found = {key: scored(head) for key, head in heads.items()}
    without = {m: found[tuple(o)] for m, o in others.items() if o}
    return Refits({m: found[(m,)] for m in names}, without, scored(whole))


def refits_of(
    train: Mapping[str, ArrayLike],
    train_labels: ArrayLike,
    val: Mapping[str, ArrayLike],
    val_labels: ArrayLike,
) -> Refits:
    """Score heads on features in hand; `Refits.into` puts the scores beside a model's contributions.

    Args:
        train: modality name to training features `[N, d_m]` (NumPy arrays or tensors).
        train_labels: classes `[N]`, or numbers.
        val: modality name to the features that are scored, `[N_val, d_m]`.
        val_labels: their classes or numbers `[N_val]`.

    Raises:
        DataError: modalities, lengths, widths or classes do not fit, or features are not finite.
    """
    y, y_val, classes = head_targets(train_labels, val_labels)
    x, x_val = matched_features(train, val, len(y), len(y_val))
    with threadpool_limits(limits=1):  # sums of several threads would not be repeatable
        known, whole = fit_whole(x, y, len(classes))
        return refits(known, whole, x_val, y_val)


def fit_whole(features: Features, target: NDArray[Any], num_classes: int) -> tuple[Moments, LinearHead]:
    """Return statistics of a training split, and the head on all of its modalities.

    Args:
        features: modality to `[N, d_m]`.
        target: class indices `[N]`, or numbers.
        num_classes: `C`; of no meaning for numbers.
    """
    if np.issubdtype(target.dtype, np.floating):
        wanted = target.astype(np.float64)[:, None]
    else:
        wanted = np.zeros((len(target), num_classes))
        wanted[np.arange(len(target)), target] = 1.0
    known = moments(features, wanted)
    return known, fit_head(known, list(features))


def _factor(gram: Matrix, ridge: float) -> Matrix:
    loaded = gram.copy()
    loaded[np.diag_indices_from(loaded)] += ridge
    factor: Matrix = cholesky(loaded, lower=True, overwrite_a=True, check_finite=False)
    return factor


def _gcv(gram: Matrix, cross: Matrix, known: Moments, strength: float) -> float:
    """Return `(RSS / n) / (1 - df / (n + 1))^2`, with the degrees of freedom of the fit and its bias.

    One more sample in the denominator keeps a head that can fit everything (df = n) from a division by zero.
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
