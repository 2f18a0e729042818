"""`equipoise train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from equipoise.cli.run_options import RunOptions, Whole, Words


def train_command(
    *,
    method: str = "joint",
    seed: Whole = 0,
    out: Path | None = None,
    set_: Annotated[Words | None, Parameter(name="--set")] = None,
    resume: bool = False,
    overwrite: bool = False,
    config: Path | None = None,
    options: RunOptions | None = None,
) -> None:
    """Train one model by one method.

    Args:
        method: name of the method (`equipoise list methods`); `unimodal:NAME` for one modality alone, `a+b`
            for two methods in one run.
        seed: decides initial weights and the order of batches.
        out: run folder. Default: a new folder under runs/.
        set_: options of the method, as OPTION=VALUE; of a combination, as METHOD.OPTION=VALUE.
        resume: go on with the interrupted run in the folder.
        overwrite: replace the run in the folder.
        config: YAML file with options by name, the `config.yaml` of a run for instance; those given here win.
        options: the rest.
    """
    from equipoise.cli.folders import free_folder
    from equipoise.cli.progress import EpochBar
    from equipoise.cli.tables import make_table, number, output_console, progress_console
    from equipoise.tasks import task_named
    from equipoise.training.fit import run, run_name
    from equipoise.training.option_text import from_options

    options = options or RunOptions()
    settings = from_options({**options.to_dict(), "method": method, "seed": seed, "set": set_})
    folder = out or free_folder(
        f"{Path(options.data).name}-{run_name(method, seed)}", reuse=resume or overwrite
    )
    with EpochBar(progress_console()) as bar:
        bar.watch([(folder, settings.budget.epochs)])
        result = run(settings, folder, resume=resume, overwrite=overwrite)
    task = task_named(str(result.summary.get("task", "classification")))
    names = {**task.figures, "loss": "loss"}
    rows = [
        [split, *(number(scores[key]) for key in names)]
        for split, scores in (("validation", result.validation), ("test", result.test))
    ]
    console = output_console()
    console.print(f"{method} on {result.summary['dataset']}, epoch {result.best_epoch} kept\n", markup=False)
    console.print(make_table(["split", *names.values()], rows))
    console.print(f"\n{folder}", markup=False, soft_wrap=True)
