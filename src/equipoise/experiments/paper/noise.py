"""A dataset with noise on some of its modalities, which makes them scarcely informative."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from equipoise.data import load_dataset
from equipoise.data.format.prepared import PreparedDataset
from equipoise.data.format.writing import write_dataset
from equipoise.randomness import derive_seed
from equipoise.types import DataError, check_known

CLEAN: Final = "without_noise"
"""Entry of the preparation: the fingerprint of the dataset without noise."""
AXES = {"vector": (0,), "sequence": (0, 1), "image": (0, 2, 3), "video": (0, 1, 3, 4)}
"""Kind of a modality to the axes over which the deviation of a feature or channel is taken."""


def noisy(
    dataset: PreparedDataset,
    levels: Mapping[str, float],
    folder: Path,
    seed: int = 0,
    *,
    redrawn: bool = False,
) -> PreparedDataset:
    """Write a dataset with Gaussian noise on some modalities, in place of an earlier one.

    With `s` the standard deviation of a feature or channel over all samples, `x <- x + level * s * n` and
    `n ~ N(0, 1)`, drawn once for each value: the noise is a part of the data, the same for every method,
    seed and epoch, in all splits. Steps and frames that are zero throughout are padding and stay so.

    Args:
        dataset: the dataset without noise.
        levels: modality to level, in standard deviations.
        folder: where to write.
        seed: of the noise.
        redrawn: draw the noise anew in each epoch of training instead, when samples are read; it then depends
            on the seed of a run (see `write_dataset`).

    Raises:
        UnknownNameError: the dataset has no such modality.
        DataError: a modality holds tokens.
    """
    check_known("modality", levels, dataset.modalities)
    inputs = {name: dataset.array(name) for name in dataset.modalities}
    for name, level in levels.items():
        spec = dataset.modalities[name]
        if spec.kind not in AXES:
            raise DataError(f"the modality {name!r} holds {spec.kind}, to which no noise can be added.")
        if not redrawn:
            inputs[name] = _with_noise(inputs[name], spec.kind, level, derive_seed(seed, "noise", name))
    specs = dataset.modalities.values()
    drawn: Mapping[str, Any] = {"noise_redrawn": True} if redrawn else {"noise_seed": seed}
    said = ", ".join(f"{level:g} standard deviations on {name}" for name, level in levels.items())
    return write_dataset(
        folder,
        inputs,
        dataset.target,
        dataset.split,
        dataset.group,
        dataset.ids,
        classes=dataset.classes or None,
        kinds={spec.name: spec.kind for spec in specs},
        normalize={spec.name: spec.normalize for spec in specs},
        contents={spec.name: spec.content for spec in specs if spec.content is not None},
        noise=levels if redrawn else None,
        task=dataset.task,
        name=f"{dataset.name}, {'redrawn ' if redrawn else ''}noise of {said}",
        licence=dataset.licence,
        source=dataset.source,
        preparation={"noise": dict(levels), **drawn, CLEAN: dataset.fingerprint},
        overwrite=True,
    )


def made_from(folder: Path) -> str | None:
    """Return the fingerprint of the dataset that one with noise was made from."""
    return load_dataset(folder).preparation.get(CLEAN)


def _with_noise(array: NDArray[np.generic], kind: str, level: float, seed: int) -> NDArray[np.float32]:
    values: NDArray[np.float32] = np.array(array, dtype=np.float32)
    deviation = values.std(axis=AXES[kind], keepdims=True, dtype=np.float64)
    noise = np.random.default_rng(seed).standard_normal(values.shape, dtype=np.float32)
    if kind in ("sequence", "video"):
        noise *= values.any(axis=tuple(range(2, values.ndim)), keepdims=True)
    values += np.float32(level) * deviation.astype(np.float32) * noise
    return values
