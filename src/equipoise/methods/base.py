"""The contract of a training method: hooks with defaults, so that joint training is the base class itself."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import MISSING, asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from equipoise.typed_options import check_types
from equipoise.types import Batch, EquipoiseError, EquipoiseWarning, UnknownNameError, UsageError

if TYPE_CHECKING:
    from equipoise.models import BalancedModel


@dataclass(frozen=True)
class Requirements:
    """What a method needs; checked before training.

    Attributes:
        capabilities: what the model must offer, out of `BalancedModel.capabilities`.
        min_modalities: the smallest number of modalities for which the method says anything.
        max_modalities: the largest, None for any.
    """

    capabilities: frozenset[str] = frozenset()
    min_modalities: int = 1
    max_modalities: int | None = None


@dataclass
class Counters:
    """Work done by a run, for a like-for-like account of cost.

    Attributes:
        forward_samples: samples passed forward in training and by the method (evaluation is the same for
            all methods and is not counted).
        backward_samples: samples passed backward.
        method_seconds: time spent in the method's own hooks.
    """

    forward_samples: int = 0
    backward_samples: int = 0
    method_seconds: float = 0.0


class Plan(Protocol):
    """The training that is planned, as far as it can make a method pointless."""

    @property
    def epochs(self) -> int:
        """Passes over the training split."""

    @property
    def optimizer(self) -> str:
        """Name of the optimiser."""

    def learning_rates(self) -> Sequence[float]:
        """Return the learning rate of each epoch."""


class Run(Protocol):
    """What a method may see and use of the training it takes part in; there is no way to the test split."""

    model: BalancedModel
    method: Method
    optimizer: Optimizer
    device: torch.device
    generator: torch.Generator
    counters: Counters
    epoch: int
    step: int
    total_epochs: int
    learning_rates: Sequence[float]
    """Planned learning rate of each epoch."""

    @property
    def train(self) -> Iterable[Batch]:
        """The training batches, in the order of the epoch."""

    @property
    def train_eval(self) -> Iterable[Batch]:
        """The training batches as evaluation sees them: in order, not augmented."""

    @property
    def val(self) -> Iterable[Batch]:
        """The validation batches."""

    def forward(self, context: StepContext) -> Tensor:
        """Run `method.forward` as the strategy and precision of the training ask for."""

    def backward(self, loss: Tensor) -> None:
        """Propagate a loss back."""

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision under which losses are computed."""

    def clip_gradients(self) -> None:
        """Clip the gradients as configured."""

    def own_time(self) -> AbstractContextManager[Any]:
        """Count the time of a block as the method's."""

    def record(self, kind: str, **values: Any) -> None:
        """Write an event into the run record."""


class StepContext:
    """One training step in progress.

    Attributes:
        run: the training.
        batch: the batch, on the run's device.
        z: modality name to feature `[B, d_m]`, attached to the graph, once the model has run.
        u: joint logits `[B, C]`, once the model has run.
    """

    def __init__(self, run: Run, batch: Batch) -> None:
        self.run, self.batch = run, batch
        self.z: dict[str, Tensor] = {}
        self.u: Tensor = torch.empty(0)

    def unimodal_logits(self, source: str = "slice", *, detached: bool = False) -> dict[str, Tensor]:
        """Return `u^m [B, C]` of each modality by a source of `equipoise.models.unimodal_logits`.

        `detached` gives scores that carry no gradient.
        """
        from equipoise.models import unimodal_logits

        if not self.z:
            raise EquipoiseError(
                "the model has not run in this step; ask for unimodal logits after encoding."
            )
        with self.run.autocast(), torch.set_grad_enabled(torch.is_grad_enabled() and not detached):
            z = {name: feature.detach() for name, feature in self.z.items()} if detached else self.z
            return unimodal_logits(self.run.model, z, source, batch=self.batch)


@dataclass
class Method:
    """A training method; its dataclass fields are its options.

    A subclass overrides the hooks it needs, and draws from `run.generator` only: off, it is joint training.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""
    cost: ClassVar[str] = "none"
    requires: ClassVar[Requirements] = Requirements()
    argument: ClassVar[str | None] = None
    """Field that `name:value` sets, where the method comes once for each modality, say."""
    trains: ClassVar[bool] = True
    """Whether there is anything to train once its parts are."""

    @classmethod
    def create(cls, options: Mapping[str, Any]) -> Method:
        """Build the method from options by name.

        Raises:
            UnknownNameError: an option does not exist.
            UsageError: an option is missing or has a value that makes no sense.
        """
        known = {option.name: option for option in fields(cls) if option.init}
        for option in options:
            if option not in known:
                raise UnknownNameError(f"option of {cls.name!r}", option, known)
        for option, description in known.items():
            required = description.default is MISSING and description.default_factory is MISSING
            if required and option not in options:
                raise UsageError(f"the method {cls.name!r} needs the option {option!r}.")
        check_types(cls, options, f"of {cls.name!r}")
        return cls(**options)

    @classmethod
    def variants(cls, modalities: Sequence[str]) -> list[str]:
        """Return the names under which the method runs on data of these modalities."""
        return [cls.name]

    def options(self) -> dict[str, Any]:
        """Return the options as plain values, for the run record."""
        return {option.name: value for option, value in zip(fields(self), asdict(self).values(), strict=True)}

    def parts(self, modalities: Sequence[str]) -> list[str]:
        """Return the methods whose finished runs (same data, seed and budget) this one builds on."""
        return []

    def modalities(self, available: Sequence[str]) -> tuple[str, ...]:
        """Return the modalities that the model is built for."""
        return tuple(available)

    def fusion(self, chosen: str) -> str:
        """Return the fusion that the model is built with."""
        return chosen

    def load_parts(self, model: BalancedModel, parts: Mapping[str, BalancedModel]) -> None:
        """Take over weights from the models of the finished parts."""

    def problems(self, plan: Plan) -> list[str]:
        """Say, before training, what will probably not do what was intended; one line each, with a remedy."""
        return []

    def setup(self, run: Run) -> None:
        """Prepare before the first step; called once, also before a checkpoint is restored."""

    def epoch_start(self, run: Run) -> None:
        """Called before an epoch's first step."""

    def epoch_end(self, run: Run) -> None:
        """Called after the epoch was trained, validated and considered for selection."""

    def edit_features(self, z: dict[str, Tensor], context: StepContext) -> dict[str, Tensor]:
        """Change the features `[B, d_m]` between encoding and fusion."""
        return z

    def fuse(self, z: dict[str, Tensor], context: StepContext) -> Tensor:
        """Return joint logits `[B, C]` of the features."""
        return context.run.model.fuse(z)

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the terms whose sum is minimised; joint training has one."""
        return {"joint": F.cross_entropy(context.u, context.batch.target)}

    def after_backward(self, context: StepContext) -> None:
        """Read or edit the gradients, before clipping and the optimiser's step."""

    def after_step(self, context: StepContext) -> None:
        """Called behind the optimiser's step."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs; tensors and plain values only."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of an interrupted run."""

    def forward(self, context: StepContext) -> Tensor:
        """Encode, edit and fuse a batch; fills `context.z` and `context.u`, returns the latter."""
        context.z = context.run.model.encode(context.batch)
        context.z = self.edit_features(context.z, context)
        context.u = self.fuse(context.z, context)
        return context.u

    def predict(self, batch: Batch, run: Run) -> Tensor:
        """Return joint logits `[B, C]` as validation and test see them; the model is in evaluation mode."""
        context = StepContext(run, batch)
        context.z = run.model.encode(batch)
        return self.fuse(context.z, context)

    def train_step(self, batch: Batch, run: Run) -> Tensor:
        """Take one optimiser step on a batch and return the loss, detached."""
        context = StepContext(run, batch)
        run.optimizer.zero_grad(set_to_none=True)
        run.forward(context)
        with run.autocast():
            loss = torch.stack(list(self.losses(context).values())).sum()
        run.backward(loss)
        run.counters.forward_samples += len(batch)
        run.counters.backward_samples += len(batch)
        with run.own_time():
            self.after_backward(context)
        run.clip_gradients()
        run.optimizer.step()
        with run.own_time():
            self.after_step(context)
        return loss.detach()

    def check(self, model: BalancedModel, modalities: Sequence[str]) -> None:
        """Refuse, before training, a model or data that the method cannot work with.

        Raises:
            UsageError: too few or too many modalities, or the model lacks a capability.
        """
        needs, count = self.requires, len(modalities)
        if count < needs.min_modalities or count > (needs.max_modalities or count):
            wanted = f"at least {needs.min_modalities}"
            if needs.max_modalities:
                wanted = f"{needs.min_modalities} to {needs.max_modalities}"
            raise UsageError(
                f"the method {self.name!r} needs {wanted} modalities; found {count}: {', '.join(modalities)}."
            )
        lacking = sorted(needs.capabilities - model.capabilities)
        if lacking:
            raise UsageError(
                f"the method {self.name!r} needs a model with {', '.join(lacking)}; this one offers "
                f"{', '.join(sorted(model.capabilities)) or 'none'}: choose the fusion 'concat' or 'sum'."
            )


def warn(message: str) -> None:
    """Warn that something will probably not do what was intended; the message names a remedy."""
    warnings.warn(message, EquipoiseWarning, stacklevel=3)
