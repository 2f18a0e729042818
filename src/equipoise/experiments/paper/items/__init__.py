"""All tables and figures of the paper by name."""

from __future__ import annotations

from typing import Final

from equipoise.experiments.paper.item import Item
from equipoise.experiments.paper.items import (
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
ITEMS: Final[dict[str, Item]] = {module.ITEM.name: module.ITEM for module in _MODULES}


def item_named(name: str) -> Item:
    """Return a table or figure.

    Raises:
        UnknownNameError: there is none of that name.
    """
    check_known("table or figure", [name], ITEMS)
    return ITEMS[name]
