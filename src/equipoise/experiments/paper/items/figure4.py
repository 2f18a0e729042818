"""Figure 4: purity gap, accuracy, and purity of test features over training."""

from __future__ import annotations

from equipoise.experiments.paper.item import OURS, Case, Item

ITEM = Item(
    name="figure4",
    title="Purity gap, test purity and test accuracy over training",
    form="training",
    paper=(Case(data="cremad"),),
    stand_in=(Case(data="avletters"),),
    methods=("joint", OURS),
    quick_methods=("joint", OURS),
    settings={"trace": True, "diagnose_every": 2},
)
