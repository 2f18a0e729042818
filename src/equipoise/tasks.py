"""What a model is trained for: one class, several labels, or a number; its loss and its figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from equipoise.types import UnknownNameError

if TYPE_CHECKING:  # the options of the command line name figures, and are shown without loading torch
    from torch import Tensor


@dataclass(frozen=True)
class Task:
    """A kind of target.

    Attributes:
        name: `classification`, `multilabel` or `regression`.
        losses: from the model's output and the target to the loss of each sample `[B]`.
        figures: what is reported beside the loss, by name in a record to name on a page; more of them is
            better, but for `errors`.
        errors: figures of which less is better.
        summary: in words.
    """

    name: str
    losses: Callable[[Tensor, Tensor], Tensor]
    figures: dict[str, str]
    errors: frozenset[str]
    summary: str

    @property
    def main(self) -> str:
        """The figure that picks the epoch and ranks methods, the first; more is better."""
        return next(iter(self.figures))

    @property
    def main_name(self) -> str:
        """Its name on a page."""
        return self.figures[self.main]

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss that is minimised, the mean over the batch.

        Args:
            output: `[B, C]`, or `[B, 1]` for a number.
            target: `[B]` or `[B, C]`.
        """
        return self.losses(output, target).mean()


def classes_of(output: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy of each sample: logits `[B, C]`, classes `[B]`."""
    from torch.nn import functional as F

    return F.cross_entropy(output, target, reduction="none")


def labels_of(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean binary cross-entropy over the labels of each sample: logits and 0 or 1 `[B, C]`."""
    from torch.nn import functional as F

    wanted = target.to(output.dtype)
    return F.binary_cross_entropy_with_logits(output, wanted, reduction="none").mean(dim=1)


def numbers_of(output: Tensor, target: Tensor) -> Tensor:
    """Return the squared error of each sample: predictions `[B, 1]` or `[B]`, numbers `[B]`."""
    from torch.nn import functional as F

    return F.mse_loss(output.reshape(len(target)), target.to(output.dtype), reduction="none")


class _Classification(Task):
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy in one call, whose last bits are those of every paper's code."""
        from torch.nn import functional as F

        return F.cross_entropy(output, target)


CLASSIFICATION: Final = _Classification(
    "classification",
    classes_of,
    {"accuracy": "accuracy", "macro_f1": "macro F1"},
    frozenset(),
    "one class a sample; cross-entropy",
)
MULTILABEL: Final = Task(
    "multilabel",
    labels_of,
    {"map": "mean average precision", "macro_f1": "macro F1", "micro_f1": "micro F1"},
    frozenset(),
    "any number of labels a sample; binary cross-entropy, the mean over labels",
)
REGRESSION: Final = Task(
    "regression",
    numbers_of,
    {
        "r2": "R²",
        "pearson": "Pearson correlation",
        "mae": "mean absolute error",
        "rmse": "root mean squared error",
    },
    frozenset({"mae", "rmse"}),
    "a number a sample; squared error of the standardised target",
)
TASKS: Final[dict[str, Task]] = {task.name: task for task in (CLASSIFICATION, MULTILABEL, REGRESSION)}
EVERY_TASK: Final = frozenset(TASKS)
FIGURES: Final = tuple(dict.fromkeys(name for task in TASKS.values() for name in task.figures))
"""Names of all figures."""


def task_named(name: str) -> Task:
    """Return a task by name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in TASKS:
        raise UnknownNameError("task", name, TASKS)
    return TASKS[name]


def task_of(target: Tensor) -> Task:
    """Return the task that a target is one of: whole numbers `[N]`, a table `[N, C]`, or numbers `[N]`."""
    if target.ndim > 1:
        return MULTILABEL
    return REGRESSION if target.is_floating_point() else CLASSIFICATION
