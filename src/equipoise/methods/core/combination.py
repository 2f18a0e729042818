"""Several methods in one run, where their hooks are compatible."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from itertools import combinations
from typing import Any, Final

import torch
from torch import Tensor, nn

from equipoise.methods.core.method import Method, overrides
from equipoise.methods.core.run import Plan, Run, StepContext
from equipoise.models import BalancedModel
from equipoise.models.build import drawing
from equipoise.types import Batch, UsageError

SEPARATOR: Final = "+"

DOES: Final = {
    "build": "brings a model with an inference rule of its own",
    "learning_rates": "sets the learning rates",
    "train_data": "chooses the training data",
    "forward": "replaces the forward pass",
    "fuse": "replaces the fusion in training",
    "backward": "routes the gradients of its losses",
    "train_step": "takes over the training step",
}
"""Hooks that at most one member may override, and what a method does by overriding them."""

FORWARD_HOOKS: Final = ("scope", "edit_features", "fuse")

STEP_HOOKS: Final = ("forward", *FORWARD_HOOKS, "losses", "backward", "after_backward", "after_step")


class Combined(Method):
    """Methods that run together: each has its own modules and random stream; the step is shared.

    Features are edited in the given order, the terms of all losses are added (the plain `CE(u, y)` once), and
    gradients are edited in the given order. A member that is switched off changes nothing, bit for bit.

    Args:
        spec: the name, such as `diagnose-relearn+multi-loss`.
        members: the methods by name.

    Raises:
        UsageError: they do not combine; states the reason.
    """

    def __init__(self, spec: str, members: Mapping[str, Method]) -> None:
        if len(members) < len(spec.split(SEPARATOR)):
            raise UsageError(f"{spec!r} names a method twice; expected different methods.")
        self.name = spec  # type: ignore[misc]
        self._members = dict(members)
        self._runs: dict[str, _MemberRun] = {}
        _check(self._members)
        self.experimental = any(m.experimental for m in members.values())  # type: ignore[misc]
        self.replaces_loss = any(m.replaces_loss for m in members.values())  # type: ignore[misc]

    def members(self) -> tuple[Method, ...]:
        """Return the methods."""
        return tuple(self._members.values())

    def options(self) -> dict[str, Any]:
        """Return the options as `method.option`."""
        return {f"{n}.{key}": value for n, m in self._members.items() for key, value in m.options().items()}

    def check(self, model: BalancedModel) -> None:
        """Refuse a model that one of the members does not work with."""
        for member in self.members():
            member.check(model)

    def problems(self, plan: Plan) -> list[str]:
        """Return the problems of all members."""
        return [problem for member in self.members() for problem in member.problems(plan)]

    def learning_rates(self, plan: Plan) -> Sequence[float]:
        """Return the learning rates of the one member that changes them, if any."""
        name = self._owner("learning_rates")
        return super().learning_rates(plan) if name is None else self._members[name].learning_rates(plan)

    def parts(self, modalities: Sequence[str]) -> list[str]:
        """Return the parts of all members."""
        return list(dict.fromkeys(part for member in self.members() for part in member.parts(modalities)))

    def load_parts(self, model: BalancedModel, parts: Mapping[str, BalancedModel]) -> None:
        """Give the parts to each member."""
        for member in self.members():
            member.load_parts(model, parts)

    def setup(self, run: Run) -> None:
        """Set each member up with its own view of the run."""
        self._runs = {name: _MemberRun(run, name) for name in self._members}
        for name, member in self._members.items():
            member.setup(self._runs[name])

    def train_data(self, base: Iterable[Batch], run: Run) -> Iterable[Batch]:
        """Return the batches chosen by the one member that chooses data, if any."""
        for name, member in self._members.items():
            base = member.train_data(base, self._runs[name])
        return base

    def epoch_start(self, run: Run) -> None:
        """Call the members in order."""
        for name, member in self._members.items():
            member.epoch_start(self._runs[name])

    def is_candidate(self, run: Run) -> bool:
        """Whether all members allow it."""
        return all(member.is_candidate(self._runs[name]) for name, member in self._members.items())

    def epoch_end(self, run: Run) -> None:
        """Call the members in order."""
        for name, member in self._members.items():
            member.epoch_end(self._runs[name])

    def forward(self, context: StepContext) -> Tensor:
        """Run the forward pass of the member that has its own, else the usual one."""
        name = self._owner("forward")
        if name is None:
            return super().forward(context)
        own = self._seen_by(name, context)
        self._members[name].forward(own)
        context.features, context.z, context.u = own.features, own.z, own.u
        return context.u

    @contextmanager
    def scope(self, context: StepContext) -> Iterator[None]:
        """Enter the scopes of all members."""
        with ExitStack() as stack:
            for name, member in self._members.items():
                stack.enter_context(member.scope(self._seen_by(name, context)))
            yield

    def edit_features(self, z: dict[str, Tensor], context: StepContext) -> dict[str, Tensor]:
        """Let the members edit the features in order."""
        for name, member in self._members.items():
            z = member.edit_features(z, self._seen_by(name, context))
        return z

    def fuse(self, z: dict[str, Tensor], context: StepContext) -> Tensor:
        """Fuse by the member that has its own fusion, else by the model."""
        name = self._owner("fuse")
        if name is None:
            return super().fuse(z, context)
        return self._members[name].fuse(z, self._seen_by(name, context))

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the terms of all members; the plain joint loss once, or never if a member replaces it."""
        terms: dict[str, Tensor] = {}
        for name, member in self._members.items():
            if not overrides(member, "losses") and terms:
                continue
            for term, value in member.losses(self._seen_by(name, context)).items():
                key = term if term == "joint" else f"{name}.{term}"
                terms.setdefault(key, value)
        if self.replaces_loss:
            terms.pop("joint", None)
        return terms

    def backward(self, terms: Mapping[str, Tensor], context: StepContext) -> Tensor:
        """Route gradients by the member that has its own backward pass, else as usual."""
        name = self._owner("backward")
        if name is None:
            return super().backward(terms, context)
        own = {key.removeprefix(f"{name}."): value for key, value in terms.items()}
        return self._members[name].backward(own, self._seen_by(name, context))

    def after_backward(self, context: StepContext) -> None:
        """Let the members edit the gradients in order."""
        for name, member in self._members.items():
            member.after_backward(self._seen_by(name, context))

    def after_step(self, context: StepContext) -> None:
        """Call the members in reverse order, so that the last change is undone first."""
        for name, member in reversed(self._members.items()):
            member.after_step(self._seen_by(name, context))

    def train_step(self, batch: Batch, run: Run) -> Tensor:
        """Take the step of the member that has its own, else the usual one."""
        name = self._owner("train_step")
        if name is None:
            return super().train_step(batch, run)
        return self._members[name].train_step(batch, self._runs[name])

    def state_dict(self) -> dict[str, Any]:
        """Return the state and the random stream of each member."""
        return {
            name: {"state": member.state_dict(), "generator": self._runs[name].generator.get_state()}
            for name, member in self._members.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore state and random stream of each member."""
        for name, member in self._members.items():
            member.load_state_dict(state[name]["state"])
            self._runs[name].generator.set_state(state[name]["generator"])

    def _seen_by(self, name: str, context: StepContext) -> StepContext:
        own = copy(context)
        own.run = self._runs[name]
        return own

    def _owner(self, hook: str) -> str | None:
        return next((name for name, member in self._members.items() if overrides(member, hook)), None)


class _MemberRun:
    """The view that one member of a combination has of the run: its own modules and random stream."""

    def __init__(self, run: Run, member: str) -> None:
        self._run = run
        self.generator: torch.Generator = run.stream(member)
        prefix = f"{member}/"  # as in `build_modules`
        own = {key: module for key, module in run.modules.items() if key.startswith(prefix)}
        self.modules = nn.ModuleDict({key.removeprefix(prefix): module for key, module in own.items()})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)


def build_modules(method: Method, model: BalancedModel, plan: Plan, seed: int) -> nn.ModuleDict:
    """Build the modules of a method, or of those that it combines, each from a separate random stream."""
    modules, members = nn.ModuleDict(), method.members()
    for member in members:
        with drawing(seed, "modules", member.name):
            built = member.extra_modules(model, plan)
        prefix = f"{member.name}/" if len(members) > 1 else ""
        modules.update({prefix + name: module for name, module in built.items()})
    return modules


def _check(members: Mapping[str, Method]) -> None:
    for name, method in members.items():
        if not method.trains or method.argument is not None:
            raise UsageError(f"{name!r} cannot be combined: it trains no joint model.")
    for (first, a), (second, b) in combinations(members.items(), 2):
        if reason := _obstacle(a, b) or _obstacle(b, a):
            raise UsageError(f"{first!r} and {second!r} do not combine: {reason}.")


def _obstacle(a: Method, b: Method) -> str:
    """Return why the first method does not combine with the second; empty if it does."""
    if known := a.conflicts(b):
        return known
    for hook, what in DOES.items():
        if overrides(a, hook) and overrides(b, hook):
            return f"each of them {what}"
    if a.replaces_loss and b.replaces_loss:
        return "both replace the joint loss"
    for hook, within in (("train_step", STEP_HOOKS), ("forward", FORWARD_HOOKS)):
        lost = ", ".join(inner for inner in within if overrides(b, inner))
        if lost and overrides(a, hook):
            return f"{b.name} would not be called ({lost}), as {a.name} {DOES[hook]}"
    if overrides(a, "backward") and overrides(b, "losses"):
        return f"{a.name} routes the gradients of its own losses only, and {b.name} adds others"
    return ""
