"""Types and errors that the whole package shares."""

from __future__ import annotations

import difflib
import importlib
import warnings
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

if TYPE_CHECKING:  # the command line prints its help without importing torch
    from torch import Tensor

Entry = TypeVar("Entry")


ALSO_CALLED: Final = {"learning_rate": "lr"}
"""What other libraries call an option, for suggestions."""


class EquipoiseError(Exception):
    """Base of all errors of Equipoise; `exit_code` is that of the command line."""

    exit_code = 1


class UsageError(EquipoiseError, ValueError):
    """The arguments of a call or command are invalid."""

    exit_code = 2


class UnknownNameError(UsageError, KeyError):
    """There is no method, dataset, model, metric or option of that name.

    It is also a `KeyError`, so that `mapping.get` and `in` work on mappings that raise it. The message
    suggests near names; `elsewhere` are names that do not belong here, with how to write them.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        known: Iterable[str],
        found: str = "",
        elsewhere: Mapping[str, str] | None = None,
    ) -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        written = dict(elsewhere or {}) | {one: one for one in self.known}
        written |= {other: one for other, one in ALSO_CALLED.items() if one in self.known}
        close = difflib.get_close_matches(str(name).lower(), written, n=3, cutoff=0.5)
        near = list(dict.fromkeys(written[one] for one in close))
        hint = f"did you mean {_either(near)}?" if near else f"known: {', '.join(self.known) or 'none'}."
        super().__init__(f"unknown {kind} {name!r}: {found}{hint}")

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the message in quotes


def check_known(kind: str, names: Iterable[str], known: Collection[str]) -> None:
    """Raise `UnknownNameError` for the first of the names that is not known; `kind` is what they name."""
    for name in names:
        if name not in known:
            raise UnknownNameError(kind, name, known)


class ByName(Mapping[str, Entry]):
    """A mapping that raises `UnknownNameError` for unknown names; `kind` is what its entries are called."""

    kind = "modality"

    @abstractmethod
    def _entries(self) -> Mapping[str, Entry]:
        """Return the entries by name."""

    def __getitem__(self, name: str) -> Entry:
        check_known(self.kind, [name], self._entries())
        return self._entries()[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries()

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries())

    def __len__(self) -> int:
        return len(self._entries())


class InNotebooks:
    """Base of results that a notebook shows as they look in a report.

    The report lies above the rooms of all results, so it is found by name, and imported when it is needed.

    Attributes:
        shown_as: a function of `equipoise.report.notebook`, from the result to HTML.
    """

    shown_as: ClassVar[str]

    def _repr_html_(self) -> str:
        shown: str = getattr(importlib.import_module("equipoise.report.notebook"), self.shown_as)(self)
        return shown


def how_to_add(extra: str) -> str:
    """Return the command that adds an extra to an environment with Equipoise."""
    return f"pip install 'equipoise[{extra}]'"


class MissingExtraError(UsageError, ImportError):
    """A package of an optional extra is not installed."""

    def __init__(self, package: str, extra: str, need: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(f"{need} needs the package {package!r}: {how_to_add(extra)}")


class BrokenPackageError(EquipoiseError, ImportError):
    """A package is installed, and cannot be imported: a part of it is missing, damaged or too old."""

    def __init__(self, package: str, need: str, found: str) -> None:
        self.package = package
        super().__init__(
            f"{need} needs the package {package!r}, which is installed and cannot be imported ({found}); "
            f"install it again: pip install --force-reinstall {package}"
        )


class DataError(EquipoiseError, ValueError):
    """Data are invalid: shapes, labels, missing values, splits."""


class LeakError(DataError):
    """Two splits share a sample, group or content."""


class ModelError(EquipoiseError, ValueError):
    """A model or a module handle does not meet a requirement."""


class UnfitModelError(ModelError, UsageError):
    """An encoder or fusion that was named does not fit the data, or the other parts of the model.

    That is wrong use, which the command line ends with 2.
    """


class RunFolderError(EquipoiseError):
    """A run folder already exists, is incomplete, or has another configuration."""


class PathError(DataError, RunFolderError, UsageError):
    """A path cannot serve: nothing is there, or something of another kind, or what must not be replaced.

    That is wrong use, which the command line ends with 2.
    """


class MachineLimitError(EquipoiseError):
    """The machine has run out of open files or memory; nothing is wrong with the file that was to be read."""


class NoSpaceError(RunFolderError):
    """A disk is full, or the room that the user may take of it."""


class TrainingError(EquipoiseError, RuntimeError):
    """Training cannot continue, for instance because the loss is not finite."""


class EquipoiseWarning(UserWarning):
    """Something probably has an unintended effect; the message names a remedy."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of samples.

    Attributes:
        inputs: modality name to tensor `[B, ...]`.
        target: class indices `[B]` (int64); labels `[B, C]` or standardised numbers `[B]` (float32) for the
            other tasks.
        index: row of each sample in its dataset `[B]` (int64), the same in all epochs.
        keep: for methods that train with missing modalities: modality name to `[B]` (bool), whether the
            feature of the sample is kept; else None.
    """

    inputs: Mapping[str, Tensor]
    target: Tensor
    index: Tensor
    keep: Mapping[str, Tensor] | None = None

    def __len__(self) -> int:
        return int(self.target.shape[0])

    def to(self, device: object, non_blocking: bool = False) -> Batch:
        """Return the batch on `device`; tensors on that device are not copied."""
        move = {"device": device, "non_blocking": non_blocking}
        return Batch(
            {name: x.to(**move) for name, x in self.inputs.items()},  # type: ignore[call-overload]
            self.target.to(**move),  # type: ignore[call-overload]
            self.index.to(**move),  # type: ignore[call-overload]
            self.keep and {name: kept.to(**move) for name, kept in self.keep.items()},  # type: ignore[call-overload]
        )


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """The output of a multimodal model.

    Attributes:
        logits: `[B, C]`.
        features: modality name to pooled feature `[B, d_m]`, before fusion.
    """

    logits: Tensor
    features: Mapping[str, Tensor]


def _either(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]


def warn(message: str) -> None:
    """Issue an `EquipoiseWarning`; the message names a remedy."""
    warnings.warn(message, EquipoiseWarning, stacklevel=3)
