"""Loggers of Lightning and Fabric, called so that no error of theirs ends a training.

Whatever a logger draws or warns of, the random states and the user's warnings stay as they are.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol, runtime_checkable

from equipoise.distributed import process_rank
from equipoise.files.untrusted import first_line
from equipoise.randomness import isolated_rng
from equipoise.types import UsageError, warn

Pictures = Callable[[], Mapping[str, Any]]
"""Draws pictures: name to image of pillow."""


@runtime_checkable
class Logger(Protocol):
    """What the loggers of Lightning and Fabric have in common."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log numbers of one step."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Restore the global random states after a block, and hide its warnings.

    TensorBoard writes in a thread, whose error also reaches the caller: its traceback is hidden, too.
    """
    usual = threading.excepthook

    def hook(found: threading.ExceptHookArgs) -> None:
        if not type(found.thread).__module__.startswith("tensorboard"):
            usual(found)

    with isolated_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        threading.excepthook = hook
        try:
            yield
        finally:
            threading.excepthook = usual


class Outlet:
    """One logger.

    Attributes:
        name: by which a warning names it.
        logger: the logger.
    """

    def __init__(self, name: str, logger: Logger) -> None:
        self.name, self.logger = name, logger

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers, and hand them on to the disk or service."""
        if values:
            self.logger.log_metrics(dict(values), step=step)
            if callable(save := getattr(self.logger, "save", None)):
                save()

    def show(self, pictures: Mapping[str, Any], step: int) -> None:
        """Log pictures where the logger can."""
        for name, picture in pictures.items():
            if callable(own := getattr(self.logger, "log_image", None)):  # that of Weights & Biases
                own(name, [picture], step=step)
                continue
            service = getattr(self.logger, "experiment", None)
            if callable(add := getattr(service, "add_image", None)):  # that of TensorBoard
                import numpy as np

                add(name, np.asarray(picture), step, dataformats="HWC")
            elif callable(log := getattr(service, "log_image", None)):  # that of MLflow
                log(self.logger.run_id, picture, key=name, step=step)  # type: ignore[attr-defined]

    @property
    def shows(self) -> bool:
        """Whether the logger takes pictures."""
        service = getattr(self.logger, "experiment", None)
        return any(
            callable(getattr(where, name, None))
            for where, name in ((self.logger, "log_image"), (service, "add_image"), (service, "log_image"))
        )


class Outlets:
    """The loggers that a user gave to a training of an own loop; only the first process logs.

    Args:
        given: a logger of Lightning or Fabric, several, or None.

    Raises:
        UsageError: one has no `log_metrics`.
    """

    def __init__(self, given: Logger | Sequence[Logger] | None) -> None:
        loggers: Iterable[Any] = given if isinstance(given, list | tuple) else [given]
        self._open: list[Outlet] = []
        for logger in loggers:
            if logger is None:
                continue
            if isinstance(logger, type) or not isinstance(logger, Logger):
                raise UsageError(
                    f"log is {logger!r}; expected a logger of lightning.pytorch.loggers or "
                    "lightning.fabric.loggers, such as TensorBoardLogger('runs'), or several."
                )
            self._open.append(Outlet(type(logger).__name__, logger))

    def __bool__(self) -> bool:
        return bool(self._open)

    def log(self, values: Mapping[str, float], step: int, pictures: Pictures | None = None) -> None:
        """Log numbers and pictures of one step; a logger that fails is left out from then on."""
        if process_rank():
            return
        drawn: Mapping[str, Any] | None = None
        for outlet in list(self._open):
            try:
                with undisturbed():
                    outlet.log(values, step)
                    if pictures is not None and outlet.shows:
                        drawn = pictures() if drawn is None else drawn
                        outlet.show(drawn, step)
            except Exception as error:
                self._open.remove(outlet)
                warn(lost(outlet.name, error))

    def __getstate__(self) -> dict[str, Any]:
        return {"_open": []}  # services cannot be copied with a model

    def __deepcopy__(self, memo: Any) -> Outlets:
        return self


def lost(name: str, error: Exception) -> str:
    """Return what to say of a tracker that has failed."""
    found = f"{type(error).__name__}: {first_line(error)}"
    return (
        f"the logger {name!r} failed ({found}), and gets nothing more; the training goes on. See to its disk "
        "or service."
    )


def closed(outlet: Outlet, *, finished: bool) -> None:
    """End the run of a logger; an error comes too late to matter."""
    with suppress(Exception), undisturbed():
        if callable(finalize := getattr(outlet.logger, "finalize", None)):
            finalize("success" if finished else "failed")
        service = getattr(outlet.logger, "experiment", None)
        if callable(finish := getattr(service, "finish", None)):  # Weights & Biases has one run at a time
            finish(exit_code=0 if finished else 1)
