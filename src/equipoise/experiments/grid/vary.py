"""The cells of a grid from settings that vary, and the table over all cells."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from equipoise.experiments.compare.comparison import Comparison, read_comparison
from equipoise.experiments.grid.cell import Cell
from equipoise.experiments.grid.output_folder import GRID
from equipoise.experiments.grid.planning import names_in
from equipoise.files.csv_cells import csv_text, read_csv
from equipoise.files.untrusted import parsing
from equipoise.files.whole import write_atomically
from equipoise.methods.core.creation import option_names
from equipoise.training.settings import SETTING_NAMES, Settings
from equipoise.typed_options import plain
from equipoise.types import RunFolderError, UnknownNameError, UsageError, check_known

DATA: Final = "data"
FIXED: Final = {
    DATA: "--data (data=[...])",
    "method": "--methods (methods=[...])",
    "method_options": "METHOD.OPTION",
    "seed": "--seeds (seeds=)",
}
"""Settings that a comparison takes in other ways, with how."""


def cells_of(
    data: Sequence[str],
    options: Mapping[str, Any],
    methods: Sequence[str],
    seeds: Iterable[int],
    method_options: Mapping[str, Mapping[str, Any]] | None = None,
    vary: Mapping[str, Sequence[Any]] | None = None,
    *,
    rank_anyway: bool = False,
) -> list[Cell]:
    """Return one cell for each combination of values that vary; if none does, one cell without a name.

    Args:
        data: the datasets; several vary, too.
        options: fields of `Settings` and `Budget` that all cells share.
        methods: see `Cell`.
        seeds: of every cell.
        method_options: options by method.
        vary: name to values: a field of `Settings` or `Budget`, or an option of a method as `method.option`.
        rank_anyway: see `Cell`.

    Raises:
        UsageError: there is no dataset; or a name is unknown or set as well, or has no values.
    """
    seeds, held = list(seeds), plain(method_options or {})
    if not data:
        raise UsageError("data is empty; expected at least one dataset.")
    _check(vary or {}, options, methods, held)
    varied = {**({DATA: data} if len(data) > 1 else {}), **(vary or {})}
    varied = {name: [plain(value) for value in values] for name, values in varied.items()}
    cells = []
    for values in itertools.product(*varied.values()):
        chosen = dict(zip(varied, values, strict=True))
        settings = {name: value for name, value in chosen.items() if "." not in name}
        own = {method: dict(given) for method, given in held.items()}
        for name in chosen.keys() - settings.keys():
            method, _, option = name.rpartition(".")
            own.setdefault(method, {})[option] = chosen[name]
        made = Settings.from_options(**{DATA: data[0], **options, **settings})
        cells.append(Cell(_name(chosen), made, methods, seeds, own, rank_anyway, chosen))
    return cells


def _check(
    vary: Mapping[str, Sequence[Any]],
    options: Mapping[str, Any],
    methods: Sequence[str],
    method_options: Mapping[str, Mapping[str, Any]],
) -> None:
    if not isinstance(vary, Mapping):
        raise UsageError(
            f"vary is {vary!r}; expected names with lists of values, such as {{'lr': [0.1, 1]}}."
        )
    known = SETTING_NAMES - set(FIXED)
    elsewhere = {option: f"{base}.{option}" for base in names_in(methods) for option in option_names(base)}
    for name, values in vary.items():
        method, dot, option = name.rpartition(".")
        if dot:
            check_known(f"option of {method!r}", [option], option_names(method))
        elif name not in known:
            raise UnknownNameError("setting to vary", name, known, elsewhere={**elsewhere, **FIXED})
        if name in options or option in method_options.get(method, {}):
            raise UsageError(f"{name} is set, and varies too; expected one of both.")
        if isinstance(values, str) or not isinstance(values, Iterable) or not list(values):
            raise UsageError(f"{name} varies over {values!r}; expected a list of at least one value.")


def _name(chosen: Mapping[str, Any]) -> str:
    """Return the name of a cell: `lr=0.1,fusion=sum`; a dataset is named by its folder."""
    texts = []
    for name, value in chosen.items():
        shown = Path(str(value)).name if name == DATA else value
        if isinstance(shown, int | float):
            texts.append(f"{name}={json.dumps(shown)}")
            continue
        text = shown if isinstance(shown, str) else json.dumps(shown, default=str, ensure_ascii=False)
        plain = re.sub(r"[^\w.+-]+", "-", text).strip("-")
        texts.append(f"{name}={plain}")
    return ",".join(texts)


def grid_table(cells: Sequence[Cell], found: Mapping[str, Comparison]) -> pd.DataFrame:
    """Return one row for each method of each cell: what varies, the dataset, and a comparison's columns.

    `validation` is the mean validation figure, by which settings are to be chosen, and `mean` that on test.
    """
    tables = []
    for cell in cells:
        comparison = found[cell.name]
        table = comparison.table().reset_index()
        methods = comparison.summary["methods"].values()
        table.insert(list(table).index("n") + 1, "failed", [values["failed"] for values in methods])
        table.insert(list(table).index("mean"), "validation", [v["validation_mean"] for v in methods])
        facts = {"cell": cell.name, **cell.varied, "dataset": comparison.summary["dataset"]}
        facts["metric"] = comparison.summary["metric"]
        for place, (name, value) in enumerate(facts.items()):
            plain = isinstance(value, str | int | float)
            table.insert(place, name, value if plain else json.dumps(value, default=str))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def write_grid(table: pd.DataFrame, out: Path) -> None:
    """Write the table over all cells."""
    write_atomically(out / GRID, csv_text(table))


def read_grid(out: Path) -> dict[str, Comparison]:
    """Read the comparison of each cell of a finished grid.

    Raises:
        RunFolderError: the table or a comparison is missing or damaged.
    """

    def refuse(found: str) -> RunFolderError:
        return RunFolderError(
            f"cannot read {out / GRID}: {found}; write it again by 'equipoise compare --resume' with the "
            "same options."
        )

    with parsing(refuse):
        names = list(dict.fromkeys(read_csv(out / GRID, refuse, dtype=str, keep_default_na=False)["cell"]))
    return {name: read_comparison(out / name) for name in names}
