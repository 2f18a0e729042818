"""The loggers that are chosen by name, each for one run: where they write, and how they continue a run.

All are those of Lightning and Fabric. Without further settings nothing leaves the machine: Weights & Biases
is in its offline mode, and MLflow writes a database beside the runs. The variables of the services
(`WANDB_MODE`, `MLFLOW_TRACKING_URI`) change that.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import yaml
from filelock import FileLock

from equipoise.files.extras import needing
from equipoise.types import check_known

PROJECT: Final = "equipoise"
"""Project of Weights & Biases and experiment of MLflow, where none is chosen."""
DATABASE, ARTIFACTS, LOCK = "mlflow.db", "mlartifacts", ".mlflow.db.lock"
EVENT_FILES: Final = "events.out.tfevents.*"
TABLE: Final = "metrics.csv"
OFFLINE: Final = "wandb"
ID: Final = "id"


@dataclass(frozen=True)
class Place:
    """What the loggers of a run need to know of it.

    Attributes:
        folder: of the run.
        group: folder of the comparison that it belongs to; of a single run its own.
        options: its settings.
    """

    folder: Path
    group: Path
    options: Mapping[str, Any]

    @property
    def group_name(self) -> str | None:
        """Name of the comparison; None for a run of its own."""
        return self.group.resolve().name if self.group != self.folder else None


def check_services(names: Iterable[str] | None) -> None:
    """Check, before anything is trained, that loggers exist and that their packages can be imported.

    Raises:
        UnknownNameError: there is no logger of a name.
        MissingExtraError, BrokenPackageError: a package is missing, or cannot be imported.
    """
    for name in names or ():
        check_known("logger", [name], SERVICES)
        for package, module in PACKAGES[name]:
            with needing(package, name, f"the logger {name!r}", module.partition(".")[0]):
                import_module(module)


def open_service(name: str, place: Place, held: dict[str, Any]) -> Any:
    """Return a logger for a run; `held` is what is known of it, where it is to be continued."""
    return SERVICES[name](place, held)


def remove_local(folder: Path) -> None:
    """Remove what loggers have written into the folder of a run, and nothing else."""
    for path in (*folder.glob(EVENT_FILES), folder / TABLE):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / OFFLINE, ignore_errors=True)
    remove_store(folder)


def remove_store(folder: Path) -> None:
    """Remove the database of MLflow in the folder of a run or comparison."""
    for path in (*folder.glob(f"{DATABASE}*"), folder / LOCK):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / ARTIFACTS, ignore_errors=True)


def _tensorboard(place: Place, held: dict[str, Any]) -> Any:
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    logger = TensorBoardLogger(place.folder, name="", version="", default_hp_metric=False)
    if not held:
        # Indented text is code to TensorBoard.
        settings = yaml.safe_dump(dict(place.options), sort_keys=False).replace("\n", "\n    ")
        logger.experiment.add_text("settings", f"    {settings}", 0)
    return logger


def _csv(place: Place, _: dict[str, Any]) -> Any:
    from lightning_fabric.loggers.csv_logs import CSVLogger

    return CSVLogger(place.folder, name="", version="")


def _wandb(place: Place, held: dict[str, Any]) -> Any:
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    # Several runs may be open at a time. The service must not take what is printed, nor print itself.
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        group=place.group_name,
        job_type=place.options.get("method"),
        name=place.folder.name,
        dir=place.folder,
        config=dict(place.options),
        id=held.get(ID),
        resume="allow",
        mode=os.environ.get("WANDB_MODE", "offline"),
        reinit="create_new",
        settings=wandb.Settings(silent=True, console="off"),
    )
    held[ID] = run.id
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return WandbLogger(experiment=run)


def _mlflow(place: Place, held: dict[str, Any]) -> Any:
    from lightning.pytorch.loggers import MLFlowLogger

    uri = os.environ.get("MLFLOW_TRACKING_URI")
    group = place.group.resolve()
    local: dict[str, Any] = {} if uri else {"artifact_location": str(group / ARTIFACTS)}
    name = place.group_name or PROJECT
    # Workers may open the database at the same time, and the first one makes its tables.
    with _quiet(), FileLock(group / LOCK):
        logger = MLFlowLogger(
            os.environ.get("MLFLOW_EXPERIMENT_NAME", name),
            run_name=place.folder.name,
            tracking_uri=uri or f"sqlite:///{group / DATABASE}",
            tags={"group": name},
            run_id=held.get(ID),
            **local,
        )
        run = logger.run_id
    if ID in held:
        logger.experiment.update_run(run, status="RUNNING")
    else:
        logger.log_hyperparams({key: value for key, value in place.options.items() if value is not None})
    held[ID] = run
    return logger


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the messages about tables and experiments that are made."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


SERVICES: Final = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow, "csv": _csv}
LIGHTNING: Final = ("lightning", "lightning.pytorch.loggers")
PACKAGES: Final = {
    "tensorboard": (("tensorboard", "tensorboard"), ("tensorboard", "torch.utils.tensorboard")),
    "wandb": (("wandb", "wandb"), LIGHTNING),
    "mlflow": (("mlflow-skinny", "mlflow"), ("sqlalchemy", "sqlalchemy"), ("alembic", "alembic"), LIGHTNING),
    "csv": (),
}
"""Packages of each logger with a module of theirs; the extra has the logger's name."""
