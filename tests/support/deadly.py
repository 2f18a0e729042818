"""A task that takes its process with it; in a module of its own, as another process has to import it."""

from __future__ import annotations

import os
import signal
import time

from equipoise.experiments.compare.executors import Outcome, Task


def execute(task: Task) -> Outcome:
    if task.folder.name == "deadly":
        os._exit(9)
    if task.folder.name == "interrupted":
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)  # another thread may hear of it first; the interrupt must still meet the task
    return Outcome(task)
