"""Figure 3: features of joint training and of re-learning in the plane, by t-SNE."""

from __future__ import annotations

from equipoise.experiments.paper.item import OURS, Case, Item

ITEM = Item(
    name="figure3",
    title="Features of each modality in the plane (t-SNE)",
    form="features",
    paper=(Case(data="cremad"),),
    stand_in=(Case(data="egogestar"),),
    methods=("joint", OURS),
    quick_methods=("joint", OURS),
    seeds=1,
    quick_seeds=1,
)
