"""The records of a comparison, by method: the source of its sentences, tables and charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from equipoise.experiments.compare.comparison import BASELINE, Comparison
from equipoise.report.records import Run, comparable
from equipoise.report.text.learning import RELEARNING, Reading, readings
from equipoise.report.text.main_figure import MainFigure
from equipoise.report.text.wording import number

TREATMENT: Final = "diagnose-relearn"


@dataclass(frozen=True)
class Evidence:
    """A comparison with its runs.

    Attributes:
        comparison: results and summary.
        runs: the runs of each method, in the order of the results.
        read: their learning states.
        treatment: the method that re-learns; None where there is none.
        comparable: whether the runs share data, budget, model, splits and initial weights.
    """

    comparison: Comparison
    runs: Mapping[str, Sequence[Run]]
    read: Mapping[str, Sequence[Reading]]
    treatment: str | None
    comparable: bool

    @classmethod
    def of(cls, comparison: Comparison, runs: Sequence[Run]) -> Evidence:
        """Sort the runs of a comparison by method."""
        by_method = {
            method: [run for run in runs if run.method == method] for method in comparison.summary["methods"]
        }
        read = {method: readings(own) for method, own in by_method.items()}
        budgets = (comparison.summary.get("tuning") or {}).get("budgets")
        return cls(comparison, by_method, read, _treatment(read), comparable(runs, budgets))

    @property
    def methods(self) -> Mapping[str, Mapping[str, Any]]:
        """The methods of `summary.json`, in the order of the results."""
        methods: Mapping[str, Mapping[str, Any]] = self.comparison.summary["methods"]
        return methods

    def by_mean(self) -> list[str]:
        """Return the methods best mean first; those without a result come last."""
        means = {method: number(values["mean"]) for method, values in self.methods.items()}
        return sorted(means, key=lambda method: -means[method] if math.isfinite(means[method]) else math.inf)

    @property
    def figure(self) -> MainFigure:
        """The main figure of the comparison."""
        return MainFigure.of(self.comparison.summary)

    @property
    def baseline(self) -> str | None:
        """The name of joint training; None where it is not among the methods."""
        return BASELINE if BASELINE in self.methods else None

    def finished(self, method: str) -> list[Run]:
        """Return the runs of a method that finished."""
        return [run for run in self.runs[method] if run.finished]

    def difference(self, method: str) -> Mapping[str, Any] | None:
        """Return the paired difference to joint; None where there is none or the runs are not comparable."""
        held: Mapping[str, Any] | None = self.methods[method].get(f"difference_to_{BASELINE}")
        return held if self.comparable else None

    def diagnosed(self) -> list[str]:
        """Return the methods whose learning states are shown: joint and the one that re-learns, else all."""
        central = [method for method in (self.baseline, self.treatment) if method and self.read[method]]
        return central or [method for method, read in self.read.items() if read]


def _treatment(read: Mapping[str, Sequence[Reading]]) -> str | None:
    """Return the method called diagnose-relearn, else the first whose record shows a re-learning."""
    named = [method for method in read if method == TREATMENT or method.startswith(f"{TREATMENT} (")]
    seen = [method for method, own in read.items() if any(r.event == RELEARNING for r in own)]
    return next(iter(named + seen), None)
