"""The rows of the league: one for each run that has ended, in a file for each set."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from equipoise.data.format.content import digest
from equipoise.files.whole import write_atomically
from equipoise.methods import create_method
from equipoise.tasks import task_named
from equipoise.training.option_text import to_options
from equipoise.training.record.record import RunRecord
from equipoise.training.settings import Settings

FIGURES = ("val", "test")
COPIED = (
    "dataset",
    "model",
    "task",
    "epochs",
    "best_epoch",
    "train_seconds",
    "method_seconds",
    "forward_samples",
    "backward_samples",
    "peak_memory_bytes",
    "data_fingerprint",
    "split_fingerprint",
    "init_fingerprint",
    "order_fingerprint",
    "budget_fingerprint",
    "train_data",
    "experimental",
)
FLOOR = ("score", "difference", "below")
COLUMNS = (
    "method",
    "seed",
    "status",
    *FIGURES,
    *COPIED,
    *(f"floor_{name}" for name in FLOOR),
    "device",
    "processor",
    "python",
    "versions",
    "commit",
    "key",
)


class Rows:
    """The rows of one set, written at once whenever one is added."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=list(COLUMNS))

    def has(self, settings: Settings) -> bool:
        """Return whether a run with these settings has ended well."""
        mine = self.table[self.table["key"] == key_of(settings)]
        return bool((mine["status"] == "ok").any())

    def drop(self, methods: Iterable[str]) -> None:
        """Forget the rows of some methods."""
        self.table = self.table[~self.table["method"].isin(list(methods))]

    def add(self, settings: Settings, record: RunRecord, error: str | None, commit: str) -> None:
        """Add a run, in place of an earlier one of the same method and seed, and write the file."""
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row |= {"method": settings.method, "seed": settings.seed, "commit": commit, "key": key_of(settings)}
        row |= {"status": "ok" if error is None else f"failed: {' '.join(error.split())}"}
        if error is None:
            row |= _facts(record.result())
        held = self.table
        held = held[~((held["method"] == settings.method) & (held["seed"] == settings.seed))]
        rows = [*held.to_dict("records"), row]
        rows.sort(key=lambda one: (one["seed"], one["method"]))
        self.table = pd.DataFrame(rows, columns=list(COLUMNS))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, self.table.to_csv(index=False))


def key_of(settings: Settings) -> str:
    """Return a digest of all settings but the place of the data, options with default values among them."""
    plain = settings.with_method(settings.method, {}, settings.seed)
    options = {name: value for name, value in to_options(plain).items() if name != "data"}
    own = create_method(settings.method, settings.method_options).options()
    return digest(options, json.loads(json.dumps(own, default=str)))[:16]


def _facts(result: Mapping[str, Any]) -> dict[str, Any]:
    figure = task_named(result["task"]).main
    machine = result["environment"]
    own = (result.get("floor") or {}).get("own", {})
    return {
        "val": result["validation"][figure],
        "test": result["test"][figure],
        **{name: result.get(name) for name in COPIED},
        **{f"floor_{name}": own.get(name) for name in FLOOR},
        **{name: machine[name] for name in ("device", "processor", "python")},
        "versions": json.dumps(machine["versions"]),
    }


def records_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the finished runs as their `result.json` has them, for tests of fairness and the summary."""
    found = []
    for row in table[table["status"] == "ok"].to_dict("records"):
        plain = {name: None if pd.isna(value) else value for name, value in row.items()}
        plain["environment"] = {"device": plain["device"]}
        own = {name: plain[f"floor_{name}"] for name in FLOOR}
        found.append(plain | {"floor": {"own": own} if own["score"] is not None else None})
    return found
