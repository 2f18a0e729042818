"""From features and labels to the learning state of each modality."""

from equipoise.diagnosis.capture import collect_features
from equipoise.diagnosis.contribution import Contribution, Contributions
from equipoise.diagnosis.diagnose import diagnose, diagnose_with, purity, separability
from equipoise.diagnosis.feature_contribution import contribution_of_features
from equipoise.diagnosis.model_contribution import contribution
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
    "contribution",
    "contribution_of_features",
    "diagnose",
    "diagnose_with",
    "purity",
    "relearning_strength",
    "separability",
]
