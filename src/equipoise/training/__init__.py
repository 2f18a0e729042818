"""The training loop, its settings, and the record of a run."""

from equipoise.training.fit import FitResult, fit, load_run, run, run_name
from equipoise.training.option_text import from_options, to_options
from equipoise.training.record.predictions import Predictions, confusion, read_predictions
from equipoise.training.record.record import RunRecord
from equipoise.training.record.trace import TracePoint, read_trace
from equipoise.training.settings import Budget, Settings

__all__ = [
    "Budget",
    "FitResult",
    "Predictions",
    "RunRecord",
    "Settings",
    "TracePoint",
    "confusion",
    "fit",
    "from_options",
    "load_run",
    "read_predictions",
    "read_trace",
    "run",
    "run_name",
    "to_options",
]
