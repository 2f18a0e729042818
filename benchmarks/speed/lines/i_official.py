"""Step and scoring against those of the official script of Diagnosing & Re-learning.

The script is rebuilt from its description (Wei et al., ECCV 2024): two ResNet-18, single precision, SGD, and
k-means by scikit-learn on features scaled to [-1, 1] split by split.
"""

from __future__ import annotations

import numpy as np
import torch
from sets import epoch_of, folder, hand_epoch, hand_optimizer, model_of, served, training_of
from turns import Found, Ratio, Size, in_turn

import equipoise as eq

TITLE = "Against the step and the scoring of the official script"
STEPS, EPOCHS, SCORINGS, BATCH = 93, 90, 3, 64
TRAIN, VAL, WIDTH, CLASSES, STARTS = 5954, 744, 512, 6, 10


def measure(size: Size) -> Found:
    found = Found()
    batch = size.of(16, 2)
    data = made(batch, size)
    options = {"encoder": "resnet18", "recipe": "paper", "batch_size": batch, "epochs": 1}
    other = training_of(data, **options)
    model = model_of(data, **options)
    optimizer = hand_optimizer(model, other)
    precisions = ("32-true", "bf16-mixed")
    works = {one: epoch_of(training_of(data, precision=one, **options)) for one in precisions}
    works["script"] = lambda: hand_epoch(model, optimizer, served(other))
    steps = in_turn(works, size.of(3, 1), warm=not size.quick)
    features, labels = features_of(size.of(1, 10))
    scorings = in_turn(
        {"ours": lambda: scored(features, labels), "script": lambda: scored_by_script(features, labels)},
        size.of(3, 1),
    )
    count = other.steps_per_epoch
    for one in precisions:
        found.ratios.append(
            Ratio(
                f"step, batch {batch}: script / ours with {one}",
                steps["script"],
                steps[one],
                unit=" s",
                per=count,
            )
        )
    found.ratios.append(Ratio("scoring: script / ours", scorings["script"], scorings["ours"], unit=" s"))
    factor = STEPS * EPOCHS * BATCH / (batch * count)
    script, ours = (
        [
            step.times(factor).plus(score.times(SCORINGS))
            for step, score in zip(steps[one], scorings[two], strict=True)
        ]
        for one, two in (("script", "script"), ("bf16-mixed", "ours"))
    )
    found.ratios.append(
        Ratio(
            "training and scorings of CREMA-D, extrapolated: script / ours",
            script,
            ours,
            2.5,
            at_least=True,
            unit=" s",
        )
    )
    found.notes.append(
        "3 frames of 224 x 224 and a spectrogram of 257 x 188 a sample, both through a ResNet-18. The "
        f"last row is {EPOCHS} epochs of {STEPS} steps of {BATCH} samples with {SCORINGS} scorings of "
        f"{TRAIN:,} and {VAL} samples, {WIDTH} features and {CLASSES} classes, from the seconds above; "
        "ours with bf16-mixed. Forward passes for scorings, less than 2 % of it in both, are left out."
    )
    return found


def made(count: int, size: Size) -> str:
    """Write clips as the script reads them."""
    rng, side, rest = np.random.default_rng(0), size.of(224, 32), 12
    shape = size.of((1, 257, 188), (1, 33, 24))
    inputs = {
        "audio": rng.normal(size=(count + rest, *shape)).astype(np.float32),
        "video": rng.integers(0, 256, (count + rest, 3, 3, side, side)).astype(np.uint8),
    }
    split = np.repeat(["train", "val", "test"], [count, 6, 6])
    return str(eq.write_dataset(folder() / "clips", inputs, np.arange(count + rest) % 2, split).path)


def features_of(divisor: int) -> tuple[dict[str, tuple[torch.Tensor, ...]], tuple[torch.Tensor, ...]]:
    """Return features of both splits by modality, and their labels."""
    rng, sizes = np.random.default_rng(0), (TRAIN // divisor, VAL // divisor)
    labels = tuple(torch.from_numpy(rng.permutation(np.arange(n) % CLASSES)) for n in sizes)
    features = {}
    for name in ("audio", "video"):
        means = torch.from_numpy(rng.normal(size=(CLASSES, WIDTH)) / 10)
        features[name] = tuple(
            (means[y] + torch.from_numpy(rng.normal(size=(len(y), WIDTH)))).relu().float() for y in labels
        )
    return features, labels


def scored(features: dict[str, tuple[torch.Tensor, ...]], labels: tuple[torch.Tensor, ...]) -> eq.Diagnosis:
    train, val = ({name: pair[i] for name, pair in features.items()} for i in (0, 1))
    return eq.diagnose(train, labels[0], val, labels[1])


def scored_by_script(
    features: dict[str, tuple[torch.Tensor, ...]], labels: tuple[torch.Tensor, ...]
) -> dict[str, float]:
    """Return the gap of each modality by the definition of the paper."""
    from sklearn.cluster import KMeans
    from sklearn.preprocessing import MinMaxScaler

    gaps = {}
    for name, pair in features.items():
        purities = []
        for part, y in zip(pair, labels, strict=True):
            scaled = MinMaxScaler((-1, 1)).fit_transform(part.double().numpy())
            clusters = KMeans(CLASSES, n_init=STARTS, random_state=0).fit_predict(scaled)
            counts = np.zeros((CLASSES, CLASSES))
            np.add.at(counts, (clusters, y.numpy()), 1)
            purities.append(counts.max(axis=1).sum() / len(y))
        gaps[name] = abs(purities[0] - purities[1])
    return gaps
