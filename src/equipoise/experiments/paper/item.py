"""What a table or figure of the paper is: its cases, methods and seeds, in words and numbers only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Form = Literal["comparison", "ablation", "quality", "scheme", "features", "training", "sensitivity"]
"""How an item is shown: a table of methods or of variants, or one of the paper's five kinds of figures."""

RIVALS: Final = ("gblend", "ogm-ge", "pmr", "agm")
"""Methods that the paper compares with and that train every model of two or more modalities."""
OURS: Final = "diagnose-relearn"
METHODS: Final = ("joint", "unimodal", *RIVALS, OURS)
QUICK_METHODS: Final = ("joint", "unimodal", "ogm-ge", OURS)
SEEDS: Final = 3
PAPER_EPOCHS: Final = 90


@dataclass(frozen=True, kw_only=True)
class Case:
    """One comparison of an item: a dataset with settings and methods.

    Attributes:
        data: name of a set of the paper, or of a stand-in (`sets.py`).
        label: what tells the case from others on the same data, such as the fusion.
        settings: options of `Settings` and `Budget` beyond those of the set.
        noise: modality to the level of noise on it, in standard deviations.
        methods: those of this case; by default those of the item.
        method_options: options by method.
        every: epochs between re-learnings in a run of 90 epochs; shorter runs keep the proportion.
        axis: the option that a sensitivity varies in this case.
        value: of that option.
        in_quick: whether the case is part of a quick reproduction.
    """

    data: str
    label: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    noise: Mapping[str, float] = field(default_factory=dict)
    methods: Sequence[str] = ()
    method_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    every: int | None = None
    axis: str = ""
    value: float = math.nan
    in_quick: bool = True


@dataclass(frozen=True, kw_only=True)
class Item:
    """A table or figure of the paper, or an ablation.

    Attributes:
        name: `table1` and so on; `ablation-NAME`, which is none of the paper's.
        title: what it shows.
        form: how it is drawn.
        paper: its cases on the paper's own sets.
        stand_in: its cases on sets at hand.
        methods: of every case that names none.
        quick_methods: those of a quick reproduction.
        seeds: number of seeds; a quick reproduction has `quick_seeds`.
        quick_seeds: of a quick reproduction.
        runs_of: name of the item whose runs it shares; by default it has its own.
        settings: options of all cases, such as a trace.
    """

    name: str
    title: str
    form: Form
    paper: Sequence[Case] = ()
    stand_in: Sequence[Case] = ()
    methods: Sequence[str] = METHODS
    quick_methods: Sequence[str] = QUICK_METHODS
    seeds: int = SEEDS
    quick_seeds: int = SEEDS
    runs_of: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def head(self) -> str:
        """`Table 1`, `Figure 4`, `Ablation ruler`."""
        if self.form == "ablation":
            return self.name.replace("-", " ", 1).capitalize()
        return f"{self.name[:-1].title()} {self.name[-1]}"

    def cases(self, *, stand_in: bool, quick: bool) -> list[Case]:
        """Return the cases of a reproduction."""
        return [case for case in (self.stand_in if stand_in else self.paper) if case.in_quick or not quick]
