"""The named datasets: one file each, or one for several datasets of the same format."""

from equipoise.data.datasets.from_source import Dataset
from equipoise.registry import Registry

DATASETS: Registry[Dataset] = Registry(
    "dataset",
    Dataset,  # type: ignore[type-abstract]  # the registry builds none
    "equipoise.data.datasets",
    "equipoise.datasets",
)

__all__ = ["DATASETS", "Dataset"]
