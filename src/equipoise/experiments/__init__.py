"""Comparisons of methods: many runs, one table."""

from equipoise.experiments.compare import compare
from equipoise.experiments.comparison import Comparison, read_comparison
from equipoise.experiments.diagnose_run import diagnose_arrays, diagnose_run

__all__ = ["Comparison", "compare", "diagnose_arrays", "diagnose_run", "read_comparison"]
