"""Table 4: noise makes one modality scarcely informative; the gain of each method over joint training."""

from __future__ import annotations

from equipoise.experiments.paper.item import Case, Item

ITEM = Item(
    name="table4",
    title="A scarcely informative modality: gain over joint training under noise",
    form="comparison",
    paper=(
        Case(data="cremad", noise={"audio": 2.0}),
        Case(data="kinetics-sounds", noise={"video": 2.0}, in_quick=False),
    ),
    stand_in=(
        Case(data="htad", noise={"audio": 2.0}),
        Case(data="avletters", noise={"video": 2.0}, in_quick=False),
    ),
    methods=("joint", "unimodal", "gblend", "ogm-ge", "pmr", "agm", "mmpareto", "diagnose-relearn"),
    quick_methods=("joint", "unimodal", "gblend", "ogm-ge", "pmr", "agm", "diagnose-relearn"),
)
