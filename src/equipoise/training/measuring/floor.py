"""The floor under a run: the validation score of a linear model on the inputs themselves, without an encoder.

A network that does not beat it has not learnt what its inputs hold. It depends on data and splits only, and
is thus measured once for all runs of a comparison.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from equipoise.data import RunData
from equipoise.data.format.content import chunks, digest
from equipoise.decimals import fixed
from equipoise.diagnosis.verdict.rules import Thresholds, below_floor
from equipoise.files.arrays import arrays_in
from equipoise.files.untrusted import parse_json, parsing
from equipoise.files.whole import replaced
from equipoise.randomness import isolated_rng
from equipoise.training.measuring.input_views import InputViews
from equipoise.training.measuring.probes import (
    MAX_SAMPLES,
    even_rows,
    linear_outputs,
    main_score,
    spread_rows,
)
from equipoise.types import Batch, RunFolderError

JOINT: Final = "joint"
SENTENCE: Final = "does not beat a linear model on its own inputs"
"""What is said everywhere of a run, or method, below its floor."""
RESAMPLES: Final = 100
FORMAT: Final = 1
"""Part of the name of a stored floor; to be raised with any change of what is measured."""

Array = NDArray[Any]


@dataclass(frozen=True)
class LinearModel:
    """The best linear model on some inputs.

    Attributes:
        score: the task's main figure on validation.
        inputs: modality to what the model reads of it, see `InputViews`.
        outputs: on validation, `[n]` classes or numbers, or scores of labels `[n, C]`.
    """

    score: float
    inputs: Mapping[str, str]
    outputs: Array

    def described(self) -> dict[str, Any]:
        """Return score and inputs, for a record."""
        return {"score": self.score, "inputs": dict(self.inputs)}


@dataclass(frozen=True)
class Floor:
    """The linear models of a dataset and its splits.

    Attributes:
        modalities: modality to the best model on it alone.
        joint: the model on the inputs of all modalities, as the best model on each reads them.
        target: of validation, in order: classes or numbers `[n]`, or labels `[n, C]`.
        seconds: that it took.
    """

    modalities: Mapping[str, LinearModel]
    joint: LinearModel
    target: Array
    seconds: float

    def under(self, modalities: Iterable[str]) -> LinearModel:
        """Return the model with the inputs of a network: one modality, or all."""
        (first, *more) = modalities
        return self.joint if more else self.modalities[first]

    def record(self, modalities: Iterable[str], outputs: Array) -> dict[str, Any]:
        """Return the entries in `result.json` of a run with these modalities and validation outputs."""
        own = self.under(modalities)
        lead = lead_over(own.outputs, outputs, self.target)
        entry = self.described() | {"own": {"score": own.score, **asdict(lead), "below": lead.below}}
        return {"floor": entry, "floor_seconds": self.seconds}

    def described(self) -> dict[str, Any]:
        """Return all scores with the inputs of the models, for a record."""
        return {
            "modalities": {name: model.described() for name, model in self.modalities.items()},
            JOINT: self.joint.described(),
        }


@dataclass(frozen=True)
class Lead:
    """By how much the floor exceeds a run on the same validation samples, and the standard error of that."""

    difference: float
    standard_error: float

    @property
    def below(self) -> bool:
        """Whether the run is below its floor by more than noise."""
        beyond = below_floor(self.difference, self.standard_error, Thresholds())
        return beyond is not None and beyond > 0


def lead_over(floor: Array, run: Array, target: Array) -> Lead:
    """Compare two outputs for the same samples; the standard error is that of the paired bootstrap."""
    rng, count = np.random.default_rng(0), len(target)

    def difference(rows: Any) -> float:
        return main_score(floor[rows], target[rows]) - main_score(run[rows], target[rows])

    drawn = [difference(rng.integers(count, size=count)) for _ in range(RESAMPLES)]
    return Lead(difference(slice(None)), float(np.std(drawn, ddof=1)))


def floor_of(data: RunData, folder: Path | None = None) -> Floor:
    """Return the floor of data and splits; with a folder it is kept there, and measured only once."""
    if folder is None:
        return measure_floor(data)
    folder.mkdir(parents=True, exist_ok=True)
    name = digest(FORMAT, data.dataset_fingerprint, data.split_fingerprint)
    path = folder / f"{name}.npz"
    with FileLock(folder / f".{name}.lock"):  # runs that start together wait for the first one
        if not path.is_file():
            _write(path, measure_floor(data))
    return _read(path)


def floor_scores(result: Mapping[str, Any], data: RunData) -> dict[str, float]:
    """Return modality to floor, from a run's `result.json`; measured on its data where that has none."""
    held = result.get("floor") or measure_floor(data).described()
    return {name: float(entry["score"]) for name, entry in held["modalities"].items()}


def floor_leads(result: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return, for a unimodal run, its modality with the floor's lead over it and the standard error."""
    if len(result["modalities"]) > 1 or not result.get("floor"):
        return {}
    own = result["floor"]["own"]
    return {result["modalities"][0]: (own["difference"], own["standard_error"])}


def figures_below(result: Mapping[str, Any]) -> str | None:
    """Return by how much a run is below its floor, given its `result.json`; None if it is not, or unknown."""
    own = (result.get("floor") or {}).get("own")
    if not own or not own["below"]:
        return None
    return (
        f"On validation it is {fixed(own['difference'])} below the {fixed(own['score'])} of that model "
        f"(standard error {fixed(own['standard_error'])}, on the same samples)."
    )


@isolated_rng()  # importing scikit-learn draws from Python's random state
def measure_floor(data: RunData) -> Floor:
    """Fit linear models on the inputs of the training split, as encoders get them, and score validation.

    At most `MAX_SAMPLES` training samples are used, each class in proportion, and inputs are read in parts:
    only what the models read of them is kept.
    """
    start = time.perf_counter()
    views = InputViews(data.modality_specs)
    target = data.train_samples.target.numpy()
    classes = np.issubdtype(target.dtype, np.integer)
    rows = spread_rows(target, MAX_SAMPLES) if classes else even_rows(len(target), MAX_SAMPLES)
    train = views.of(_parts(data, rows))
    val_target: list[Tensor] = []
    val = views.of(_noting_targets(data.val, val_target))
    y, y_val = target[rows], np.concatenate([part.numpy() for part in val_target])
    inputs = {m: views.features(m, train[m], val[m]) for m in train}
    best: dict[str, LinearModel] = {}
    for m, candidates in inputs.items():
        models = [_fit({m: name}, *pair, y, y_val) for name, pair in candidates.items()]
        best[m] = max(models, key=lambda model: model.score)
    chosen = {m: model.inputs[m] for m, model in best.items()}
    if len(best) == 1:
        (joint,) = best.values()
    else:
        pairs = [inputs[m][name] for m, name in chosen.items()]
        together = [np.concatenate([pair[i] for pair in pairs], axis=1) for i in (0, 1)]
        joint = _fit(chosen, together[0], together[1], y, y_val)
    return Floor(best, joint, y_val, time.perf_counter() - start)


def _fit(inputs: Mapping[str, str], train: Array, val: Array, y: Array, y_val: Array) -> LinearModel:
    outputs = linear_outputs(train, y, val)
    return LinearModel(main_score(outputs, y_val), inputs, outputs)


def _parts(data: RunData, rows: NDArray[np.int64]) -> Iterator[Batch]:
    row_bytes = 4 * sum(int(np.prod(spec.shape)) for spec in data.modality_specs.values())
    for part in chunks(len(rows), row_bytes):
        yield data.train_samples[rows[part].tolist()]


def _noting_targets(batches: Iterable[Batch], targets: list[Tensor]) -> Iterator[Batch]:
    for batch in batches:
        targets.append(batch.target)
        yield batch


def _write(path: Path, floor: Floor) -> None:
    models = {**floor.modalities, JOINT: floor.joint}
    outputs = {f"outputs_{place}": model.outputs for place, model in enumerate(models.values())}
    described = json.dumps(floor.described())
    with replaced(path) as partial, partial.open("wb") as file:
        np.savez(
            file,
            allow_pickle=False,
            floor=described,
            seconds=floor.seconds,
            target=floor.target,
            digest=_digest(described, floor.target, *outputs.values()),
            **outputs,
        )


def _digest(text: str, *arrays: Array) -> str:
    return digest(text, *([str(x.dtype), list(x.shape), x.tobytes().hex()] for x in arrays))


def _read(path: Path) -> Floor:
    def refuse(what: str) -> RunFolderError:
        return RunFolderError(f"cannot read {path}: {what}; delete it, and it is measured again.")

    with parsing(refuse):
        held = arrays_in(path, refuse)
        described = parse_json(str(held["floor"]))
        entries = [*described["modalities"].values(), described[JOINT]]
        outputs = [held[f"outputs_{place}"] for place in range(len(entries))]
        if "digest" in held and held["digest"] != _digest(str(held["floor"]), held["target"], *outputs):
            raise ValueError("it was damaged or changed")  # earlier versions have no digest
        models = [
            LinearModel(entry["score"], entry["inputs"], own)
            for entry, own in zip(entries, outputs, strict=True)
        ]
        alone = dict(zip(described["modalities"], models, strict=False))
        return Floor(alone, models[-1], held["target"], float(held["seconds"]))
