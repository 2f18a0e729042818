"""The contract of a training method: hooks with defaults, so that joint training is the base class itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import MISSING, asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from equipoise.methods.core.requirements import Requirements, check_requirements
from equipoise.methods.core.run import Plan, Run
from equipoise.methods.core.step import StepContext
from equipoise.typed_options import check_types
from equipoise.types import Batch, UnknownNameError, UsageError

if TYPE_CHECKING:
    from equipoise.models import BalancedModel


@dataclass
class Method:
    """A training method; its dataclass fields are its options.

    A subclass overrides the hooks it needs, and draws from `run.generator` only: off, it is joint training.
    What belongs to inference is in the model (`build`), and so is saved with it.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str] = ""
    """One of `reference`, `objective`, `optimisation`, `forward`, `loop`, `data`."""
    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""
    cost: ClassVar[str] = "none"
    requires: ClassVar[Requirements] = Requirements()
    experimental: ClassVar[bool] = False
    """Whether the sources leave open what the method is, or contradict each other; its page says how."""
    argument: ClassVar[str | None] = None
    """Field that `name:value` sets, where the method comes once for each modality, say."""
    trains: ClassVar[bool] = True
    """Whether there is anything to train once its parts are."""

    replaces_loss: ClassVar[bool] = False
    """Whether `losses` has no term `joint`, the plain `CE(u, y)`, because others stand in its place."""

    def __post_init__(self) -> None:
        """Check the options; an override calls this one too."""

    # Before training -------------------------------------------------------------------------------------

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

    def conflicts(self, other: Method) -> str:
        """Say why the method cannot be combined with another one; empty where nothing is known against it."""
        return ""

    def members(self) -> tuple[Method, ...]:
        """Return the methods that this one combines (`equipoise.methods.core.combination`); alone, itself."""
        return (self,)

    def needs(self) -> Requirements:
        """Return what the method needs with the options that it has."""
        return self.requires

    def check(self, model: BalancedModel) -> None:
        """Refuse, before training, a joint model that the method cannot work with.

        Raises:
            UsageError: too few or too many modalities, or the model lacks a capability; says what to change.
        """
        check_requirements(self.name, self.needs(), model)

    def problems(self, plan: Plan) -> list[str]:
        """Say, before training, what will probably not do what was intended; one line each, with a remedy."""
        return []

    def parts(self, modalities: Sequence[str]) -> list[str]:
        """Return the methods whose finished runs (same data, seed and budget) this one builds on."""
        return []

    def build(self, reference: BalancedModel) -> BalancedModel:
        """Return the model to train, around the encoders of the joint model; by default that model.

        A method with an inference rule of its own puts it into the model's fusion
        (`equipoise.models.with_fusion`).
        """
        return reference

    def load_parts(self, model: BalancedModel, parts: Mapping[str, BalancedModel]) -> None:
        """Take over, before training, the models of the finished parts; called for a resumed run too."""

    def extra_modules(self, model: BalancedModel, plan: Plan) -> dict[str, nn.Module]:
        """Return modules that serve training alone, such as auxiliary heads; they come as `run.modules`.

        Their weights are drawn from a stream of their own, trained by the run's optimiser in the group
        `extra`, and kept in checkpoints.
        """
        return {}

    def setup(self, run: Run) -> None:
        """Prepare before the first step; called once, also before a checkpoint is restored."""

    # Epochs ----------------------------------------------------------------------------------------------

    def train_data(self, base: Iterable[Batch], run: Run) -> Iterable[Batch]:
        """Return the batches of an epoch; `base` are those that every other method gets."""
        return base

    def changes_data(self) -> bool:
        """Tell whether, with the options as they are, `train_data` gives other batches than it is given."""
        return overrides(self, "train_data")

    def epoch_start(self, run: Run) -> None:
        """Called before an epoch's first step, with all modules in training mode."""

    def epoch_end(self, run: Run) -> None:
        """Called after the epoch was trained, validated and considered for selection."""

    # Steps -----------------------------------------------------------------------------------------------

    def scope(self, context: StepContext) -> AbstractContextManager[None]:
        """Return a scope that encoding and fusion of a training step run in."""
        return nullcontext()

    def edit_features(self, z: dict[str, Tensor], context: StepContext) -> dict[str, Tensor]:
        """Change the features `[B, d_m]` between encoding and fusion, in training."""
        return z

    def fuse(self, z: dict[str, Tensor], context: StepContext) -> Tensor:
        """Return joint logits `[B, C]` of the features, in training."""
        return context.run.model.fuse(z)

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the terms whose sum is minimised; joint training has one."""
        return {"joint": joint_loss(context)}

    def backward(self, terms: Mapping[str, Tensor], context: StepContext) -> Tensor:
        """Leave the gradients of the terms in the parameters, and return the loss that is reported."""
        loss = torch.stack(list(terms.values())).sum()
        context.run.backward(loss)
        return loss

    def after_backward(self, context: StepContext) -> None:
        """Read or edit the gradients, before clipping and the optimiser's step."""

    def after_step(self, context: StepContext) -> None:
        """Called behind the optimiser's step."""

    def forward(self, context: StepContext) -> Tensor:
        """Encode, edit and fuse a batch; fills `context.z` and `context.u`, returns the latter."""
        with self.scope(context):
            context.z = context.run.model.encode(context.batch, only=context.active)
            context.features = context.z
            context.z = self.edit_features(context.z, context)
            if context.batch.keep is not None:
                context.features = context.z  # what a copy lacks it lacks for everybody
            context.u = self.fuse(context.z, context)
        return context.u

    def train_step(self, batch: Batch, run: Run) -> Tensor:
        """Take the optimiser step or steps of a batch and return the loss, detached."""
        return self.standard_step(StepContext(run, batch))

    def standard_step(self, context: StepContext) -> Tensor:
        """Take one optimiser step: forward, losses, backward, gradients, clipping, step."""
        run = context.run
        run.optimizer.zero_grad(set_to_none=True)
        run.forward(context)
        with run.autocast():
            terms = self.losses(context)
        loss = self.backward(terms, context)
        with run.own_time():
            self.after_backward(context)
        run.clip_gradients()
        run.optimizer.step()
        with run.own_time():
            self.after_step(context)
        return loss.detach()

    # State -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs beside model and modules; tensors and plain values only."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of an interrupted run."""


def overrides(method: Method, hook: str) -> bool:
    """Tell whether a method has its own version of a hook."""
    return getattr(type(method), hook) is not getattr(Method, hook)


def joint_loss(context: StepContext) -> Tensor:
    """Return the loss of the joint logits, `CE(u, y)` for classes: that of the task, mean over the batch."""
    return context.run.loss(context.u, context.batch.target)
