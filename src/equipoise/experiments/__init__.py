"""Comparisons of methods over runs and datasets, and the examination of what a run has learnt."""

from equipoise.experiments.compare.across import AcrossDatasets, across_datasets
from equipoise.experiments.compare.comparison import Comparison, read_comparison
from equipoise.experiments.examine.contribution_of_run import contribution_of_model, contribution_of_run
from equipoise.experiments.examine.diagnose_run import diagnose_arrays, diagnose_run
from equipoise.experiments.examine.encoder_quality import EncoderQuality, EncoderState, encoder_quality
from equipoise.experiments.examine.examination import Examination
from equipoise.experiments.examine.examine import examine_features, examine_model, examine_run

__all__ = [
    "AcrossDatasets",
    "Comparison",
    "EncoderQuality",
    "EncoderState",
    "Examination",
    "across_datasets",
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
