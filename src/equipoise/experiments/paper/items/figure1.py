"""Figure 1: gain over joint training under noise (a), and quality of the encoders (b, c)."""

from __future__ import annotations

from dataclasses import replace

from equipoise.experiments.paper.items.table4 import ITEM as TABLE4

ITEM = replace(
    TABLE4,
    name="figure1",
    title="Gain over joint training under noise, and quality of the encoders",
    form="quality",
    runs_of="table4",
)
