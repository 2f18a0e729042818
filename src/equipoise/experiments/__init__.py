"""Comparisons of methods: many runs, one table; and several of them, across datasets."""

from equipoise.experiments.across import AcrossDatasets, across_datasets
from equipoise.experiments.compare import compare
from equipoise.experiments.comparison import Comparison, read_comparison
from equipoise.experiments.diagnose_run import diagnose_arrays, diagnose_run

__all__ = [
    "AcrossDatasets",
    "Comparison",
    "across_datasets",
    "compare",
    "diagnose_arrays",
    "diagnose_run",
    "read_comparison",
]
