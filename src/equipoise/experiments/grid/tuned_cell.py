"""A comparison of methods with the settings that a tuning found for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from equipoise.experiments.compare.tuned import Tuned
from equipoise.experiments.grid.cell import Cell
from equipoise.methods import base_names
from equipoise.training.settings import Settings
from equipoise.typed_options import plain
from equipoise.types import UsageError


def tuned_cell(
    tuned: Tuned,
    options: Mapping[str, Any],
    methods: Sequence[str],
    seeds: Iterable[int],
    method_options: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    rank_anyway: bool = False,
) -> Cell:
    """Return a comparison on data and settings of a tuning; `options` that are given must agree with them.

    Args:
        tuned: what the tuning found.
        options: fields of `Settings` and `Budget`, the data among them.
        methods: see `Cell`; by default those that were tuned.
        seeds: see `Cell`.
        method_options: options by method, of methods that were not tuned.
        rank_anyway: see `Cell`.

    Raises:
        UsageError: an option of a tuned method is set.
    """
    given = plain(method_options or {})
    if both := [name for name in tuned.methods if set(base_names(name)) & set(given)]:
        raise UsageError(
            f"options of {both[0]} are set, and tuned too; leave them out, or set them in the tuning."
        )
    settings = Settings.from_options(**{**tuned.keywords(), **options})
    return Cell("", settings, methods or tuned.asked, list(seeds), given, rank_anyway, tuned=tuned)


def refuse_grid(data: Sequence[str], vary: Mapping[str, Any] | None) -> None:
    """Refuse a grid with tuned settings, which belong to one dataset and to one set of settings.

    Raises:
        UsageError: several datasets are given, or something varies.
    """
    if len(data) > 1 or vary:
        raise UsageError(
            "tuned settings belong to the data and settings of the tuning; expected a single comparison: "
            "leave out --vary and further datasets, or tune for each."
        )
