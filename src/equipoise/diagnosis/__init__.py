"""The learning state of each modality, from features and labels."""

from equipoise.diagnosis.diagnose import diagnose, purity, separability
from equipoise.diagnosis.features.capture import collect_features
from equipoise.diagnosis.options import DiagnosisOptions
from equipoise.diagnosis.state import Diagnosis, LearningState, relearning_strength

__all__ = [
    "Diagnosis",
    "DiagnosisOptions",
    "LearningState",
    "collect_features",
    "diagnose",
    "purity",
    "relearning_strength",
    "separability",
]
