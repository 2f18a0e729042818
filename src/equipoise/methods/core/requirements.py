"""What a method needs of a model, checked before training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from equipoise.models import BalancedModel
from equipoise.tasks import CLASSIFICATION
from equipoise.types import UsageError, check_known

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
        min_modalities: the smallest number of modalities that the method is defined for.
        max_modalities: the largest, None for any.
        excludes: capabilities of models that the method does not work with.
        tasks: the tasks that the formulas are defined for, see `equipoise.tasks`; most of them read the
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

    def check(self, method: str, model: BalancedModel) -> None:
        """Refuse a model without the modalities or capabilities that a method of that name needs.

        Raises:
            UsageError: says what to change.
        """
        count = len(model.modalities)
        if count < self.min_modalities or count > (self.max_modalities or count):
            wanted = f"at least {self.min_modalities}"
            if self.max_modalities:
                wanted = f"{self.min_modalities} to {self.max_modalities}"
            raise UsageError(
                f"the method {method!r} needs {wanted} modalities; found {count}: "
                f"{', '.join(model.modalities)}."
            )
        if unfit := sorted(self.excludes & model.capabilities):
            raise UsageError(
                f"the method {method!r} does not fit a model with {', '.join(unfit)}: choose another fusion, "
                "such as 'concat'."
            )
        if lacking := sorted(self.capabilities - model.capabilities):
            advice = "; ".join(ADVICE[name] for name in lacking if name in ADVICE)
            raise UsageError(
                f"the method {method!r} needs a model with {', '.join(lacking)}; this one offers "
                f"{', '.join(sorted(model.capabilities)) or 'none'}{': ' if advice else ''}{advice}."
            )


def check_every_modality(method: str, option: str, names: Iterable[str], model: BalancedModel) -> None:
    """Refuse an option that does not name every modality once; an empty one is accepted.

    Raises:
        UnknownNameError: a name is no modality.
        UsageError: a modality is missing or repeated.
    """
    given = list(names)
    check_known("modality", given, model.modalities)
    if given and sorted(given) != sorted(model.modalities):
        raise UsageError(
            f"{option} names {', '.join(given)}; {method} needs each modality once: "
            f"{', '.join(model.modalities)}."
        )
