"""Copies of finished runs, for a comparison that needs the same run as another one."""

from __future__ import annotations

import shutil
from pathlib import Path

from equipoise.files.whole import replaced
from equipoise.training.record.record import (
    DIAGNOSES,
    INPUTS,
    METRICS,
    PREDICTIONS,
    TRACE,
    WEIGHTS,
    RunRecord,
)


def copy_run(source: RunRecord, target: RunRecord, *, overwrite: bool = False) -> None:
    """Copy a finished run into another folder; the result comes last, so that no run is half copied.

    The runs that it builds on are expected next to the copy, as they are next to the original.

    Raises:
        RunFolderError: the source is not finished or was changed, or the target holds other things.
    """
    result = source.result()
    with target.opened(source.options(), resume=not overwrite, overwrite=overwrite):
        for name in (METRICS, DIAGNOSES, INPUTS, PREDICTIONS, TRACE, WEIGHTS):
            if name != WEIGHTS or source.complete:
                source.checked(name)
            if source.path(name).is_file():
                with replaced(target.path(name)) as partial:
                    shutil.copyfile(source.path(name), partial)
        beside = {name: target.folder.parent / Path(part).name for name, part in result["parts"].items()}
        target.finish(result | {"parts": {name: str(part) for name, part in beside.items()}})
