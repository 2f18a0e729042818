"""What can be named on the command line, with its facts: methods, datasets, models and metrics.

The facts are attributes of classes whose modules import torch. So that a list needs no torch,
`catalogue.json` beside this file holds them, with a digest of every source file that they depend on. The file
is used where all digests match and no other package adds entries. Otherwise the facts are read from the code.
`make catalogue` writes the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pandas as pd

PACKAGE: Final = Path(__file__).parent
INDEX: Final = PACKAGE / "catalogue.json"
SOURCES: Final = ("methods", "models", "data/datasets", "diagnosis/measures", "tasks.py")
"""Files and folders of the package that the facts depend on."""
LENGTH: Final = 8
"""Bytes of a digest."""

Facts = dict[str, dict[str, Any]]


class Catalogue(dict[str, dict[str, Any]]):
    """What can be named: name to facts. Printed, or as `to_frame()`, it is a table."""

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each name."""
        import pandas as pd

        return pd.DataFrame([{"name": name, **facts} for name, facts in self.items()]).set_index("name")

    def __str__(self) -> str:
        return self.to_frame().to_string(max_colwidth=80)


def list_methods() -> Catalogue:
    """Return the methods: family, whether they are experimental, summary, needs, tasks, cost, source.

    The needs are those with the default options.
    """
    return Catalogue(_facts("methods"))


def list_datasets() -> Catalogue:
    """Return the datasets: description, modalities, licence, whether they are ready, and how to get them."""
    from equipoise.data.datasets import DATASETS

    found = Catalogue()
    for name, facts in _facts("datasets").items():
        ready = DATASETS[name]().available()
        how_to_get = "" if ready else facts["how_to_get"]
        found[name] = {**facts, "ready": ready, "how_to_get": how_to_get}
    return found


def list_models() -> Catalogue:
    """Return encoders and fusions: role, kinds of modality, where they are the default, description."""
    return Catalogue(_facts("models"))


def list_metrics() -> Catalogue:
    """Return the measures of separability."""
    return Catalogue(_facts("metrics"))


def _facts(kind: str) -> Facts:
    index = read_index()
    facts: Facts = index[kind] if index is not None else from_code()[kind]
    return facts


@cache
def read_index() -> Mapping[str, Any] | None:
    """Return the content of the index file; None where the code may say something else."""
    try:
        index: dict[str, Any] = json.loads(INDEX.read_text(encoding="utf-8"))
        current = index["sources"] == digests()
        added = any(entry_points(group=group) for group in index["groups"])
    except (OSError, ValueError, KeyError):
        return None
    return index if current and not added else None


def digests() -> dict[str, str]:
    """Return the digest of each source file that the facts depend on."""
    found = {}
    for source in SOURCES:
        path = PACKAGE / source
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest = hashlib.blake2b(file.read_bytes(), digest_size=LENGTH)
            found[file.relative_to(PACKAGE).as_posix()] = digest.hexdigest()
    return found


@cache
def from_code() -> dict[str, Facts]:
    """Return the facts of every kind, read from the classes themselves."""
    from equipoise.data.datasets import DATASETS
    from equipoise.diagnosis.options import METRICS
    from equipoise.methods.core.method import METHODS
    from equipoise.models.build import available_models

    datasets = {name: kind() for name, kind in DATASETS.items()}
    return {
        "methods": {name: _of_method(method) for name, method in METHODS.items()},
        "datasets": {
            name: {
                "description": dataset.description,
                "modalities": ", ".join(dataset.modalities),
                "licence": dataset.licence,
                "ready": None,
                "how_to_get": dataset.how_to_get(),
            }
            for name, dataset in datasets.items()
        },
        "models": {
            str(model["name"]): {
                "role": model["role"],
                "kinds": _listed(model["kinds"]),
                "default_for": _listed(model["default_for"]),
                "description": model["description"],
            }
            for model in available_models()
        },
        "metrics": {name: {"description": text} for name, text in METRICS.items()},
    }


def _of_method(method: Any) -> dict[str, Any]:
    from equipoise.types import UsageError

    try:
        needs = method.create({}).needs()
    except UsageError:  # an option has no default, such as a modality
        needs = method.requires
    return {
        "family": method.family,
        "experimental": method.experimental,
        "summary": method.summary,
        "needs": needs.describe(),
        "tasks": ", ".join(sorted(needs.tasks)),
        "cost": method.cost,
        "source": method.source,
    }


def _listed(values: Any) -> str:
    return ", ".join(values)


def write_index() -> None:
    """Write the index file from the code."""
    from equipoise.data.datasets import DATASETS
    from equipoise.methods.core.method import METHODS
    from equipoise.models.encoders.base import ENCODERS
    from equipoise.models.fusion.base import FUSIONS

    groups = [registry.group for registry in (METHODS, DATASETS, ENCODERS, FUSIONS)]
    index = {"groups": groups, **from_code(), "sources": digests()}
    INDEX.write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_index()
