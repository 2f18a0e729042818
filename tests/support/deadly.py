"""A job that ends its process; in a separate module, because another process imports it."""

from __future__ import annotations

import os
import signal
import time

from equipoise.experiments.grid.jobs import Bundle, Outcome


def execute(bundle: Bundle) -> list[Outcome]:
    for job in bundle:
        if job.folder.name == "deadly":
            os._exit(9)
        if job.folder.name == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if job.folder.name == "interrupted":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(
                60
            )  # another thread may receive the signal first; the interrupt must still reach the job
    return [Outcome(job) for job in bundle]
