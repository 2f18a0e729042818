"""Small synthetic multimodal datasets in which the state of every modality is known by construction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import equipoise as eq

Inputs = dict[str, NDArray[np.float32]]
Labels = NDArray[np.int64]
Draw = Callable[[Labels, np.random.Generator], Inputs]

VALIDATION, TEST = 300, 60
OVER, UNDER, BALANCED, SCARCE = "over-trained", "under-trained", "balanced", "scarcely informative"
NOISE_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
FEW_SAMPLES = (100, 200, 400, 800)


@dataclass(frozen=True)
class World:
    """How to draw a dataset and train on it, and the resulting true states.

    Attributes:
        name: its name.
        why: why these states are true.
        truth: modality name to state; None if the construction does not determine it.
        classes: number of classes.
        draw: function from labels `[N]` to inputs `{m: [N, d]}`.
        train: number of training samples; they come first.
        label: function from the inputs to labels, if the labels depend on the inputs.
        permuted: share of the training samples whose labels are permuted.
        fit: options of `eq.fit`.
    """

    name: str
    why: str
    truth: Mapping[str, str | None]
    classes: int
    draw: Draw
    train: int = 600
    label: Callable[[Inputs], Labels] | None = None
    permuted: float = 0.0
    fit: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path, seed: int) -> Path:
        """Draw a dataset with a seed and write it.

        The splits are given, so that each is drawn from the same distribution.
        """
        rng = np.random.default_rng([seed, *self.name.encode()])
        count = self.train + VALIDATION + TEST
        target = rng.permutation(np.arange(count) % self.classes)
        inputs = self.draw(target, rng)
        if self.label is not None:
            target = self.label(inputs)
        changed = rng.permutation(self.train)[: round(self.permuted * self.train)]
        target[changed] = target[rng.permutation(changed)]
        split = ["train"] * self.train + ["val"] * VALIDATION + ["test"] * TEST
        eq.write_dataset(folder, inputs, target, split=split, name=self.name)
        return folder

    def options(self) -> dict[str, Any]:
        """Return the training options: small encoders without dropout, and the options in `fit`."""
        encoders = {m: {"hidden": [64, 64], "dropout": 0.0} for m in self.truth}
        return {"epochs": 40, "encoder_options": encoders, "weight_decay": 0.0, "lr": 0.02, **self.fit}


def blobs(target: Labels, rng: np.random.Generator, separation: float, width: int = 6) -> NDArray[np.float32]:
    """Draw one Gaussian per class, `[N, width]`: unit noise around means at distance `separation` from 0."""
    classes = int(target.max()) + 1
    basis = np.linalg.qr(rng.normal(size=(width, width)))[0][:, :classes]
    centred = basis.T - basis.T.mean(axis=0)
    means = separation * centred / np.linalg.norm(centred, axis=1, keepdims=True)
    drawn: NDArray[np.float32] = (means[target] + rng.normal(size=(len(target), width))).astype(np.float32)
    return drawn


def noise(target: Labels, rng: np.random.Generator, width: int = 6) -> NDArray[np.float32]:
    """Draw noise that is independent of the class."""
    return rng.normal(size=(len(target), width)).astype(np.float32)


def identity_code(
    target: Labels, rng: np.random.Generator, separation: float, width: int = 400
) -> NDArray[np.float32]:
    """Draw a weak signal in six of many dimensions; the others identify samples, not classes."""
    return np.hstack([blobs(target, rng, separation), noise(target, rng, width - 6)])


def product(target: Labels, rng: np.random.Generator, spare: int = 20) -> NDArray[np.float32]:
    """Draw four classes as the signs of two products of coordinates, among `spare` others.

    No linear function of the input predicts the class, and hardly any linear function of random features.
    """
    bits = 2 * np.stack([target % 2, target // 2], axis=1) - 1
    signs = rng.choice([-1, 1], size=bits.shape)
    pairs = np.concatenate([signs, signs * bits], axis=1) + 0.25 * rng.normal(size=(len(target), 4))
    spare_part = rng.normal(size=(len(target), spare))
    return np.hstack([pairs, spare_part]).astype(np.float32)


def sign(target: Labels, rng: np.random.Generator, width: int = 4) -> NDArray[np.float32]:
    """Draw the first coordinate around +2 or -2 with equal probability, independent of the class."""
    drawn = 0.5 * rng.normal(size=(len(target), width))
    drawn[:, 0] += 2 * rng.choice([-1, 1], size=len(target))
    return drawn.astype(np.float32)


def parity(inputs: Inputs) -> Labels:
    """Return the exclusive or of the signs of `a` and `b`."""
    return ((inputs["a"][:, 0] > 0) ^ (inputs["b"][:, 0] > 0)).astype(np.int64)


def with_copy(target: Labels, rng: np.random.Generator) -> Inputs:
    """Draw a modality, and a copy of it with a little noise."""
    first = blobs(target, rng, 3.0)
    return {"a": first, "b": first + 0.1 * noise(target, rng)}


FROZEN: dict[str, Any] = {"method": "fixed-modulation", "method_options": {"factors": {"b": 0.0}}}
LONG: dict[str, Any] = {"epochs": 60}
BILINEAR: dict[str, Any] = {"fusion": "low-rank-bilinear"}

WORLDS = [
    World(
        "two-alike",
        "both separate the classes well, in few dimensions and with many samples",
        {"a": BALANCED, "b": BALANCED},
        4,
        lambda y, rng: {"a": blobs(y, rng, 3.0), "b": blobs(y, rng, 3.0)},
    ),
    World(
        "three-alike",
        "as before, with three modalities",
        {"a": BALANCED, "b": BALANCED, "c": BALANCED},
        3,
        lambda y, rng: {m: blobs(y, rng, 3.0) for m in "abc"},
    ),
    World(
        "pure-noise",
        "b is independent of the class",
        {"a": BALANCED, "b": SCARCE},
        4,
        lambda y, rng: {"a": blobs(y, rng, 3.0), "b": noise(y, rng)},
    ),
    World(
        "noise-learnt-by-heart",
        "b is independent of the class, and identifies the few training samples",
        {"a": None, "b": SCARCE},
        4,
        lambda y, rng: {"a": blobs(y, rng, 1.5), "b": noise(y, rng, 400)},
        train=150,
        fit=LONG,
    ),
    World(
        "identity-code",
        "b has a weak signal and 394 dimensions that identify the few training samples",
        {"a": None, "b": OVER},
        4,
        lambda y, rng: {"a": blobs(y, rng, 1.5), "b": identity_code(y, rng, 4.0)},
        train=150,
        fit=LONG,
    ),
    World(
        "permuted-labels",
        "a third of the training labels is permuted, and both modalities identify the training samples",
        {"a": OVER, "b": OVER},
        3,
        lambda y, rng: {"a": identity_code(y, rng, 4.0), "b": identity_code(y, rng, 4.0)},
        train=200,
        permuted=1 / 3,
        fit=LONG,
    ),
    World(
        "copy",
        "b is a with a little noise",
        {"a": BALANCED, "b": BALANCED},
        4,
        with_copy,
    ),
    World(
        "copy-and-noise",
        "b is a with a little noise, c is independent of the class",
        {"a": BALANCED, "b": BALANCED, "c": SCARCE},
        4,
        lambda y, rng: {**with_copy(y, rng), "c": noise(y, rng)},
    ),
    World(
        "xor",
        "only both together predict the class; the fusion multiplies features",
        {"a": BALANCED, "b": BALANCED},
        2,
        lambda y, rng: {"a": sign(y, rng), "b": sign(y, rng)},
        label=parity,
        fit=BILINEAR,
    ),
    World(
        "xor-and-noise",
        "as before, with a modality that is independent of the class",
        {"a": BALANCED, "b": BALANCED, "c": SCARCE},
        2,
        lambda y, rng: {"a": sign(y, rng), "b": sign(y, rng), "c": noise(y, rng, 4)},
        label=parity,
        fit=BILINEAR,
    ),
    World(
        "encoder-held-back",
        "b predicts the class in a way that must be learnt, and its encoder keeps its initial weights",
        {"a": BALANCED, "b": UNDER},
        4,
        lambda y, rng: {"a": blobs(y, rng, 3.0), "b": product(y, rng)},
        fit=FROZEN,
    ),
    World(
        "held-back-beside-noise",
        "as before, with a modality that is independent of the class",
        {"a": BALANCED, "b": UNDER, "c": SCARCE},
        4,
        lambda y, rng: {"a": blobs(y, rng, 3.0), "b": product(y, rng), "c": noise(y, rng)},
        fit=FROZEN,
    ),
    World(
        "outrun",
        "b predicts the class in a way that is slow to learn; a predicts it immediately and without error",
        {"a": BALANCED, "b": UNDER},
        4,
        lambda y, rng: {"a": blobs(y, rng, 8.0), "b": product(y, rng)},
    ),
]


def noisy(level: float) -> World:
    """Return the dataset in which the separation of b is multiplied by `1 - level`."""
    return World(
        f"noise-{level:g}",
        f"the separation of b is {3 * (1 - level):g}",
        {"a": BALANCED, "b": {0.0: BALANCED, 1.0: SCARCE}.get(level)},
        4,
        lambda y, rng: {"a": blobs(y, rng, 3.0), "b": blobs(y, rng, 3 * (1 - level))},
    )


def few_samples(count: int) -> World:
    """Return the dataset in which b identifies `count` training samples more or less well."""
    return World(
        f"samples-{count}",
        f"b has 200 dimensions without signal, and there are {count} training samples",
        {"a": None, "b": None},
        4,
        lambda y, rng: {"a": blobs(y, rng, 1.5), "b": identity_code(y, rng, 2.5, 206)},
        train=count,
    )


GRADED = [*(noisy(level) for level in NOISE_LEVELS), *(few_samples(count) for count in FEW_SAMPLES)]
ALL = {world.name: world for world in [*WORLDS, *GRADED]}
