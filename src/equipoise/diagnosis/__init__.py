"""The learning state of each modality, from features and labels."""

from equipoise.diagnosis.diagnose import diagnose as diagnose
from equipoise.diagnosis.diagnose import purity as purity
from equipoise.diagnosis.diagnose import separability as separability
from equipoise.diagnosis.features.capture import collect_features as collect_features
from equipoise.diagnosis.options import DiagnosisOptions as DiagnosisOptions
from equipoise.diagnosis.state import Diagnosis as Diagnosis
from equipoise.diagnosis.state import LearningState as LearningState
from equipoise.diagnosis.state import relearning_strength as relearning_strength
