"""The main figure of a comparison, by the task of its data, and how it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.report.text.wording import decimal, percent, points
from equipoise.tasks import CLASSIFICATION, REGRESSION, Task, task_named


@dataclass(frozen=True)
class MainFigure:
    """The main figure of a task.

    Attributes:
        task: the task.
        key: its name in a record.
        name: its name on a page.
        title: its name at the start of a sentence.
        is_share: whether it is written in per cent.
        ticks: format of an axis.
        hover: format of a value in a chart.
        difference_unit: the unit after a difference in a sentence.
    """

    task: Task
    key: str
    name: str
    title: str
    is_share: bool
    ticks: str
    hover: str
    difference_unit: str

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> MainFigure:
        """Return that of a run's result or a comparison's summary; one without a task is of classes."""
        task = task_named(str(record.get("task") or CLASSIFICATION.name))
        key, name = task.main, task.main_name
        title = name[0].upper() + name[1:]
        if task is REGRESSION:
            return cls(task, key, name, title, False, "", ".3f", "")
        return cls(task, key, name, title, True, "~%", ".1%", " percentage points")

    def shown(self, value: float) -> str:
        """Write a value with its unit."""
        return percent(value) if self.is_share else decimal(value, 3)

    def spread(self, value: float) -> str:
        """Return a standard deviation, without a unit."""
        return decimal(100 * value, 1) if self.is_share else decimal(value, 3)

    def difference(self, value: float) -> str:
        """Return a difference with its sign, without a unit."""
        return points(value) if self.is_share else decimal(value, 3, signed=True)
