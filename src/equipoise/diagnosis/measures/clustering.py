"""k-means behind one small interface: scikit-learn's as the reference, torch's for the device."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from equipoise.types import DataError

Array = NDArray[np.floating]
Labels = NDArray[np.int64]


class Clustering(Protocol):
    """A fitted clustering."""

    labels: Labels

    def assign(self, features: Array) -> Labels:
        """Return the nearest cluster `[N]` of each row of `features [N, d]`."""
        ...


def fit_kmeans(
    features: Array,
    n_clusters: int,
    *,
    seed: int,
    n_init: int,
    max_iter: int,
    backend: str,
    disposable: bool = False,
) -> Clustering:
    """Cluster `features [N, d]` by Lloyd's algorithm from k-means++ starts.

    Equal input gives equal clusters on every call: the sums of scikit-learn's threads arrive in any order,
    so it runs on one. With `disposable` the memory of `features` is used up, and none of its size is taken.

    Raises:
        DataError: fewer samples than clusters.
    """
    if len(features) < n_clusters:
        raise DataError(
            f"{len(features)} samples are fewer than the {n_clusters} clusters asked for; "
            "give more samples, or a smaller n_clusters."
        )
    if backend == "torch":
        return TorchKMeans(n_clusters, seed, n_init, max_iter).fit(features)
    return SklearnKMeans(n_clusters, seed, n_init, max_iter).fit(features, disposable=disposable)


@dataclass
class SklearnKMeans:
    """scikit-learn's k-means, on one thread."""

    n_clusters: int
    seed: int
    n_init: int
    max_iter: int

    def fit(self, features: Array, *, disposable: bool = False) -> SklearnKMeans:
        """Cluster `features [N, d]`."""
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

        with threadpool_limits(limits=1), warnings.catch_warnings():
            # Features that have collapsed into fewer points than clusters are an answer, not a mistake.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._model = KMeans(
                self.n_clusters,
                random_state=self.seed,
                n_init=self.n_init,
                max_iter=self.max_iter,
                copy_x=not disposable,
            ).fit(features)
        self.labels = self._model.labels_.astype(np.int64)
        return self

    def assign(self, features: Array) -> Labels:
        """Return the nearest cluster `[N]` of each row."""
        with threadpool_limits(limits=1):
            labels: Labels = self._model.predict(features).astype(np.int64)
        return labels


@dataclass
class TorchKMeans:
    """k-means on the GPU where there is one, else on the CPU."""

    n_clusters: int
    seed: int
    n_init: int
    max_iter: int
    tolerance: float = 1e-4

    def fit(self, features: Array) -> TorchKMeans:
        """Cluster `features [N, d]`; the start of the lowest inertia wins."""
        x = self._on_device(features)
        # Squared distances of points far from the origin would cancel in float32.
        self._origin = x.mean(dim=0)
        x = x - self._origin
        # Starts are drawn on the CPU, so that they do not depend on the device.
        generator = torch.Generator().manual_seed(self.seed)
        best = float("inf")
        for _ in range(self.n_init):
            centers = self._lloyd(x, self._plus_plus(x, generator))
            distance, labels = _nearest(x, centers)
            inertia = float(distance.sum())
            if inertia < best:
                best, self._centers, self.labels = inertia, centers, labels.cpu().numpy()
        return self

    def assign(self, features: Array) -> Labels:
        """Return the nearest cluster `[N]` of each row."""
        x = self._on_device(features) - self._origin
        labels: Labels = _nearest(x, self._centers)[1].cpu().numpy()
        return labels

    def _plus_plus(self, x: Tensor, generator: torch.Generator) -> Tensor:
        chosen = [int(torch.randint(len(x), (1,), generator=generator))]
        distance = (x - x[chosen[0]]).square().sum(1)
        for _ in range(1, self.n_clusters):
            weights = distance.double().cpu()
            if float(weights.sum()) <= 0:  # all points coincide with a centre
                weights = torch.ones_like(weights)
            chosen.append(int(torch.multinomial(weights, 1, generator=generator)))
            distance = torch.minimum(distance, (x - x[chosen[-1]]).square().sum(1))
        return x[chosen].clone()

    def _lloyd(self, x: Tensor, centers: Tensor) -> Tensor:
        threshold = self.tolerance * float(x.var(dim=0, unbiased=False).mean())
        for _ in range(self.max_iter):
            distance, labels = _nearest(x, centers)
            one_hot = torch.nn.functional.one_hot(labels, self.n_clusters).to(x.dtype)
            counts = one_hot.sum(0)
            moved = (one_hot.T @ x) / counts.clamp(min=1)[:, None]
            empty = (counts == 0).nonzero()[:, 0]
            if len(empty):  # an empty cluster starts again at the points that are served worst
                moved[empty] = x[distance.topk(len(empty)).indices]
            shift = float((moved - centers).square().sum())
            centers = moved
            if shift <= threshold:
                break
        return centers

    @staticmethod
    def _on_device(features: Array) -> Tensor:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.as_tensor(features, device=device)


def _nearest(x: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared distance to the nearest centre `[N]` and its index `[N]`."""
    squared = x.square().sum(1, keepdim=True) - 2 * x @ centers.T + centers.square().sum(1)
    distance, labels = squared.min(dim=1)
    return distance.clamp(min=0), labels
