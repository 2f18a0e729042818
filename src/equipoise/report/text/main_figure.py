"""The main figure of a comparison, by the task of its data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.tasks import CLASSIFICATION, Task, task_named


@dataclass(frozen=True)
class MainFigure:
    """The main figure of a task.

    Attributes:
        task: the task.
        key: its name in a record.
        name: its name on a page.
        title: its name at the start of a sentence.
    """

    task: Task
    key: str
    name: str
    title: str

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> MainFigure:
        """Return that of a run's result or a comparison's summary; one without a task is of classes."""
        task = task_named(str(record.get("task") or CLASSIFICATION.name))
        return cls(task, task.main, task.main_name, task.main_name[0].upper() + task.main_name[1:])
