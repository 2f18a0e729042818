"""Features in two dimensions, to be plotted (Wei et al., ECCV 2024, Fig. 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equipoise.diagnosis.features.arrays import class_indices, feature_matrix, in_range, label_vector
from equipoise.randomness import isolated_rng
from equipoise.threads import one_thread
from equipoise.types import DataError, UsageError, check_known

KINDS: Final = ("t-sne", "pca")
PERPLEXITY: Final = 30.0
KEPT: Final = 50
"""Number of principal components that t-SNE gets, as its authors recommend."""
FEWEST: Final = 5
"""Number of points below which principal components are used instead of t-SNE."""
WIDE: Final = 2000
"""Number of features above which a seeded randomized PCA is used, for speed."""
Plane = NDArray[np.float64]


@dataclass(frozen=True)
class Projection:
    """One modality's features in two dimensions.

    Attributes:
        modality: its name.
        kind: `t-sne` or `pca`.
        train, val: positions of the plotted samples, `[n, 2]` and `[n_val, 2]`.
        train_labels, val_labels: their class indices, `[n]` and `[n_val]`.
        classes: name of each class.
        total_train, total_val: all samples of each split.
        explained: shares of the training features' variance along both axes; None for t-SNE.
        perplexity: of t-SNE; None for PCA, or if there were too few points for t-SNE.
    """

    modality: str
    kind: str
    train: Plane
    val: Plane
    train_labels: NDArray[np.int64]
    val_labels: NDArray[np.int64]
    classes: tuple[str, ...]
    total_train: int
    total_val: int
    explained: tuple[float, float] | None = None
    perplexity: float | None = None


def project(
    features_train: ArrayLike,
    labels_train: ArrayLike,
    features_val: ArrayLike,
    labels_val: ArrayLike,
    kind: str = "t-sne",
    max_samples: int = 1000,
    seed: int = 0,
    *,
    modality: str = "",
    classes: Sequence[str] | None = None,
) -> Projection:
    """Project the features of both splits to two dimensions.

    t-SNE (van der Maaten and Hinton, 2008) embeds both splits together, so that their positions can be
    compared; PCA is fitted on the training features and applied to both. One thread is used, as the order of
    sums of several threads varies.

    Features are `[N, d]`, labels integers or strings `[N]`; `classes` names them if they are indices, by
    default the labels are the names. At most `max_samples` of a split are plotted, drawn in proportion to the
    classes.

    Raises:
        DataError: features and labels do not match, or are not numbers and classes.
        UnknownNameError: no such kind.
        UsageError: `max_samples` is less than 1.
    """
    check_known("kind of projection", [kind], KINDS)
    if max_samples < 1:
        raise UsageError(f"max_samples is {max_samples}; expected at least 1.")
    train = feature_matrix(features_train, "train features")
    val = feature_matrix(features_val, "val features")
    if train.shape[1] != val.shape[1]:
        raise DataError(
            f"train features are {train.shape[1]} wide and val features {val.shape[1]}; expected one width."
        )
    labels = [
        label_vector(labels_train, "train labels", len(train)),
        label_vector(labels_val, "val labels", len(val)),
    ]
    indices, names = class_indices(np.concatenate(labels))
    own, known = _named(indices, names, classes)
    split = own[: len(train)], own[len(train) :]
    generator = np.random.default_rng(seed)
    rows = [_stratified(part, max_samples, generator) for part in split]
    shown, shown_val = in_range(train[rows[0]], val[rows[1]], by_feature=False)
    points = shown.astype(np.float64), shown_val.astype(np.float64)
    # Frees the memory of features that were read from a file only for this call.
    del features_train, features_val, train, val
    with one_thread(), isolated_rng():
        plane, explained, perplexity = (_tsne if kind == "t-sne" else _pca)(*points, seed)
    return Projection(
        modality,
        kind,
        train=plane[: len(rows[0])],
        val=plane[len(rows[0]) :],
        train_labels=split[0][rows[0]],
        val_labels=split[1][rows[1]],
        classes=known,
        total_train=len(split[0]),
        total_val=len(split[1]),
        explained=explained,
        perplexity=perplexity,
    )


def _named(
    indices: NDArray[np.int64], found: NDArray[np.generic], classes: Sequence[str] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    if classes is None:
        return indices, tuple(str(name) for name in found)
    if found.dtype.kind not in "iub" or int(found.min()) < 0 or int(found.max()) >= len(classes):
        raise DataError(
            f"the labels range from {found.min()} to {found.max()}, but {len(classes)} classes are named; "
            "expected indices into the names."
        )
    return found.astype(np.int64)[indices], tuple(str(name) for name in classes)


def _stratified(labels: NDArray[np.int64], size: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return `size` rows in their order, each class in proportion, by systematic sampling.

    Rows are shuffled within their class and taken at equal steps, so no class differs from its share by more
    than one sample.
    """
    if size >= len(labels):
        return np.arange(len(labels))
    shuffled = generator.permutation(len(labels))
    ordered = shuffled[np.argsort(labels[shuffled], kind="stable")]
    steps = (np.arange(size) + generator.random()) * (len(labels) / size)
    return np.sort(ordered[steps.astype(np.int64)])


def _pca(train: Plane, val: Plane, seed: int) -> tuple[Plane, tuple[float, float], None]:
    """Return both splits along the first two principal components of the training features."""
    points, shares = _components(train, np.concatenate([train, val]), 2, seed)
    first, second = (*(float(share) for share in shares[:2]), 0.0, 0.0)[:2]
    return _two_columns(points), (first, second), None


def _tsne(train: Plane, val: Plane, seed: int) -> tuple[Plane, None, float | None]:
    """Return both splits embedded together, and the perplexity."""
    from sklearn.manifold import TSNE

    both = np.concatenate([train, val])
    reduced, _ = _components(both, both, KEPT, seed)
    # t-SNE squares them in float32.
    reduced = np.asarray(in_range(reduced, reduced[:1], by_feature=False)[0], dtype=np.float64)
    if len(both) < FEWEST or not reduced.any():
        return _two_columns(reduced), None, None
    perplexity = min(PERPLEXITY, (len(both) - 1) / 3)
    init = "pca" if reduced.shape[1] >= 2 else "random"
    embedding = TSNE(2, perplexity=perplexity, init=init, random_state=seed, n_jobs=1)
    return np.asarray(embedding.fit_transform(reduced), dtype=np.float64), None, perplexity


def _components(fit: Plane, shown: Plane, count: int, seed: int) -> tuple[Plane, NDArray[np.float64]]:
    """Return `shown` along the leading components of `fit`, and their shares of its variance."""
    from sklearn.decomposition import PCA

    if (fit == fit[0]).all():  # all points are equal
        return np.zeros((len(shown), 1)), np.zeros(1)
    solver = "covariance_eigh" if fit.shape[1] <= WIDE else "randomized"
    pca = PCA(min(count, *fit.shape), svd_solver=solver, random_state=seed).fit(fit)
    return np.asarray(pca.transform(shown)), np.asarray(pca.explained_variance_ratio_)


def _two_columns(points: Plane) -> Plane:
    return np.pad(points[:, :2], ((0, 0), (0, max(0, 2 - points.shape[1]))))
