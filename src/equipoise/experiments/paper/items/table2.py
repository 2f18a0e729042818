"""Table 2: the comparison on RGB frames and optical flow."""

from __future__ import annotations

from equipoise.experiments.paper.item import Case, Item

ITEM = Item(
    name="table2",
    title="Methods of balanced multimodal learning on RGB and optical flow",
    form="comparison",
    paper=(Case(data="ucf101"),),
    stand_in=(Case(data="egogestar"),),
)
