"""What the callbacks of all trainers share: handles of encoders by path, and when a method or D&R acts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from inspect import signature
from math import inf
from typing import Any, Generic, TypeVar

from torch import nn

from equipoise.diagnosis import Diagnosis
from equipoise.diagnosis.features.capture import check_handles
from equipoise.diagnosis.features.reading import BatchReader
from equipoise.distributed import process_count, unwrapped
from equipoise.loops.plain import HandTraining, by_hand
from equipoise.loops.plain.entry import check_fit, needs_validation
from equipoise.methods import Method, create_method
from equipoise.relearning import DiagnoseRelearn, Monitor
from equipoise.relearning.monitor import MONITOR_OPTIONS
from equipoise.relearning.options import DIAGNOSIS_OPTIONS, RELEARN_OPTIONS
from equipoise.typed_options import check_keywords
from equipoise.types import EquipoiseError, ModelError, warn

Handles = Mapping[str, str | nn.Module]


Tool = TypeVar("Tool", DiagnoseRelearn, Monitor)


class DiagnosesInTrainer(Generic[Tool]):
    """Let a tool act at the start of the epoch after one in which it is due.

    Attributes:
        kept_as: its name in the state of a checkpoint.
    """

    kept_as: str

    def __init__(
        self, encoders: Handles, options: dict[str, Any], kind: type[Tool], known: Iterable[str]
    ) -> None:
        check_handles(encoders, paths=True)
        check_keywords(type(self), options, {*signature(kind).parameters, *known})
        self.encoders: Handles = dict(encoders)
        self.options = options
        self._tool: Tool | None = None
        self._followed = -1  # the last epoch that was checked

    def _begin(self, epoch: int, epochs: float) -> None:
        """Start with an epoch (0-based) of a training of `epochs`, infinite if that is unknown."""
        self._followed = min(self._followed, epoch - 1)

    def _follow(
        self,
        epoch: int,
        model: nn.Module,
        loaders: Callable[[], tuple[Iterable[Any], Iterable[Any]]],
        *,
        last: bool = False,
    ) -> Diagnosis | None:
        """Act after an epoch, once, if it is due or the `last`; `loaders` returns training and validation."""
        if self._tool is None:
            raise EquipoiseError("the callback was not called when training began; pass it to the Trainer.")
        if epoch <= self._followed:
            return None
        self._followed = epoch
        self._ended()
        if not last and not self._tool.due(epoch):
            return None
        return self._tool.step(epoch, model, *loaders())

    def _ended(self) -> None:
        """Do what the tool needs after every epoch."""

    def _state(self) -> dict[str, Any] | None:
        """Return what a checkpoint keeps; None before training has begun."""
        if self._tool is None:
            return None
        return {self.kept_as: self._tool.state_dict(), "followed": self._followed}

    def _restore(self, kept: Mapping[str, Any]) -> None:
        assert self._tool is not None
        self._tool.load_state_dict(kept[self.kept_as])
        self._followed = int(kept["followed"])


class RelearnsInTrainer(DiagnosesInTrainer[DiagnoseRelearn]):
    """Diagnose and re-learn at the start of the epoch after one in which it is due."""

    kept_as = "relearn"

    def __init__(self, encoders: Handles, options: dict[str, Any]) -> None:
        super().__init__(encoders, options, DiagnoseRelearn, RELEARN_OPTIONS | DIAGNOSIS_OPTIONS)

    @property
    def relearn(self) -> DiagnoseRelearn | None:
        """The `DiagnoseRelearn` that does the work; None before training has begun."""
        return self._tool

    def _start(
        self,
        model: nn.Module,
        precision: Callable[[], AbstractContextManager[Any]],
        kept: Mapping[str, Any] | None,
        **trainer: Any,
    ) -> None:
        """Keep the initial weights of the encoders, or those that are known.

        Args:
            model: the trained model.
            precision: the context of the trainer's forward passes; measures are computed outside.
            kept: the state of the checkpoint that training is resumed from.
            **trainer: options that the trainer provides.
        """
        before, encoders = self._tool, resolved(self.encoders, model)
        options = {**trainer, **self.options, "forward": under(precision, self.options)}
        self._tool = DiagnoseRelearn(encoders, **options)
        if kept:
            self._restore(kept)
        elif before is not None and before.encoders == encoders:
            self._tool.load_state_dict({**before.state_dict(), "rewarmed": []})
            warn(
                "the encoders have been trained with this callback before: their initial weights are those "
                "from before that training; make a new callback to take the present ones."
            )
        else:
            self._followed = -1

    def _begin(self, epoch: int, epochs: float) -> None:
        super()._begin(epoch, epochs)
        if self._tool is not None and 0 < epochs < inf:
            self._tool.check(int(epochs))

    def _ended(self) -> None:
        assert self._tool is not None
        self._tool.track()


class WatchesInTrainer(DiagnosesInTrainer[Monitor]):
    """Measure at the start of the epoch after one in which it is due, and after the last one."""

    kept_as = "monitor"

    def __init__(self, encoders: Handles, options: dict[str, Any]) -> None:
        super().__init__(encoders, options, Monitor, MONITOR_OPTIONS)

    @property
    def monitor(self) -> Monitor | None:
        """The `Monitor` that does the work, with the history; None before training has begun."""
        return self._tool

    def _start(
        self,
        model: nn.Module,
        precision: Callable[[], AbstractContextManager[Any]],
        kept: Mapping[str, Any] | None,
    ) -> None:
        """Begin a history, or take over that of a checkpoint; see `RelearnsInTrainer._start`."""
        options = {**self.options, "forward": under(precision, self.options)}
        self._tool, self._followed = Monitor(resolved(self.encoders, model), **options), -1
        if kept:
            self._restore(kept)

    def _repr_html_(self) -> str | None:
        """Show in a notebook what was measured."""
        return None if self._tool is None else self._tool._repr_html_()


class TrainsByMethod:
    """Put a method around a trainer's step; the arguments are described in the callbacks."""

    def __init__(
        self,
        method: str | Method,
        encoders: Handles,
        head: Any,
        output: str | nn.Module | None,
        options: Mapping[str, Any] | None,
        more: dict[str, Any],
    ) -> None:
        check_handles(encoders, paths=True)
        self.method = create_method(method, options) if isinstance(method, str) else method
        self.encoders, self.head, self.output, self.more = dict(encoders), head, output, more
        self.training: HandTraining | None = None

    def _validates(self) -> bool:
        """Whether the method measures validation samples, which the trainer provides.

        Raises:
            UsageError: it fits no trainer at all.
        """
        check_fit(self.method, tuple(self.encoders), process_count())
        return "val_loader" not in self.more and needs_validation(self.method)

    def _start(self, model: nn.Module, **trainer: Any) -> HandTraining:
        """Prepare the method; `trainer` are arguments of `by_hand` that the trainer provides."""
        self.training = by_hand(
            self.method,
            model,
            resolved(self.encoders, model),
            head=head_resolved(self.head, model),
            output=None if self.output is None else one_resolved(self.output, model, "output"),
            **{**trainer, **self.more},
        )
        return self.training

    def _begun(self) -> HandTraining:
        if self.training is None:
            raise EquipoiseError("the callback was not called when training began; pass it to the Trainer.")
        return self.training

    def _state(self) -> dict[str, Any] | None:
        """Return what a checkpoint keeps; None before training has begun."""
        return None if self.training is None else self.training.state_dict()

    def _edit_gradients(self) -> None:
        """Let the method edit the gradients of a step."""
        if self._begun().pending:
            self._begun().on_gradients()


def under(
    precision: Callable[[], AbstractContextManager[Any]], options: Mapping[str, Any]
) -> Callable[[nn.Module, Any], Any]:
    """Return the `forward` of a `BatchReader` with these options, under a precision."""
    reader = BatchReader(options.get("inputs_of"), None, options.get("forward"))

    def forward(model: nn.Module, batch: Any) -> Any:
        with precision():
            return reader.run(model, batch)

    return forward


def resolved(encoders: Handles, model: nn.Module) -> dict[str, nn.Module]:
    """Return modality to module, for modules or their paths; see `one_resolved`."""
    return {name: one_resolved(handle, model, name) for name, handle in encoders.items()}


def one_resolved(handle: str | nn.Module, model: nn.Module, name: str) -> nn.Module:
    """Return a module, or that of a path inside the model as in `model.get_submodule`.

    Raises:
        ModelError: there is no such submodule.
    """
    if not isinstance(handle, str):
        return handle
    inside = unwrapped(model)
    if callable(get_base := getattr(inside, "get_base_model", None)):  # a model of peft
        inside = get_base()
    try:
        return inside.get_submodule(handle)
    except AttributeError as error:
        known = ", ".join(child for child, _ in inside.named_children()) or "none"
        raise ModelError(
            f"the model ({type(inside).__name__}) has no submodule {handle!r} for {name!r}; it has {known}."
        ) from error


def head_resolved(head: Any, model: nn.Module) -> Any:
    """Return the head of `equipoise.by_hand`, given as module, path, or modality to module or path."""
    if isinstance(head, str):
        return one_resolved(head, model, "head")
    if isinstance(head, Mapping):
        return {name: one_resolved(layer, model, f"head of {name}") for name, layer in head.items()}
    return head
