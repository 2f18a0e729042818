"""Names of the files of a record, and of the folders of the runs of a comparison."""

from __future__ import annotations

import hashlib
from typing import Final

CONFIG, METRICS, DIAGNOSES = "config.yaml", "metrics.jsonl", "diagnosis.jsonl"
RESULT, WEIGHTS, CHECKPOINT = "result.json", "model.safetensors", "checkpoint.pt"
BEFORE_LAST: Final = "checkpoint-before.pt"
"""The checkpoint before the last, which takes its place where the last one is damaged."""
PREDICTIONS, TRACE = "predictions.npz", "trace.jsonl"
INPUTS: Final = "inputs.safetensors"
"""What turns new samples into inputs of the model, without the data that it was trained on."""
SNAPSHOTS: Final = "snapshots"
"""Folder of the weights that a run with a trace keeps until it is finished."""
SNAPSHOT_INDEX: Final = f"{SNAPSHOTS}/index.jsonl"
FLOORS: Final = "floors"
"""Folder in which runs on the same data share the floor of their data."""
EVENTS: Final = (METRICS, DIAGNOSES, SNAPSHOT_INDEX)
"""Files to which events are appended during a run."""
ERROR: Final = "error.txt"
"""The traceback of an unexpected error; removed once the run is finished."""
TRACKERS: Final = "trackers.json"
"""What the trackers of a run have been told."""
PAGES: Final = ("report.html", "diagnosis.html")
EXPORTED: Final = "exported"
"""Begins the name of the file that `equipoise export` writes by default; its format follows."""
EXPORTS: Final = tuple(f"{EXPORTED}.{ending}" for ending in ("safetensors", "onnx", "pt2"))
SEALED: Final = (METRICS, DIAGNOSES, WEIGHTS, INPUTS, PREDICTIONS, TRACE)
"""Files whose seals are in the result of a finished run."""
FILES: Final = (RESULT, CHECKPOINT, BEFORE_LAST, *SEALED, ERROR, *PAGES, *EXPORTS, CONFIG)
"""All files, in the order in which they are removed: what is half removed is no run that seems finished."""
MACHINE_ONLY: Final = frozenset({"device", "threads", "num_workers", "checkpoint_every", "logger"})
"""Settings that may differ when a run is resumed; a comparison checks the device itself."""
MOVABLE: Final = MACHINE_ONLY | {"data"}
"""Settings that may be changed in a finished run, as its data may have moved."""


def run_name(method: str, seed: int) -> str:
    """Return the folder name of a run within a comparison; different methods get different names."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in method)
    if plain != method.replace(":", "-"):
        plain = f"{plain}-{hashlib.blake2b(method.encode(), digest_size=8).hexdigest()[:6]}"
    return f"{plain}-seed{seed}"
