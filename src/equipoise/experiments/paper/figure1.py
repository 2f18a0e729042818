"""Figure 1: gain over joint training under noise (a), and quality of the encoders (b, c)."""

from __future__ import annotations

from dataclasses import replace

from equipoise.experiments.paper import table4

ITEM = replace(
    table4.ITEM,
    name="figure1",
    title="Gain over joint training under noise, and quality of the encoders",
    form="quality",
    runs_of="table4",
)
