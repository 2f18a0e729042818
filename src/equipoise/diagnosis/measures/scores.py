"""Types of a measure: its input, its score and its description."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from equipoise.sharing import Blocks
from equipoise.types import DataError

Array = NDArray[np.floating]
Labels = NDArray[np.int64]
Values = NDArray[np.generic]


@dataclass(frozen=True)
class Score:
    """A score with the values it was computed from, so that it can be resampled.

    Attributes:
        statistic: function of the columns that gives the score.
        columns: arrays with one entry per sample, for instance clusters and labels.
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
        """Return the score of a bootstrap sample; nothing is fitted again."""
        if self.statistic is share:  # a bootstrap of zeros and ones is a binomial draw
            return float(generator.binomial(self.count, self.value) / self.count)
        rows = generator.integers(self.count, size=self.count)
        return float(self.statistic(*(column[rows] for column in self.columns)))


@dataclass(frozen=True)
class Splits:
    """Scaled features `[N, d]` and targets `[N]` of both splits.

    With `disposable` a measure may overwrite the features. Where processes share the samples, `blocks` are
    those of both splits: features are those of this process, targets those of all.
    """

    train: Array
    train_target: Values
    val: Array
    val_target: Values
    disposable: bool = False
    blocks: tuple[Blocks, Blocks] | None = None


@dataclass(frozen=True)
class Fitting:
    """How a measure fits, see `DiagnosisOptions`; `seed` is that of k-means starts and folds."""

    n_clusters: int
    seed: int
    assign: str
    folds: int
    n_init: int
    max_iter: int
    backend: str


@dataclass(frozen=True)
class Measure:
    """A measure of how well features predict their target.

    Attributes:
        name: its name in the options.
        summary: a description in one line.
        score_splits: from both splits and a `Fitting` to the scores of both splits.
        target: whether it takes classes, a continuous target, or several labels a sample.
        higher_is_better: whether the published index rises with separability. If it falls, the score is
            `1 / (1 + index)`, so that a gap has the same sign and bounds as under the other measures.
        is_share: whether it is a share of samples, which can be corrected for chance.
        needs: `classes` if it is undefined for a single class, `groups` if also for classes of one sample.
        cap: largest number of samples of a split that are scored, unless `max_samples` is given; None scores
            all.
        clusters: whether it clusters the features; scikit-learn then gets them in float64.
        reads_logits: whether it reads the logits of a classifier in place of features; they are neither
            scaled nor reduced.
    """

    name: str
    summary: str
    score_splits: Callable[[Splits, Fitting], tuple[Score, Score]]
    target: Literal["classes", "continuous", "labels"] = "classes"
    higher_is_better: bool = True
    is_share: bool = False
    needs: Literal["", "classes", "groups"] = ""
    cap: int | None = None
    clusters: bool = False
    reads_logits: bool = False

    def pair(self, splits: Splits, how: Fitting) -> tuple[Score, Score]:
        """Return the scores of the training and the validation split; higher is more separable.

        Raises:
            DataError: it is undefined for the classes of a split.
        """
        for split, target in (("training", splits.train_target), ("validation", splits.val_target)):
            classes = len(np.unique(target)) if self.needs else 2
            if classes < 2 or (self.needs == "groups" and classes == len(target)):
                raise DataError(
                    f"{len(target)} {split} samples are of {classes} classes, for which the metric "
                    f"{self.name!r} is undefined; expected at least two classes with several samples each."
                )
        train, val = self.score_splits(splits, how)
        return (train, val) if self.higher_is_better else (_inverted(train), _inverted(val))


def each_split(
    splits: Splits, _how: Fitting, *, score: Callable[[Array, Values], Score]
) -> tuple[Score, Score]:
    """Score each split by itself, by a function of features and targets for which nothing is fitted."""
    return score(splits.train, splits.train_target), score(splits.val, splits.val_target)


def _inverted(score: Score) -> Score:
    return Score(lambda *columns: 1.0 / (1.0 + score.statistic(*columns)), score.columns)


def share(hits: Values) -> float:
    """Return the share of true entries of booleans `[N]`."""
    return float(np.count_nonzero(hits) / len(hits))


def mean(values: Values) -> float:
    """Return the mean of a column of numbers."""
    return float(np.mean(values.astype(np.float64)))
