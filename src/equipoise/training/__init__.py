"""The training loop, its settings, and the record of a run."""

from equipoise.training.fit import FitResult, fit, load_run, run, run_name
from equipoise.training.option_text import from_options, to_options
from equipoise.training.record import RunRecord
from equipoise.training.settings import Budget, Settings

__all__ = [
    "Budget",
    "FitResult",
    "RunRecord",
    "Settings",
    "fit",
    "from_options",
    "load_run",
    "run",
    "run_name",
    "to_options",
]
