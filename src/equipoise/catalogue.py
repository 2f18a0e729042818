"""What can be named on the command line, with its facts: methods, datasets, models, recipes and metrics.

The facts are attributes of classes whose modules import torch, which takes seconds. They are therefore kept
in the user's cache folder, with a digest of every source file that they depend on, and read from the code
again after a change. Where other packages add entries, they are read from the code each time.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from contextlib import suppress
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from equipoise.cache import cache_folder, place_of
from equipoise.files.untrusted import read_json
from equipoise.files.whole import write_atomically
from equipoise.types import NoSpaceError, RunFolderError

if TYPE_CHECKING:
    import pandas as pd

PACKAGE: Final = Path(__file__).parent
FILE: Final = "catalogue.json"
SOURCES: Final = (
    "methods",
    "models",
    "data/datasets",
    "diagnosis/measures",
    "training/recipe.py",
    "training/recipes",
    "tasks.py",
    "catalogue.py",
)
"""Files and folders of the package that the facts depend on."""
GROUPS: Final = ("equipoise.methods", "equipoise.datasets", "equipoise.encoders", "equipoise.fusions")
"""Groups of entry points through which other packages add entries."""

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
    found = Catalogue()
    for name, facts in _facts("datasets").items():
        shown, package = dict(facts), facts["package"]
        del shown["package"]
        if package is not None:
            shown["ready"] = bool(importlib.util.find_spec(package) if package else place_of(name))
        found[name] = {**shown, "how_to_get": "" if shown["ready"] else shown["how_to_get"]}
    return found


def list_models() -> Catalogue:
    """Return encoders and fusions: role, kinds of modality, where they are the default, description."""
    return Catalogue(_facts("models"))


def list_recipes() -> Catalogue:
    """Return the recipes: for which encoders `auto` takes each, what it is for, and its settings."""
    return Catalogue(_facts("recipes"))


def list_metrics() -> Catalogue:
    """Return the measures of separability."""
    return Catalogue(_facts("metrics"))


def _facts(kind: str) -> Facts:
    if any(entry_points(group=group) for group in GROUPS):
        return from_code()[kind]
    file, current = cache_folder() / FILE, digest()
    try:
        kept = read_json(file, RunFolderError)
        if kept["digest"] == current:
            facts: Facts = kept["facts"][kind]
            return facts
    except (OSError, RunFolderError, KeyError, TypeError):
        pass  # there is none yet, or it is damaged
    found = from_code()
    with suppress(OSError, NoSpaceError):  # a cache that cannot be written costs time only
        write_atomically(file, json.dumps({"digest": current, "facts": found}))
    return found[kind]


def digest() -> str:
    """Return a digest of all source files that the facts depend on."""
    digest = hashlib.blake2b(digest_size=16)
    for source in SOURCES:
        path = PACKAGE / source
        held = [*path.rglob("*.py"), *path.rglob("*.yaml")] if path.is_dir() else [path]
        for file in sorted(held):
            content = hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
            digest.update(f"{file.relative_to(PACKAGE).as_posix()} {content}\n".encode())
    return digest.hexdigest()


@cache
def from_code() -> dict[str, Facts]:
    """Return the facts of every kind, read from the classes themselves."""
    from equipoise.data.datasets import DATASETS
    from equipoise.diagnosis.options import METRICS
    from equipoise.methods.core.method import METHODS
    from equipoise.models.build import available_models
    from equipoise.training.recipe import recipes

    datasets = {name: kind() for name, kind in DATASETS.items()}
    return {
        "methods": {name: _of_method(method) for name, method in METHODS.items()},
        "datasets": {
            name: {
                "description": dataset.description,
                "modalities": ", ".join(dataset.modalities),
                "licence": dataset.licence,
                "ready": dataset.available(),
                "how_to_get": dataset.how_to_get(),
                "package": dataset.package if type(dataset).__module__.startswith("equipoise.") else None,
            }
            for name, dataset in datasets.items()
        },
        "models": available_models(),
        "recipes": {name: recipe.facts() for name, recipe in recipes().items()},
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
