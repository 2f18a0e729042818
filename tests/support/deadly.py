"""Work that ends its process; in a separate module, because another process imports it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from typing import Any

from equipoise.experiments.compare.tuned import TunedMethod
from equipoise.experiments.grid.jobs import Bundle, Outcome
from equipoise.experiments.tune import trial
from equipoise.experiments.tune.tuning import Tuning

value = trial._value


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


def next_trial(tuning: Tuning, method: str, parts: Mapping[str, TunedMethod]) -> trial.Ended | None:
    """End the process in the first trial of `ogm`."""

    def deadly(*given: Any) -> float:
        if method == "ogm" and given[-1] == 0:
            os._exit(9)
        return value(*given)

    trial._value = deadly
    return trial.next_trial(tuning, method, parts)
