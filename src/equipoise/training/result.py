"""The beginning and the result of a run, as its record holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.data import RunData
from equipoise.diagnosis.features.capture import encoders_of
from equipoise.distributed import process_count
from equipoise.models import BalancedModel
from equipoise.relearning.targets import weights_origin
from equipoise.tasks import REGRESSION
from equipoise.training.assembly import ModelSpec, model_facts
from equipoise.training.ending import conclude, floor_record
from equipoise.training.loop import Training
from equipoise.training.record import fingerprints
from equipoise.training.record.files import weights_of, write_weights
from equipoise.training.record.inputs import RunInputs, write_inputs
from equipoise.training.record.machine import environment
from equipoise.training.record.record import INPUTS, METRICS, WEIGHTS, RunRecord
from equipoise.types import RunFolderError


@dataclass(frozen=True)
class PreparedRun:
    """A run that is ready to be trained.

    Attributes:
        training: the run.
        data: its data.
        spec: what its model is built from.
        parts: the results (`result.json`) of the runs that it builds on, by name, with their `run_dir`.
        initial: digests of the initial weights by encoder.
        floors: folder in which runs on the same data share their floor.
    """

    training: Training
    data: RunData
    spec: ModelSpec
    parts: Mapping[str, Mapping[str, Any]]
    initial: Mapping[str, str]
    floors: Path | None

    @property
    def identity(self) -> dict[str, str]:
        """Digests of what a resumed run must have in common with its beginning."""
        return {
            **fingerprints.of_data(self.data),
            **fingerprints.of_weights(self.training.settings),
            "init_fingerprint": fingerprints.of_text(repr(sorted(self.initial.items()))),
            "budget_fingerprint": fingerprints.of_budget(self.training.settings.budget),
        }

    def start(self) -> None:
        """Write the first event, or check that an interrupted run was made with the same data and weights."""
        _start(self.training.run_record, self.identity)

    def finish(self) -> None:
        """Open the test split, unless it is closed, and write the files of a trained run, the result last."""
        training, record = self.training, self.training.run_record
        measured = self._measured()
        cost = _cost(training, self.parts)
        weights = weights_of(training.model)  # of all processes, which may have parts of them
        if record.writes:
            write_weights(record.path(WEIGHTS), weights)
        record.finish(
            {
                **_described(training, self.data, self.spec),
                **self.identity,
                "order_fingerprint": training.order,
                "initial_weights": dict(self.initial),
                "loaded_weights": _origins(training.model),
                "best_epoch": training.best["epoch"],
                "validation": training.best["validation"],
                **measured,
                **cost,
                "parts": {name: part["run_dir"] for name, part in self.parts.items()},
            }
        )

    def _measured(self) -> dict[str, Any]:
        """Return the figures of the kept weights, those on test unless it is closed; write its inputs."""
        if self.data.test_closed:
            return {"test": {}, "probes": {}, "peak_memory_bytes": self.training.peak_memory}
        found, record = conclude(self.training, self.data), self.training.run_record
        if record.writes:
            write_inputs(record.path(INPUTS), RunInputs.of(self.data, found.means))
        floor = floor_record(self.training, self.data, self.floors)
        return {
            "test": found.test,
            "probes": found.probes,
            **floor,
            "peak_memory_bytes": found.peak_memory,
        }


def _described(training: Training, data: RunData, spec: ModelSpec) -> dict[str, Any]:
    """Return what the result says about settings, data and model."""
    settings, method = training.settings, training.method
    return {
        "dataset": data.name,
        "task": data.task,
        **({"target_scale": list(data.target_scale)} if data.task == REGRESSION.name else {}),
        **model_facts(settings, spec),
        "method": settings.method,
        "method_options": method.options(),
        "experimental": method.experimental,
        "seed": settings.seed,
        "epochs": settings.budget.epochs,
        "train_data": "changed by the method" if training.changes_data else "as served",
        "split_sizes": data.sizes,
        "split_origin": data.split_origin,
        "classes": list(data.classes),
        "modalities": list(training.model.modalities),
        "model_spec": spec.to_dict(),
        "environment": environment(training.device) | {"processes": process_count()},
    }


def _origins(model: BalancedModel) -> dict[str, str]:
    """Return the origin of the weights of each encoder that started from given ones."""
    origins = {m: weights_origin(encoder) for m, encoder in encoders_of(model).items()}
    return {m: origin for m, origin in origins.items() if origin is not None}


def _start(record: RunRecord, identity: dict[str, str]) -> None:
    """Write the first event, or check that an interrupted run was made with the same data and weights."""
    if not record.resumable:
        record.begin(identity)
        return
    for event in record.events(METRICS):
        if event.get("event") == "start":
            held = {key: event.get(key, value) for key, value in identity.items()}
            if held != identity:
                changed = [key for key, value in identity.items() if held[key] != value]
                raise RunFolderError(
                    f"{record.folder} was started with other data or weights ({', '.join(changed)} differ); "
                    "choose another folder, or overwrite it."
                )
            return


def _cost(training: Training, parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the cost of the run with that of its parts, without which there is no such model."""
    return {key: value + sum(part[key] for part in parts.values()) for key, value in training.cost.items()}
