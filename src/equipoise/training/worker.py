"""One of the processes that `launch` has started: `python -m equipoise.training.worker FOLDER`."""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

from equipoise.children import end_with
from equipoise.files.printable import say
from equipoise.training.fit import run
from equipoise.training.option_text import from_options
from equipoise.training.processes.group import LAUNCHED
from equipoise.training.processes.launch import EPOCHS, TASK, report
from equipoise.types import EquipoiseError, EquipoiseWarning


def work(place: Path) -> int:
    """Do the task in a folder, and return the exit code."""
    rank = int(os.environ["RANK"])
    end_with(int(os.environ[LAUNCHED]))
    warnings.simplefilter("ignore")
    if rank == 0:
        warnings.simplefilter("always", EquipoiseWarning)
        warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")

    def told(epoch: int, scores: dict[str, float]) -> None:
        with (place / EPOCHS).open("a", encoding="utf-8") as file:
            file.write(json.dumps([epoch, scores]) + "\n")

    task = json.loads((place / TASK).read_text(encoding="utf-8"))
    keywords: dict[str, Any] = {
        name: Path(value) if name in ("parts_folder", "floors", "group") and value else value
        for name, value in task["keywords"].items()
    }
    try:
        run(from_options(task["options"]), Path(task["folder"]), on_epoch=told, **keywords)
    except EquipoiseError as error:
        report(place, rank, error, "")
        return error.exit_code
    except Exception as error:
        report(place, rank, error, traceback.format_exc())
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    code = work(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # At a regular exit threads of torch.distributed may still run, and torch sometimes aborts the process.
    os._exit(code)
