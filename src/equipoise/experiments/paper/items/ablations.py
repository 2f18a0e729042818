"""Ablations of diagnose-relearn-plus: each changes one thing of the default, on the same sets and seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from equipoise.data.datasets import DATASETS
from equipoise.experiments.paper.item import OURS, Case, Item

PLUS: Final = "diagnose-relearn-plus"
JOINT, DEFAULT = "joint", "default"
"""Labels of the two variants that the others are compared with."""
SEEDS: Final = 6
SETS: Final[Sequence[tuple[str, Mapping[str, float]]]] = (
    ("htad", {}),
    ("htad", {"audio": 2.0}),
    ("avletters", {}),
    ("avletters", {"audio": 2.0}),
    ("avletters", {"video": 2.0}),
    ("egogestar", {}),
    ("phone-watch", {}),
)
"""Sets with the noise on them; the first is that of a quick reproduction."""


@dataclass(frozen=True)
class Variant:
    """A row of an ablation.

    Attributes:
        label: its name.
        options: of the method.
        method: the method.
        in_quick: whether it is part of a quick reproduction.
    """

    label: str
    options: Mapping[str, Any] = field(default_factory=dict)
    method: str = PLUS
    in_quick: bool = True


REFERENCES: Final = (
    Variant(JOINT, method="joint"),
    Variant("multi-loss", method="multi-loss"),
    Variant("the paper's re-learning", method=OURS),
    Variant(DEFAULT),
)


def _item(
    name: str,
    title: str,
    *variants: Variant,
    each: Callable[[str], Variant] | None = None,
) -> Item:
    """Return an ablation; `each` gives one more variant for each modality of a set."""

    def of_set(data: str) -> list[Variant]:
        by_modality = [] if each is None else [each(modality) for modality in DATASETS[data].modalities]
        return [*REFERENCES, *by_modality, *variants]

    cases = [
        Case(
            data=data,
            label=variant.label,
            noise=noise,
            methods=(variant.method,),
            method_options={variant.method: variant.options} if variant.options else {},
            in_quick=variant.in_quick and (data, noise) == SETS[0],
        )
        for data, noise in SETS
        for variant in of_set(data)
    ]
    return Item(
        name=f"ablation-{name}",
        title=title,
        form="ablation",
        stand_in=tuple(cases),
        seeds=SEEDS,
        quick_seeds=SEEDS,
        runs_of="ablations",
    )


ITEMS: Final = (
    _item(
        "modality",
        "Which modality is reset, at the strength of the largest gap",
        Variant("every modality", {"sharpness": 0.0}),
        Variant("none", {"lam": 0.0}),
        each=lambda modality: Variant(f"only {modality}", {"sharpness": 0.0, "only": [modality]}),
    ),
    _item(
        "strength",
        "Hard and soft resets",
        Variant("hard, strength 1", {"strength": "fixed", "lam": 1.0}),
        Variant("at most half", {"max_alpha": 0.5}),
        Variant("lam 1", {"lam": 1.0}),
        Variant("lam 3", {"lam": 3.0}),
        Variant("lam 20", {"lam": 20.0}),
    ),
    _item(
        "ruler",
        "By what the gap of a modality is measured",
        Variant("purity", {"metric": "purity", "assign": "refit", "scaler": "minmax-per-split"}),
        Variant(
            "purity of matched subsets",
            {
                "metric": "purity",
                "assign": "refit",
                "scaler": "minmax-per-split",
                "matched_size": True,
                "repeats": 5,
                "n_init": 1,
            },
        ),
        Variant("nearest class mean, cross-fitted", {"assign": "cross-fit"}),
        Variant("linear probe, cross-fitted", {"metric": "linear-probe", "assign": "cross-fit"}),
        Variant("auxiliary head", {"metric": "auxiliary-head"}),
    ),
    _item(
        "allocation",
        "How the strength is shared between modalities; the default is by relative gaps, sharpened",
        Variant("absolute, each by its own gap", {"allocation": "own"}),
        Variant("uniform", {"allocation": "even"}),
        Variant("only the worse", {"allocation": "worst"}),
        Variant("swapped, a control", {"allocation": "swapped"}),
    ),
    _item(
        "rates",
        "Learning rates; the default restarts a cosine in each cycle",
        Variant("constant", {"rates": "constant"}),
        Variant("one cosine", {"rates": "one-cosine"}),
        Variant("restarts without resets", {"lam": 0.0}),
        Variant("constant without resets", {"rates": "constant", "lam": 0.0}),
        Variant("one cosine without resets", {"rates": "one-cosine", "lam": 0.0}),
    ),
    _item(
        "resets",
        "Number and time of the resets; the default has three at equal distances",
        Variant("1 reset", {"cycles": 2}),
        Variant("2 resets", {"cycles": 3}),
        Variant("5 resets", {"cycles": 6}),
        Variant("7 resets", {"cycles": 8}),
        Variant("3 early resets", {"ends": [0.1, 0.2, 0.3]}),
        Variant("3 late resets", {"ends": [0.5, 0.65, 0.8]}),
    ),
    _item(
        "distillation",
        "Distillation from earlier cycles",
        Variant("the last cycle", {"distillation": "last"}),
        Variant("mean of past cycles", {"distillation": "mean"}),
        Variant("the last cycle, without resets", {"distillation": "last", "lam": 0.0}),
    ),
    _item(
        "state",
        "What else is reset: head, momentum, statistics of batch normalisation",
        Variant("head blended", {"head_policy": "blend"}),
        Variant("head refitted", {"head_policy": "refit"}),
        Variant("momentum kept", {"optimizer_state": "keep"}),
        Variant("momentum scaled", {"optimizer_state": "scale"}),
        # The encoders of the quick set have no such statistics.
        Variant("statistics reset", {"norm_stats": "reset"}, in_quick=False),
        Variant("statistics blended", {"norm_stats": "blend"}, in_quick=False),
        Variant("statistics recalibrated", {"norm_stats": "recalibrate"}, in_quick=False),
    ),
    _item(
        "layers",
        "Which parameters are reset; the default is all layers alike",
        Variant("half the strength from each block to the one below", {"layer_decay": 0.5}),
        Variant("a quarter from each block to the one below", {"layer_decay": 0.25}),
        Variant("only the last block", {"parameters": "last:1"}),
        Variant("all but normalisation", {"parameters": "no-norm"}, in_quick=False),
    ),
    _item(
        "output",
        "One output against means, at equal cost of training; the default is the product of all heads",
        Variant("joint head alone", {"prediction": "joint"}),
        Variant("mean of all heads", {"prediction": "heads"}),
        Variant("features as they are", {"features": "raw"}),
        Variant("mean of all heads, features as they are", {"features": "raw", "prediction": "heads"}),
        Variant("cycle mean of joint heads", {"cycle_mean": True, "prediction": "joint"}),
        Variant("cycle mean", {"cycle_mean": True}),
        Variant("without resets", {"lam": 0.0}),
        Variant("without resets, cycle mean", {"lam": 0.0, "cycle_mean": True}),
        Variant("4 nets, a quarter of the epochs each", method="short-ensemble"),
    ),
)
