"""Figure 5: sensitivity to lambda, and to H, the number of epochs between re-learnings."""

from __future__ import annotations

from equipoise.experiments.paper.item import OURS, Case, Item

STRENGTHS = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0)
EPOCHS = (5, 10, 15, 20, 25)
"""H, in runs of 90 epochs; all three re-learnings happen with each."""
STRENGTH, EVERY = "lambda", "H"


def _cases(data: str, *, in_quick: bool = True) -> tuple[Case, ...]:
    """Return joint training and re-learning with each value of one option, the other at its default."""
    by_strength = (
        Case(
            data=data,
            label=f"{STRENGTH} {value:g}",
            axis=STRENGTH,
            value=value,
            method_options={OURS: {"lam": value}},
            in_quick=in_quick,
        )
        for value in STRENGTHS
    )
    by_epochs = (
        Case(
            data=data,
            label=f"{EVERY} {value} of 90",
            axis=EVERY,
            value=value,
            every=value,
            in_quick=in_quick,
        )
        for value in EPOCHS
    )
    return *by_strength, *by_epochs


ITEM = Item(
    name="figure5",
    title="Sensitivity to the strength and to the time of re-learning",
    form="sensitivity",
    paper=(*_cases("cremad"), *_cases("kinetics-sounds")),
    stand_in=(*_cases("htad"), *_cases("avletters", in_quick=False)),
    methods=("joint", OURS),
    quick_methods=("joint", OURS),
)
