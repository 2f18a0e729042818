from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from equipoise.training.fit import prepared
from equipoise.training.loop import Training
from equipoise.training.record.record import DIAGNOSES, METRICS, RunRecord
from equipoise.training.settings import Settings
from equipoise.training.side_by_side.runs import RunArguments, run_together

TIMES = {"seconds", "seed"}
COSTS = {"train_seconds", "method_seconds", "look_seconds", "peak_memory_bytes", "floor_seconds"}

Make = Callable[..., Training]


@pytest.fixture
def training(data: str, tmp_path: Path) -> Make:
    """Return a function that prepares a run."""

    def make(method: str = "joint", seed: int = 0, folder: str = "run", **options: Any) -> Training:
        settings = Settings.from_options(data, method=method, seed=seed, epochs=2, **options)
        with prepared(settings, tmp_path / folder / str(seed)) as found:
            assert found is not None
            return found.training

    return make


def arguments(folder: Path, **changed: Any) -> RunArguments:
    common = {"resume": False, "overwrite": False, "parts_folder": None, "floors": None}
    return RunArguments(**{"folder": folder, **common, **changed})


def together(settings: Sequence[Settings], folder: Path, **changed: Any) -> list[Exception | None]:
    wanted = [(one, arguments(folder / str(number), **changed)) for number, one in enumerate(settings)]
    return run_together(wanted)


def written(folder: Path) -> tuple[object, ...]:
    """Return all that a record says, but times and memory."""
    record = RunRecord(folder)
    events = [
        {key: value for key, value in event.items() if key not in TIMES}
        for name in (METRICS, DIAGNOSES)
        for event in record.events(name)
    ]
    result = {key: value for key, value in record.result().items() if key not in COSTS}
    result["parts"] = sorted(result["parts"])  # their folders differ
    return events, result, record.path("model.safetensors").read_bytes()
