"""Comparisons of methods over runs and datasets, and the examination of what a run has learnt."""

from equipoise.experiments.across import AcrossDatasets, across_datasets
from equipoise.experiments.compare import compare
from equipoise.experiments.comparison import Comparison, read_comparison
from equipoise.experiments.contribution_of_run import contribution_of_model, contribution_of_run
from equipoise.experiments.diagnose_run import diagnose_arrays, diagnose_run
from equipoise.experiments.encoder_quality import EncoderQuality, EncoderState, encoder_quality
from equipoise.experiments.examination import Examination
from equipoise.experiments.examine import examine_features, examine_model, examine_run

__all__ = [
    "AcrossDatasets",
    "Comparison",
    "EncoderQuality",
    "EncoderState",
    "Examination",
    "across_datasets",
    "compare",
    "contribution_of_model",
    "contribution_of_run",
    "diagnose_arrays",
    "diagnose_run",
    "encoder_quality",
    "examine_features",
    "examine_model",
    "examine_run",
    "read_comparison",
]
