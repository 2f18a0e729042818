"""Clustering against scikit-learn and faiss: seconds, memory, inertia."""

from __future__ import annotations

import importlib.util
from itertools import product
from typing import Any

import numpy as np
from alone import Memory, alone
from turns import Found, Ratio, Size, Turn, load, timed

TITLE = "Clustering against scikit-learn and faiss"
SHAPES = {(6_000, 512, 6): 10, (20_000, 512, 31): 10, (60_000, 512, 101): 1, (170_000, 512, 309): 1}
"""Points, dimensions and clusters, and the number of starts."""
TINY = {(600, 32, 6): 3}
ROUNDS = {(6_000, 512, 6): 5, (20_000, 512, 31): 3}
OWN = ("equipoise", "equipoise, torch")
"""Its two backends: the clusters of scikit-learn, and the one for large sets and GPUs."""
ABOVE = 300e6
"""Bytes of memory allowed above those of the features."""


def measure(size: Size) -> Found:
    found = Found()
    libraries = [*OWN, "scikit-learn"]
    if importlib.util.find_spec("faiss"):
        libraries.append("faiss")
    else:
        found.missing["faiss"] = "faiss-cpu is not installed (pip install 'equipoise[bench]')"
    for shape, starts in size.of(SHAPES, TINY).items():
        answers: dict[str, list[dict[str, Any]]] = {library: [] for library in libraries}
        for _ in range(1 if size.quick else ROUNDS.get(shape, 1)):
            for library in libraries:
                asked = {"library": library, "shape": shape, "starts": starts}
                answers[library].append(alone("lines.d_clustering", asked))
                print(f"    {shape}, {library}: {answers[library][-1]['turn'].wall:.2f} s", flush=True)
        compare(found, shape, starts, answers)
    found.notes.append(
        "Gaussian classes whose means are 0.1 standard deviations apart in every dimension, in float32, "
        "each library in a process of its own with one thread, as a diagnosis clusters (modalities are in "
        "parallel). Memory is the largest increase while clustering, and must stay below that of the "
        "features, once as float32, plus 300 MB. Inertia is computed by the same code for all three, in "
        "float64, relative to scikit-learn's. faiss draws its first centres from the points at random, "
        "and makes as many starts."
    )
    return found


def compare(
    found: Found, shape: tuple[int, ...], starts: int, answers: dict[str, list[dict[str, Any]]]
) -> None:
    points, dims, clusters = shape
    name = f"({points:,}, {dims}, {clusters}), {starts} starts"
    for own, library in product(OWN, answers):
        if library not in OWN:
            what = f"{name}: {own} / {library}"
            found.ratios.append(Ratio(what, turns(answers[own]), turns(answers[library]), 1.0, unit=" s"))
    features = points * dims * 4
    reference = answers["scikit-learn"][0]["inertia"]
    for library, results in answers.items():
        memory = max(result["memory"] for result in results)
        found.table.append(
            {
                "shape": name,
                "library": library,
                "seconds": sorted(result["turn"].wall for result in results)[len(results) // 2],
                "CPU seconds": sorted(result["turn"].cpu for result in results)[len(results) // 2],
                "memory, MB": round(memory / 1e6),
                "features, MB": round(features / 1e6),
                "memory holds": "yes" if memory <= features + ABOVE else "no",
                "inertia": f"{results[0]['inertia'] / reference:.4f}",
                "iterations": results[0]["iterations"],
            }
        )


def turns(results: list[dict[str, Any]]) -> list[Turn]:
    return [result["turn"] for result in results]


def measured(library: str, shape: list[int], starts: int) -> dict[str, Any]:
    """Cluster, in a process of its own."""
    points = made(*shape)
    cluster = {
        "equipoise": own,
        "equipoise, torch": by_torch,
        "scikit-learn": by_scikit_learn,
        "faiss": by_faiss,
    }[library]
    cluster(made(400, 8, 4), 4, 1)  # imports and pools of threads
    with Memory() as memory:
        kept: list[Any] = []
        turn = timed(lambda: kept.append(cluster(points, shape[2], starts)))
    centers, iterations = kept[0]
    answer = {"turn": turn, "memory": memory.bytes, "inertia": inertia(points, centers)}
    return answer | {"iterations": iterations, "load": load()}


def made(count: int, dims: int, clusters: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(clusters, dims)).astype(np.float32) / 10
    points = rng.normal(size=(count, dims), loc=0.0).astype(np.float32)
    points += means[np.arange(count) % clusters]
    return points


def own(points: np.ndarray, clusters: int, starts: int) -> tuple[np.ndarray, int | None]:
    from equipoise.diagnosis.measures.kmeans import kmeans

    return kmeans(points, clusters, n_init=starts, max_iter=300, seed=0).centers, None


def by_torch(points: np.ndarray, clusters: int, starts: int) -> tuple[np.ndarray, int | None]:
    from equipoise.diagnosis.measures.torch_kmeans import torch_kmeans

    return torch_kmeans(points, clusters, n_init=starts, max_iter=300, seed=0).centers, None


def by_scikit_learn(points: np.ndarray, clusters: int, starts: int) -> tuple[np.ndarray, int | None]:
    from sklearn.cluster import KMeans

    model = KMeans(clusters, n_init=starts, random_state=0).fit(points)
    return model.cluster_centers_, int(model.n_iter_)


def by_faiss(points: np.ndarray, clusters: int, starts: int) -> tuple[np.ndarray, int | None]:
    import faiss

    # All points, and as many iterations as scikit-learn takes on such data at most.
    model = faiss.Kmeans(
        points.shape[1], clusters, niter=25, nredo=starts, seed=1, max_points_per_centroid=10**9
    )
    model.train(points)
    return model.centroids, 25


def inertia(points: np.ndarray, centers: np.ndarray) -> float:
    """Return the sum of the squared distances from the nearest centres."""
    centers = centers.astype(np.float64)
    squares, total = (centers**2).sum(axis=1), 0.0
    for start in range(0, len(points), 2048):
        part = points[start : start + 2048].astype(np.float64)
        total += float(((squares - 2 * part @ centers.T).min(axis=1) + (part**2).sum(axis=1)).sum())
    return total
