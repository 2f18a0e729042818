"""The learning state of each modality, from features and labels."""

from equipoise.diagnosis.contribution.contributions import Contribution, Contributions
from equipoise.diagnosis.diagnose import diagnose, purity, separability
from equipoise.diagnosis.estimate import diagnose_with
from equipoise.diagnosis.features.capture import collect_features
from equipoise.diagnosis.options import METRICS, PRESETS, DiagnosisOptions
from equipoise.diagnosis.state import Diagnosis, LearningState, relearning_strength

__all__ = [
    "METRICS",
    "PRESETS",
    "Contribution",
    "Contributions",
    "Diagnosis",
    "DiagnosisOptions",
    "LearningState",
    "collect_features",
    "diagnose",
    "diagnose_with",
    "purity",
    "relearning_strength",
    "separability",
]
