"""From a table or figure to the comparisons that it needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from equipoise.data import load_dataset
from equipoise.experiments.grid.cell import Cell
from equipoise.experiments.paper.item import OURS, PAPER_EPOCHS, Case, Item
from equipoise.experiments.paper.sets import PAPER, STAND_INS, Sources
from equipoise.training.settings import Settings
from equipoise.types import UsageError, check_known

PROTOCOLS: Final = ("honest", "original")
AUGMENTED: Final = "augmented"
ADAPTIVE: Final[Mapping[str, Mapping[str, Any]]] = {"agm": {"mode": "encoder-grad"}}
"""Options under an adaptive optimiser, which undoes the scaling of gradients within the graph."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """How an item is reproduced.

    Attributes:
        quick: fewer methods, cases and epochs, for a first look.
        protocol: `honest`, or `original`, which shows besides what the published choices would change:
            epochs selected on the test split, and augmentation for the other methods.
        seeds: number of seeds, in place of the item's.
        epochs: in place of those of the sets.
        rank_anyway: see `Cell`.
    """

    quick: bool = False
    protocol: str = "honest"
    seeds: int | None = None
    epochs: int | None = None
    rank_anyway: bool = False

    def __post_init__(self) -> None:
        check_known("protocol", [self.protocol], PROTOCOLS)
        for option in ("seeds", "epochs"):
            if (value := getattr(self, option)) is not None and value < 1:
                raise UsageError(f"{option} is {value}; expected at least 1.")

    @property
    def original(self) -> bool:
        """Whether the published choices are shown too."""
        return self.protocol == "original"


@dataclass(frozen=True)
class PlannedCase:
    """A case with its runs.

    Attributes:
        case: what was declared.
        data: its set with the noise on it, in titles.
        title: in tables and headings: the set, and what tells the case from others on it.
        cell: the comparison.
        augmented: under `original`, the same for the other methods with augmentation; None where the data
            have nothing that can be augmented.
    """

    case: Case
    data: str
    title: str
    cell: Cell
    augmented: Cell | None = None


def plan(item: Item, choices: Choices, sources: Sources) -> list[PlannedCase]:
    """Prepare the sets of an item and return its cases.

    Raises:
        UsageError: the item has no column for the original protocol.
        PathError: a set is missing.
    """
    if choices.original and item.form != "comparison":
        kind = "an ablation" if item.form == "ablation" else "a figure"
        raise UsageError(f"--protocol original adds columns to a table, and {item.name} is {kind}.")
    cases = item.cases(stand_in=sources.stand_in, quick=choices.quick)
    cases = [case for case in cases if sources.at_hand(case.data)]
    sources.check(list(dict.fromkeys(case.data for case in cases)), item.name)
    return [_planned(item, case, choices, sources) for case in cases]


def _planned(item: Item, case: Case, choices: Choices, sources: Sources) -> PlannedCase:
    settings = settings_of(item, case, choices, sources.data(case.data, case.noise), sources.stand_in)
    methods = list(case.methods or (item.quick_methods if choices.quick else item.methods))
    count = choices.seeds or (item.quick_seeds if choices.quick else item.seeds)
    own = _method_options(case, settings, methods)
    cell = Cell(_name(case), settings, methods, range(count), own, choices.rank_anyway)
    augmented = None
    if choices.original and _can_be_augmented(settings):
        others = replace(settings, budget=replace(settings.budget, augment="standard"))
        kept = [method for method in methods if method != OURS]
        options = {name: own for name, own in cell.method_options.items() if name != OURS}
        augmented = Cell(f"{cell.name}-{AUGMENTED}", others, kept, cell.seeds, options, choices.rank_anyway)
    data = _data(case, sources.stand_in)
    return PlannedCase(case, data, ", ".join(filter(None, (data, case.label))), cell, augmented)


def _can_be_augmented(settings: Settings) -> bool:
    return any(spec.content is not None for spec in load_dataset(settings.data).modalities.values())


def settings_of(item: Item, case: Case, choices: Choices, data: str, stand_in: bool) -> Settings:
    """Return the settings of all runs of a case on `data`, the name or folder of its set."""
    known = (STAND_INS if stand_in else PAPER)[case.data]
    options: dict[str, Any] = {**known.settings, **item.settings, **case.settings}
    if choices.original:  # the weights of each epoch are kept, and tested after the training
        # Not augmented, although the recipe of a stand-in may be: that is a column of its own.
        options |= {"trace": True, "diagnose_every": 1, "augment": "none"}
    epochs = choices.epochs or (known.quick_epochs if choices.quick else None)
    if epochs is not None:
        options["epochs"] = epochs
    return Settings.from_options(data, **options)


def _method_options(case: Case, settings: Settings, methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    found = {name: dict(options) for name, options in case.method_options.items() if name in methods}
    if settings.budget.optimizer != "sgd":
        for name in set(ADAPTIVE) & set(methods):
            found[name] = {**ADAPTIVE[name], **found.get(name, {})}
    if case.every is not None:
        every = max(1, round(settings.budget.epochs * case.every / PAPER_EPOCHS))
        found[OURS] = {**found.get(OURS, {}), "every": every}
    return found


def _data(case: Case, stand_in: bool) -> str:
    noise = [f"noise of {level:g} std on {modality}" for modality, level in case.noise.items()]
    return " with ".join([(STAND_INS if stand_in else PAPER)[case.data].title, *noise])


def _name(case: Case) -> str:
    """Return the folder of a case."""
    noise = [f"noise-{modality}-{level:g}" for modality, level in case.noise.items()]
    words: Sequence[str] = [case.data, *([case.label] if case.label else []), *noise]
    return re.sub(r"[^\w.]+", "-", "-".join(words)).strip("-").lower()
