"""All tables and figures of the paper, and the ablations, by name."""

from __future__ import annotations

from typing import Final

from equipoise.experiments.paper.item import Item
from equipoise.experiments.paper.items import (
    ablations,
    figure1,
    figure2,
    figure3,
    figure4,
    figure5,
    table1,
    table2,
    table3,
    table4,
)
from equipoise.types import check_known

_MODULES: Final = (table1, table2, table3, table4, figure1, figure2, figure3, figure4, figure5)
ITEMS: Final[dict[str, Item]] = {
    item.name: item for item in (*(module.ITEM for module in _MODULES), *ablations.ITEMS)
}


def item_named(name: str) -> Item:
    """Return a table, figure or ablation.

    Raises:
        UnknownNameError: there is none of that name.
    """
    check_known("table, figure or ablation", [name], ITEMS)
    return ITEMS[name]
