"""The names that `import equipoise` offers, each with its module. `__init__.py` reads them from here."""

from equipoise.api import compare as compare
from equipoise.api import tune as tune
from equipoise.catalogue import list_datasets as list_datasets
from equipoise.catalogue import list_methods as list_methods
from equipoise.catalogue import list_metrics as list_metrics
from equipoise.catalogue import list_models as list_models
from equipoise.catalogue import list_recipes as list_recipes
from equipoise.data import PreparedDataset as PreparedDataset
from equipoise.data import load_dataset as load_dataset
from equipoise.data import open_dataset as open_dataset
from equipoise.data import write_dataset as write_dataset
from equipoise.diagnosis import Diagnosis as Diagnosis
from equipoise.diagnosis import DiagnosisOptions as DiagnosisOptions
from equipoise.diagnosis import LearningState as LearningState
from equipoise.diagnosis import collect_features as collect_features
from equipoise.diagnosis import diagnose as diagnose
from equipoise.diagnosis import purity as purity
from equipoise.diagnosis import relearning_strength as relearning_strength
from equipoise.diagnosis import separability as separability
from equipoise.diagnosis.contribution.of_features import contribution_of_features as contribution_of_features
from equipoise.diagnosis.contribution.of_model import contribution as contribution
from equipoise.diagnosis.features.reading import BatchReader as BatchReader
from equipoise.experiments.examine.contribution_of_run import contribution_of_run as contribution_of_run
from equipoise.experiments.examine.diagnose_run import diagnose_run as diagnose_run
from equipoise.experiments.examine.encoder_quality import encoder_quality as encoder_quality
from equipoise.experiments.examine.examination import Examination as Examination
from equipoise.experiments.examine.examine import examine_features as examine_features
from equipoise.experiments.examine.examine import examine_model as examine_model
from equipoise.experiments.examine.examine import examine_run as examine_run
from equipoise.loops.plain import HandTraining as HandTraining
from equipoise.loops.plain import by_hand as by_hand
from equipoise.models import MultimodalModel as MultimodalModel
from equipoise.models import build_model as build_model
from equipoise.models import unimodal_logits as unimodal_logits
from equipoise.relearning import DiagnoseRelearn as DiagnoseRelearn
from equipoise.relearning import soft_reinitialize as soft_reinitialize
from equipoise.report import write_examination_report as write_examination_report
from equipoise.report import write_report as write_report
from equipoise.training.finished import FitResult as FitResult
from equipoise.training.finished import load_run as load_run
from equipoise.training.fit import fit as fit
from equipoise.types import Batch as Batch
from equipoise.types import DataError as DataError
from equipoise.types import EquipoiseError as EquipoiseError
from equipoise.types import EquipoiseWarning as EquipoiseWarning
from equipoise.types import LeakError as LeakError
from equipoise.types import MissingExtraError as MissingExtraError
from equipoise.types import ModelError as ModelError
from equipoise.types import ModelOutput as ModelOutput
from equipoise.types import RunFolderError as RunFolderError
from equipoise.types import TrainingError as TrainingError
from equipoise.types import UnknownNameError as UnknownNameError
from equipoise.types import UsageError as UsageError

__version__: str
__all__: list[str]
