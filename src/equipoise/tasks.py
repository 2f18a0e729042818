"""Tasks: classification, several labels or regression, each with its loss and metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from equipoise.types import DataError, check_known

if TYPE_CHECKING:  # the command line lists the metrics in its options without importing torch
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        name: `classification`, `multilabel` or `regression`.
        losses: from the model's output and the target to the loss of each sample `[B]`.
        figures: the reported metrics, from the name in a record to the name in a report; higher is better,
            except for `errors`.
        errors: metrics of which lower is better.
        summary: a short description.
    """

    name: str
    losses: Callable[[Tensor, Tensor], Tensor]
    figures: dict[str, str]
    errors: frozenset[str]
    summary: str

    @property
    def main(self) -> str:
        """The metric that selects the epoch and ranks methods, the first; higher is better."""
        return next(iter(self.figures))

    @property
    def main_name(self) -> str:
        """The name of the main metric in a report."""
        return self.figures[self.main]

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the training loss of outputs `[B, C]` (`[B, 1]` for regression), the mean over the batch."""
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
        """Return the mean cross-entropy in one call, bit for bit as the code of the papers."""
        from torch.nn import functional as F

        return F.cross_entropy(output, target)


CLASSIFICATION: Final = _Classification(
    "classification",
    classes_of,
    {"accuracy": "accuracy", "macro_f1": "macro F1"},
    frozenset(),
    "one class per sample; cross-entropy",
)
MULTILABEL: Final = Task(
    "multilabel",
    labels_of,
    {"map": "mean average precision", "macro_f1": "macro F1", "micro_f1": "micro F1"},
    frozenset(),
    "any number of labels per sample; binary cross-entropy, the mean over labels",
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
    "one number per sample; squared error of the standardised target",
)
IGNORED_CLASS: Final = -100
"""The class of samples that the cross-entropy of PyTorch leaves out."""
TASKS: Final[dict[str, Task]] = {task.name: task for task in (CLASSIFICATION, MULTILABEL, REGRESSION)}
EVERY_TASK: Final = frozenset(TASKS)
FIGURES: Final = tuple(dict.fromkeys(name for task in TASKS.values() for name in task.figures))
"""Names of all metrics."""


def refuse_ignored(labels: NDArray[Any]) -> None:
    """Raise DataError if classes `[N]` contain the integer -100."""
    ignored = int((labels == IGNORED_CLASS).sum()) if labels.dtype.kind == "i" else 0
    if ignored:
        raise DataError(
            f"{ignored} of {len(labels)} labels are {IGNORED_CLASS}, which PyTorch's cross-entropy ignores; "
            "expected a class for each sample: leave these samples out, or give the class another number."
        )


def task_named(name: str) -> Task:
    """Return a task by name.

    Raises:
        UnknownNameError: no such task.
    """
    check_known("task", [name], TASKS)
    return TASKS[name]


def task_of(target: Tensor) -> Task:
    """Return the task of a target: labels `[N, C]`, classes (integers) `[N]`, or numbers `[N]`."""
    if target.ndim > 1:
        return MULTILABEL
    return REGRESSION if target.is_floating_point() else CLASSIFICATION
