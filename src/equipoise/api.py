"""What `import equipoise as eq` offers beyond the pieces themselves."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from equipoise.data.datasets import DATASETS
from equipoise.diagnosis import METRICS
from equipoise.experiments.compare.compare import DEFAULT_METHODS, Observer
from equipoise.experiments.compare.compare import compare as run_comparison
from equipoise.experiments.compare.comparison import REPORT, Comparison
from equipoise.methods import METHODS, Method, Requirements
from equipoise.models import available_models
from equipoise.report import write_comparison_report
from equipoise.training.settings import Settings
from equipoise.types import UsageError


def compare(
    data: str | os.PathLike[str],
    methods: str | Sequence[str] = DEFAULT_METHODS,
    *,
    seeds: int | Iterable[int] = 5,
    out: str | os.PathLike[str] | None = None,
    method_options: Mapping[str, Mapping[str, Any]] | None = None,
    executor: str = "local",
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> pd.DataFrame:
    """Compare methods on one dataset under equal conditions.

    Writes `results.csv`, `summary.json`, `report.html` and a folder for each run.

    Args:
        data: name of a dataset, or folder of a prepared one.
        methods: names; `unimodal` stands for each modality alone, `references` for the runs that every
            method should be held against (joint, unimodal, ensemble, multi-loss, pretrained), `all` for every
            method that the model can be trained by, `a+b` for two methods in one run.
        seeds: the seeds, or their number (0, 1, ...).
        out: output folder; None takes a new temporary one.
        method_options: options by method: `{"diagnose-relearn": {"lam": 5.0}}`.
        executor: `local` or `ray`.
        workers: processes of the local executor; None takes one for each core.
        resume: keep the finished runs in `out`, go on with interrupted ones.
        overwrite: replace the comparison in `out`.
        **options: fields of `Settings` and `Budget`: `epochs=30`, `lr=0.01`, `fusion="sum"`.

    Returns:
        One row a method: `mean`, `std`, `n`, the paired `difference` to joint with `low` and `high` of its
        95 % interval and `p_value`, `rank` (where ranking is fair), `train_seconds`, `forward_samples`. The
        folder is in `.attrs["out"]`, the reasons against a ranking in `.attrs["not_ranked_because"]`.

    Raises:
        EquipoiseError: of a kind that says whether the call, the data or the folder is at fault.
    """
    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="equipoise-")) / "comparison"
    settings = Settings.from_options(str(os.fspath(data)), **options)
    methods = [methods] if isinstance(methods, str) else methods
    comparison = compare_and_report(
        settings,
        methods,
        range(seeds) if isinstance(seeds, int) else seeds,
        folder,
        method_options=method_options,
        executor=executor,
        workers=workers,
        resume=resume,
        overwrite=overwrite,
    )
    table = comparison.table()
    table.attrs["out"] = str(comparison.folder)
    table.attrs["not_ranked_because"] = comparison.summary["not_ranked_because"]
    return table


def compare_and_report(
    settings: Settings,
    methods: Sequence[str],
    seeds: Iterable[int],
    folder: Path,
    *,
    observer: Observer | None = None,
    **options: Any,
) -> Comparison:
    """Compare methods and write the report; see `compare`."""
    comparison = run_comparison(settings, methods, seeds, folder, observer=observer, **options)
    write_comparison_report(comparison, folder / REPORT)
    return comparison


class Catalogue(dict[str, dict[str, Any]]):
    """What can be named: name to facts. Printed, or as `to_frame()`, it is a table."""

    def to_frame(self) -> pd.DataFrame:
        """Return one row a name."""
        return pd.DataFrame([{"name": name, **facts} for name, facts in self.items()]).set_index("name")

    def __str__(self) -> str:
        return self.to_frame().to_string(max_colwidth=80)


def list_methods() -> Catalogue:
    """Return the methods: family, whether they are experimental, summary, needs, cost, source.

    The needs are those with the options as they are by default.
    """
    return Catalogue(
        {
            name: {
                "family": method.family,
                "experimental": method.experimental,
                "summary": method.summary,
                "needs": _needs(method).describe(),
                "tasks": ", ".join(sorted(_needs(method).tasks)),
                "cost": method.cost,
                "source": method.source,
            }
            for name, method in METHODS.items()
        }
    )


def list_datasets() -> Catalogue:
    """Return the datasets: description, modalities, licence, whether they are ready, and how to get them."""
    datasets = {name: kind() for name, kind in DATASETS.items()}
    return Catalogue(
        {
            name: {
                "description": dataset.description,
                "modalities": ", ".join(dataset.modalities),
                "licence": dataset.licence,
                "ready": dataset.available(),
                "how_to_get": "" if dataset.available() else dataset.how_to_get(),
            }
            for name, dataset in datasets.items()
        }
    )


def list_models() -> Catalogue:
    """Return encoders and fusions: role, kinds of modality, where they are the default, description."""
    return Catalogue(
        {
            str(model["name"]): {
                "role": model["role"],
                "kinds": _listed(model["kinds"]),
                "default_for": _listed(model["default_for"]),
                "description": model["description"],
            }
            for model in available_models()
        }
    )


def list_metrics() -> Catalogue:
    """Return the measures of separability."""
    return Catalogue({name: {"description": text} for name, text in METRICS.items()})


def _needs(method: type[Method]) -> Requirements:
    try:
        return method.create({}).needs()
    except UsageError:  # it asks for an option, such as a modality
        return method.requires


def _listed(values: object) -> str:
    return ", ".join(values) if isinstance(values, tuple | list) else ""
