"""Table 1: the main comparison on audio and video."""

from __future__ import annotations

from equipoise.experiments.paper.item import OURS, Case, Item


def _with_mmtm(data: str, *, in_quick: bool = True) -> Case:
    """Greedy learning acts on MMTM blocks, and is compared with joint training of a model that has them."""
    methods = ("joint", "greedy", OURS)
    return Case(data=data, label="MMTM", settings={"fusion": "mmtm"}, methods=methods, in_quick=in_quick)


ITEM = Item(
    name="table1",
    title="Methods of balanced multimodal learning on audio and video",
    form="comparison",
    paper=(
        Case(data="cremad"),
        Case(data="kinetics-sounds"),
        _with_mmtm("cremad"),
        _with_mmtm("kinetics-sounds"),
    ),
    stand_in=(Case(data="avletters"), _with_mmtm("avletters", in_quick=False)),
)
