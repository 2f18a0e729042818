"""A task that takes its process with it; in a module of its own, as another process has to import it."""

from __future__ import annotations

import os

from equipoise.experiments.executors import Outcome, Task


def execute(task: Task) -> Outcome:
    if task.folder.name == "deadly":
        os._exit(9)
    return Outcome(task)
