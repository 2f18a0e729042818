"""The contract of a training method: hooks with defaults. The base class itself is joint training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import MISSING, asdict, dataclass, fields
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from equipoise.methods.core.options import check_options
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Plan, Run, StepContext
from equipoise.methods.core.search import SearchSpace, space
from equipoise.models import BalancedModel
from equipoise.registry import Registry
from equipoise.typed_options import check_types
from equipoise.types import Batch, UsageError, check_known


@dataclass
class Method:
    """A training method; its dataclass fields are its options.

    A subclass overrides the hooks it needs, and draws random numbers from `run.generator` only: switched off,
    it is joint training. What belongs to inference is part of the model (`build`) and saved with it.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str] = ""
    """One of `reference`, `objective`, `optimisation`, `forward`, `loop`, `data`."""
    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""
    bibtex: ClassVar[tuple[str, ...]] = ()
    """What to cite: keys of `report/bibliography.bib`; a method of another package has whole entries."""
    cost: ClassVar[str] = "none"
    requires: ClassVar[Requirements] = Requirements()
    search_space: ClassVar[SearchSpace] = space()
    """Options that `equipoise tune` searches, each with its range; the default lies inside."""
    experimental: ClassVar[bool] = False
    """Whether the sources are incomplete or contradict each other; the method's page explains how."""
    argument: ClassVar[str | None] = None
    """Field set by `name:value`, for a method with one variant for each modality, for example."""
    trains: ClassVar[bool] = True
    """Whether anything is left to train once its parts are trained."""
    replaces_loss: ClassVar[bool] = False
    """Whether `losses` replaces the term `joint`, the plain `CE(u, y)`, by others."""
    stacks: ClassVar[bool] = False
    """Whether the steps of several runs can be taken together: the method leaves `train_step`, `forward`,
    `scope` and `backward` alone, its hooks edit gradients in place only, and draw no random numbers of torch.
    Not inherited. See also `stacks_now`."""
    shards: ClassVar[bool] = False
    """Whether the encoders may be sharded: no hook reads or changes whole weights or gradients of them, or it
    does so as tensors that each process has a part of. Not inherited."""
    remembered: ClassVar[tuple[str, ...]] = ()
    """Attributes that a resumed run needs in addition to model and modules; tensors and plain values only."""

    def __post_init__(self) -> None:
        """Check the options against their limits; an override must call this."""
        check_options(self)

    def stacks_now(self) -> bool:
        """Whether a method that `stacks` does so with its present options."""
        return True

    # Before training -------------------------------------------------------------------------------------

    @classmethod
    def create(cls, options: Mapping[str, Any]) -> Method:
        """Build the method from options by name.

        Raises:
            UnknownNameError: an option does not exist.
            UsageError: an option is missing or has an impossible value.
        """
        whose = f"of {cls.name!r}"
        check_known(f"option {whose}", options, cls.option_names())
        for option in fields(cls):
            required = option.default is MISSING and option.default_factory is MISSING
            if required and option.name not in options:
                raise UsageError(f"the method {cls.name!r} needs the option {option.name!r}.")
        check_types(cls, options, whose)
        return cls(**options)

    @classmethod
    def option_names(cls) -> list[str]:
        """Return the names of the options that `create` takes."""
        return [option.name for option in fields(cls)]

    @classmethod
    def variants(cls, modalities: Sequence[str]) -> list[str]:
        """Return the names under which the method runs on data of these modalities."""
        return [cls.name]

    def options(self) -> dict[str, Any]:
        """Return the options as plain values, for the run record."""
        return asdict(self)

    def conflicts(self, other: Method) -> str:
        """Return why the method cannot be combined with another one; empty if it can."""
        return ""

    def members(self) -> tuple[Method, ...]:
        """Return the methods that this one combines (`equipoise.methods.core.combination`); alone, itself."""
        return (self,)

    def needs(self) -> Requirements:
        """Return what the method needs with its present options."""
        return self.requires

    def check(self, model: BalancedModel) -> None:
        """Refuse, before training, a joint model that the method does not work with.

        Raises:
            UsageError: another task, too few or too many modalities, or a missing capability; says what to
                change.
        """
        needs = self.needs()
        if model.task not in needs.tasks:
            others = [name for name, kind in METHODS.items() if model.task in kind.requires.tasks]
            raise UsageError(
                f"the method {self.name!r} is defined for {' and '.join(sorted(needs.tasks))}, and this is "
                f"{model.task}; choose {', '.join(others)}."
            )
        needs.check(self.name, model)

    def problems(self, plan: Plan) -> list[str]:
        """Return warnings about options that will probably not have the intended effect, with a remedy."""
        return []

    def learning_rates(self, plan: Plan) -> Sequence[float]:
        """Return the learning rate of each epoch; by default the planned one."""
        return plan.learning_rates()

    def own_gradients(self) -> bool:
        """Whether gradients are taken other than by one `run.backward` per step, with the present options.

        Loss scaling does not reach them, so its precision is then refused.
        """
        return False

    def parts(self, modalities: Sequence[str]) -> list[str]:
        """Return the methods whose finished runs (same data, seed and budget) this one starts from."""
        return []

    def build(self, reference: BalancedModel) -> BalancedModel:
        """Return the model to train, with the encoders of the joint model; by default the joint model.

        A method with its own inference rule puts it into the fusion (`equipoise.models.with_fusion`).
        """
        return reference

    def changes_model(self) -> bool:
        """Whether `build` returns another model than the joint one, with the present options."""
        return overrides(self, "build")

    def keep_model(self) -> None:
        """Do without a model of its own where that is optional; called where the user's model is trained."""

    def load_parts(self, model: BalancedModel, parts: Mapping[str, BalancedModel]) -> None:
        """Take over the models of the finished parts before training; also called when a run is resumed."""

    def extra_modules(self, model: BalancedModel, plan: Plan) -> dict[str, nn.Module]:
        """Return modules used in training only, such as auxiliary heads; available as `run.modules`.

        Their weights are drawn from a separate random stream, trained by the run's optimiser in the group
        `extra`, and kept in checkpoints.
        """
        return {}

    def setup(self, run: Run) -> None:
        """Prepare before the first step; called once, also before a checkpoint is restored."""

    # Epochs ----------------------------------------------------------------------------------------------

    def train_data(self, base: Iterable[Batch], run: Run) -> Iterable[Batch]:
        """Return the batches of an epoch; `base` are the usual ones."""
        return base

    def changes_data(self) -> bool:
        """Whether `train_data` changes the batches, with the present options."""
        return overrides(self, "train_data")

    def epoch_start(self, run: Run) -> None:
        """Run before an epoch's first step, with all modules in training mode."""

    def is_candidate(self, run: Run) -> bool:
        """Whether the weights after this epoch may be those that are kept; those of the last epoch may."""
        return True

    def epoch_end(self, run: Run) -> None:
        """Run after the epoch was trained, validated and considered for selection."""

    # Steps -----------------------------------------------------------------------------------------------

    def scope(self, context: StepContext) -> AbstractContextManager[None]:
        """Return a context manager around encoding and fusion of a training step."""
        return nullcontext()

    def edit_features(self, z: dict[str, Tensor], context: StepContext) -> dict[str, Tensor]:
        """Return the features `[B, d_m]` for the fusion, in training."""
        return z

    def fuse(self, z: dict[str, Tensor], context: StepContext) -> Tensor:
        """Return joint logits `[B, C]` of the features, in training."""
        return context.run.model.fuse(z)

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the terms whose sum is minimised; joint training has one."""
        return {"joint": joint_loss(context)}

    def backward(self, terms: Mapping[str, Tensor], context: StepContext) -> Tensor:
        """Leave the gradients of the terms in the parameters, and return the loss that is reported."""
        loss = total(terms)
        context.run.backward(loss)
        return loss

    def after_backward(self, context: StepContext) -> None:
        """Read or edit the gradients, before clipping and the optimiser's step."""

    def after_step(self, context: StepContext) -> None:
        """Run after the optimiser's step."""

    def forward(self, context: StepContext) -> Tensor:
        """Encode, edit and fuse a batch; sets `features`, `z` and `u` of the context and returns `u`."""
        with self.scope(context):
            context.z = context.run.model.encode(context.batch, only=context.active)
            context.features = context.z
            context.z = self.edit_features(context.z, context)
            if context.batch.keep is not None:
                context.features = context.z  # losses must not see the dropped features of a copy either
            context.u = self.fuse(context.z, context)
        return context.u

    def train_step(self, batch: Batch, run: Run) -> Tensor:
        """Take the optimiser step or steps of a batch and return the loss, detached."""
        return self.standard_step(StepContext(run, batch))

    def standard_step(self, context: StepContext) -> Tensor:
        """Take one optimiser step: forward, losses, backward, gradients, clipping, step."""
        run = context.run
        run.optimizer.zero_grad(set_to_none=True)
        run.forward(partial(self.forward, context))
        with run.autocast():
            terms = self.losses(context)
        loss = self.backward(terms, context)
        skipped = run.overflowed  # what is remembered of gradients must not see these
        if overrides(self, "after_backward") and not skipped:
            with run.own_time():
                self.after_backward(context)
        run.clip_gradients()
        run.optimizer.step()
        if overrides(self, "after_step") and not skipped:
            with run.own_time():
                self.after_step(context)
        return loss.detach()

    # State -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a checkpoint keeps: what is `remembered`, without leading underscores."""
        return {name.lstrip("_"): deepcopy(getattr(self, name)) for name in self.remembered}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of an interrupted run."""
        for name in self.remembered:
            setattr(self, name, deepcopy(state[name.lstrip("_")]))


METHODS: Registry[Method] = Registry("method", Method, "equipoise.methods", "equipoise.methods")


def overrides(method: Method, hook: str) -> bool:
    """Whether a method has its own version of a hook."""
    return getattr(type(method), hook) is not getattr(Method, hook)


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of the terms of a loss."""
    values = list(terms.values())
    return torch.stack(values).sum() if len(values) > 1 else values[0]


def joint_loss(context: StepContext) -> Tensor:
    """Return the loss of the joint logits, `CE(u, y)` for classes: that of the task, mean over the batch."""
    return context.run.loss(context.u, context.batch.target)
