"""What a measure hands back: a score with what it was computed from, and the splits that it saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from equipoise.diagnosis.measures.clustering import Array, Labels

if TYPE_CHECKING:
    from equipoise.diagnosis.options import DiagnosisOptions

Values = NDArray[np.generic]


@dataclass(frozen=True)
class Score:
    """A score together with what it was computed from, so that it can be resampled.

    Attributes:
        statistic: function of the columns that gives the score.
        columns: arrays of one entry per sample, for instance clusters and labels.
    """

    statistic: Callable[..., float]
    columns: tuple[Values, ...]

    @property
    def value(self) -> float:
        """The score of all samples."""
        return float(self.statistic(*self.columns))

    @property
    def count(self) -> int:
        """Number of samples that were scored."""
        return len(self.columns[0])

    def resampled(self, generator: np.random.Generator) -> float:
        """The score of a bootstrap sample, the fitted clusters, their names and classifiers kept."""
        if self.statistic is share:  # a bootstrap of zeros and ones is a binomial draw
            return float(generator.binomial(self.count, self.value) / self.count)
        rows = generator.integers(self.count, size=self.count)
        return float(self.statistic(*(column[rows] for column in self.columns)))


@dataclass(frozen=True)
class Splits:
    """Scaled features `[N, d]` and targets `[N]` of both splits.

    With `disposable` a measure may use the features' memory for its own ends: nobody reads them again.
    """

    train: Array
    train_target: Values
    val: Array
    val_target: Values
    disposable: bool = False


@dataclass(frozen=True)
class Fitting:
    """The choices of one fit: the options, the number of clusters, and the seed of starts and folds."""

    options: DiagnosisOptions
    n_clusters: int
    seed: int


def share(hits: Values) -> float:
    """Return the share of samples that were hit, of booleans `[N]`."""
    return float(np.count_nonzero(hits) / len(hits))


def mean(values: Values) -> float:
    """Return the mean of a column of numbers."""
    return float(np.mean(values.astype(np.float64)))


def contingency(clusters: Labels, labels: Labels, n_clusters: int) -> NDArray[np.int64]:
    """Count the samples of each cluster and class, `[K, C]`."""
    classes = int(labels.max()) + 1
    flat = np.bincount(clusters * np.int64(classes) + labels, minlength=n_clusters * classes)
    return flat.reshape(n_clusters, classes)


def cluster_purity(clusters: Labels, labels: Labels) -> float:
    """Return `(1/N) * sum_k max_c #{i : cluster(i) = k and label(i) = c}` (purity, Wei et al., ECCV 2024)."""
    table = contingency(clusters, labels, int(clusters.max()) + 1)
    return float(table.max(axis=1).sum() / len(labels))


def majorities(clusters: Labels, labels: Labels, n_clusters: int) -> Labels:
    """Return the most frequent label `[K]` of each cluster."""
    named: Labels = contingency(clusters, labels, n_clusters).argmax(axis=1)
    return named


def stratified_folds(target: Values, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold `[N]` of each sample: every class, or range of a continuous target, in equal parts.

    Equal targets get equal folds, so that two equal splits are cut alike.
    """
    if target.ndim > 1:  # a class is a set of labels
        target = np.unique(target, axis=0, return_inverse=True)[1].reshape(-1)
    shuffled = np.random.default_rng(seed).random(len(target))
    fold = np.empty(len(target), dtype=np.int64)
    fold[np.lexsort((shuffled, target))] = np.arange(len(target)) % folds
    return fold
