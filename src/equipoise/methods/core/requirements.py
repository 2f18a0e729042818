"""What a method needs of a model, checked before training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from equipoise.tasks import CLASSIFICATION
from equipoise.types import UsageError

if TYPE_CHECKING:
    from equipoise.models import BalancedModel

ONE_CLASS: Final = frozenset({CLASSIFICATION.name})

ADVICE: Final = {
    "additive_head": "choose the fusion 'concat' or 'sum', or, where the method has the option, another "
    "source of unimodal logits, such as logits=zero-feature",
    "shared_head": "choose encoders of one output width",
    "own_heads": "choose the fusion 'average' or 'shared'",
    "mid_fusion": "choose the fusion 'mmtm', 'mult' or 'mbt'",
    "gates": "choose the fusion 'mmtm'",
}
"""What to change where a model lacks a capability."""


@dataclass(frozen=True)
class Requirements:
    """What a method needs.

    Attributes:
        capabilities: what the model must offer, out of `BalancedModel.capabilities`.
        min_modalities: the smallest number of modalities for which the method says anything.
        max_modalities: the largest, None for any.
        excludes: capabilities of models that the method does not fit.
        tasks: what the method's formulas are defined for, see `equipoise.tasks`; most of them read the
            probability of one true class.
    """

    capabilities: frozenset[str] = frozenset()
    min_modalities: int = 1
    max_modalities: int | None = None
    excludes: frozenset[str] = frozenset()
    tasks: frozenset[str] = ONE_CLASS

    def and_of(self, *capabilities: str) -> Requirements:
        """Return these needs and further capabilities."""
        return replace(self, capabilities=self.capabilities.union(capabilities))

    def describe(self) -> str:
        """Return the needs in words, empty where there is none."""
        words = []
        if self.max_modalities == self.min_modalities:
            words.append(f"exactly {self.min_modalities} modalities")
        elif self.max_modalities:
            words.append(f"{self.min_modalities} to {self.max_modalities} modalities")
        elif self.min_modalities > 1:
            words.append(f"at least {self.min_modalities} modalities")
        words += [name.replace("_", " ") for name in sorted(self.capabilities)]
        return ", ".join([*words, *(f"no {name.replace('_', ' ')}" for name in sorted(self.excludes))])


def check_requirements(method: str, needs: Requirements, model: BalancedModel) -> None:
    """Refuse a model that a method cannot work with.

    Raises:
        UsageError: another task, too few or too many modalities, or a capability that the model lacks; says
            what to change.
    """
    check_task(method, needs, model.task)
    modalities = model.modalities
    count = len(modalities)
    if count < needs.min_modalities or count > (needs.max_modalities or count):
        wanted = f"at least {needs.min_modalities}"
        if needs.max_modalities:
            wanted = f"{needs.min_modalities} to {needs.max_modalities}"
        raise UsageError(
            f"the method {method!r} needs {wanted} modalities; found {count}: {', '.join(modalities)}."
        )
    unfit = sorted(needs.excludes & model.capabilities)
    if unfit:
        raise UsageError(
            f"the method {method!r} does not fit a model with {', '.join(unfit)}: choose another fusion, "
            "such as 'concat'."
        )
    lacking = sorted(needs.capabilities - model.capabilities)
    if lacking:
        advice = "; ".join(ADVICE[name] for name in lacking if name in ADVICE)
        raise UsageError(
            f"the method {method!r} needs a model with {', '.join(lacking)}; this one offers "
            f"{', '.join(sorted(model.capabilities)) or 'none'}{': ' if advice else ''}{advice}."
        )


def check_task(method: str, needs: Requirements, task: str) -> None:
    """Refuse a target that a method's formulas are not defined for.

    Raises:
        UsageError: names the methods that work.
    """
    if task in needs.tasks:
        return
    from equipoise.methods.core.creation import METHODS

    others = [name for name, kind in METHODS.items() if task in kind.requires.tasks]
    raise UsageError(
        f"the method {method!r} is defined for {' and '.join(sorted(needs.tasks))}, and this is {task}; "
        f"choose {', '.join(others)}."
    )


def check_order(method: str, order: list[str], model: BalancedModel) -> None:
    """Refuse an order of modalities that does not name each of them once; an empty one is the model's.

    Raises:
        UsageError: as said.
    """
    if order and sorted(order) != sorted(model.modalities):
        raise UsageError(
            f"the order of {method!r} is {order}; it needs every modality once: "
            f"{', '.join(model.modalities)}."
        )
