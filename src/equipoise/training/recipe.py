"""Recipes: how models with one family of encoders are trained, unless the settings say otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from equipoise.typed_options import from_options
from equipoise.types import UsageError, check_known

if TYPE_CHECKING:
    from equipoise.data import PreparedDataset

AUTO: Final = "auto"
FOLDER: Final = Path(__file__).parent / "recipes"
PRECEDENCE: Final = ("transformers", "convolutions", "words", "vectors")
"""Of a model with encoders of several families, the first of these applies, as its encoders are the most
sensitive to how they are trained."""
OF_KIND: Final = {"vector": "vectors", "tokens": "words"}
"""For encoders of other packages: by the kind of the modality. All other kinds have layout or order."""
BATCHES: Final = 40
"""A set of fewer batches than this gets smaller ones, so that an epoch has enough steps."""
STEPS: Final = 1000
"""A set whose samples make fewer steps than this in all epochs gets more epochs."""
AUGMENT: Final = ("augment", "augment_options")
LEFT_OUT: Final = (*AUGMENT, "clip_norm")
"""Options that the record of a run leaves out where nothing is augmented or clipped; it is read without the
data."""
SAFE_LR: Final = {"sgd": 0.05, "adamw": 1e-3}
"""Learning rate of an optimiser that is not the recipe's own, for all encoders."""
OF_OPTIMIZER: Final = ("lr", "momentum", "weight_decay", "schedule", "warmup_epochs", "clip_norm")
"""Options that mean nothing for another optimiser than that of the recipe."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A file of the folder `recipes`.

    Attributes:
        name: of the file.
        description: for what it is.
        encoders: the names of the encoders for which `auto` takes it.
        budget: options of `Budget` with their values.
        smallest_batch: the batch size is halved down to this while the whole set has fewer than `BATCHES`
            batches; None keeps it.
        most_epochs: the epochs are raised up to this while they make fewer than `STEPS` steps through the
            whole set; None keeps them.
    """

    name: str
    description: str
    budget: Mapping[str, Any]
    encoders: list[str] = field(default_factory=list)
    smallest_batch: int | None = None
    most_epochs: int | None = None

    def options(self, samples: int, given: Mapping[str, Any], *, augmentable: bool = True) -> dict[str, Any]:
        """Return the options of `Budget`: those that were given, and the recipe's.

        Args:
            samples: number of samples of the whole set.
            given: options with their values.
            augmentable: whether some modality of the set has a content that can be augmented.
        """
        values = dict(self.budget)
        if "augment" in given or not augmentable:
            values = {name: value for name, value in values.items() if name not in AUGMENT}
        elif "augment_options" in values:
            refined = {**values["augment_options"], **given.get("augment_options", {})}
            given = {**given, "augment_options": refined}
        if given.get("optimizer", values["optimizer"]) != values["optimizer"]:
            values = {name: value for name, value in values.items() if name not in OF_OPTIMIZER}
            values |= {"lr": SAFE_LR[given["optimizer"]]} if given["optimizer"] in SAFE_LR else {}
        while self.smallest_batch and values["batch_size"] > self.smallest_batch:
            if samples >= BATCHES * values["batch_size"]:
                break
            values["batch_size"] //= 2
        if self.most_epochs:
            enough = math.ceil(STEPS * values["batch_size"] / samples)
            values["epochs"] = max(values["epochs"], min(enough, self.most_epochs))
        values |= given
        if "warmup_epochs" not in given and "warmup_epochs" in values:
            values["warmup_epochs"] = min(values["warmup_epochs"], max(0, values["epochs"] - 1))
        return values

    def facts(self) -> dict[str, str]:
        """Return what is listed of the recipe, as texts."""
        values = dict(self.budget)
        size = values["batch_size"]
        values["batch_size"] = f"{self.smallest_batch} to {size}" if self.smallest_batch else size
        if self.most_epochs:
            values["epochs"] = f"{values['epochs']} to {self.most_epochs}"
        described = {"description": self.description, "default_for": ", ".join(self.encoders)}
        return described | {name: str(value) for name, value in values.items()}


@cache
def recipes() -> Mapping[str, Recipe]:
    """Return all recipes by name."""
    found = {}
    for file in sorted(FOLDER.glob("*.yaml")):
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        found[file.stem] = from_options(Recipe, {"name": file.stem, **values}, f"of the recipe {file.stem}")
    return found


def budget_options(
    name: str,
    data: str,
    given: Mapping[str, Any],
    *,
    encoder: str | Mapping[str, str] = AUTO,
    modalities: list[str] | tuple[str, ...] | None = None,
) -> tuple[str, dict[str, Any]]:
    """Return the recipe of a run, and the options of its `Budget`.

    The recipe depends on all modalities of the data that are used, not on the method, so that all runs of a
    comparison have equal budgets. The data are opened only if an option is missing.

    Args:
        name: of the recipe; `auto` for that of the encoders.
        data: name or folder of the dataset.
        given: the options of `Budget` that were given.
        encoder: see `Settings`.
        modalities: see `Settings`.

    Raises:
        UnknownNameError: there is no such recipe or dataset.
        UsageError: a recipe is named, but nothing is left that it could decide.
        EquipoiseError: see `load_dataset` and `encoder_names`.
    """
    from equipoise.data import load_dataset

    check_known("recipe", [name], (AUTO, *recipes()))
    if all(option in given for option in recipes()["paper"].budget if option not in LEFT_OUT):
        if name != AUTO:
            raise UsageError(
                f"recipe {name!r} decides nothing, because all its options are given (learning rate "
                f"{given['lr']}, for instance; perhaps by a configuration file): leave out one or the other."
            )
        return name, dict(given)
    dataset = load_dataset(data)
    if modalities is not None:
        dataset = dataset.only(modalities)
    chosen = recipe_of(dataset, encoder) if name == AUTO else recipes()[name]
    augmentable = any(spec.content is not None for spec in dataset.modalities.values())
    return chosen.name, chosen.options(len(dataset), given, augmentable=augmentable)


def recipe_of(dataset: PreparedDataset, encoder: str | Mapping[str, str] = AUTO) -> Recipe:
    """Return the recipe that `auto` takes for a dataset.

    Raises:
        UsageError, ModelError: see `encoder_names`.
    """
    from equipoise.models.build import encoder_names

    kinds = {m: spec.kind for m, spec in dataset.modalities.items()}
    names = encoder_names({m: (spec.shape, spec.kind) for m, spec in dataset.modalities.items()}, encoder)
    owners = {name: recipe.name for recipe in recipes().values() for name in recipe.encoders}
    fitting = {owners.get(name, OF_KIND.get(kinds[m], PRECEDENCE[1])) for m, name in names.items()}
    return recipes()[min(fitting, key=PRECEDENCE.index)]
