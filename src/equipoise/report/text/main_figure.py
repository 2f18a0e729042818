"""The figure that a comparison is about, by the task of its data, and how it is written."""

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
    """

    task: Task

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> MainFigure:
        """Return that of a run's result or a comparison's summary; one without a task is of classes."""
        return cls(task_named(str(record.get("task") or CLASSIFICATION.name)))

    @property
    def key(self) -> str:
        """Its name in a record."""
        return self.task.main

    @property
    def name(self) -> str:
        """Its name on a page."""
        return self.task.main_name

    @property
    def title(self) -> str:
        """Its name at the start of a sentence."""
        return self.name[0].upper() + self.name[1:]

    @property
    def is_share(self) -> bool:
        """Whether it is written in per cent."""
        return self.task is not REGRESSION

    @property
    def ticks(self) -> str:
        """Format of an axis."""
        return "~%" if self.is_share else ""

    @property
    def hover(self) -> str:
        """Format of a value in a chart."""
        return ".1%" if self.is_share else ".3f"

    def shown(self, value: float) -> str:
        """Return a value in words."""
        return percent(value) if self.is_share else decimal(value, 3)

    def spread(self, value: float) -> str:
        """Return a standard deviation, without a unit."""
        return decimal(100 * value, 1) if self.is_share else decimal(value, 3)

    def difference(self, value: float) -> str:
        """Return a difference with its sign, without a unit."""
        return points(value) if self.is_share else decimal(value, 3, signed=True)

    @property
    def difference_unit(self) -> str:
        """The unit after a difference in a sentence."""
        return " percentage points" if self.is_share else ""
