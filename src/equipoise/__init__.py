"""Equipoise: find out how well each modality has been learnt, and train so that none is neglected.

The names below are loaded when they are first used, so that `import equipoise` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from equipoise.api import compare
    from equipoise.catalogue import list_datasets, list_methods, list_metrics, list_models
    from equipoise.data import PreparedDataset, load_dataset, open_dataset, write_dataset
    from equipoise.diagnosis import (
        Diagnosis,
        DiagnosisOptions,
        LearningState,
        collect_features,
        diagnose,
        purity,
        relearning_strength,
        separability,
    )
    from equipoise.diagnosis.contribution.of_features import contribution_of_features
    from equipoise.diagnosis.contribution.of_model import contribution
    from equipoise.experiments.examine.contribution_of_run import contribution_of_run
    from equipoise.experiments.examine.diagnose_run import diagnose_run
    from equipoise.experiments.examine.encoder_quality import encoder_quality
    from equipoise.experiments.examine.examination import Examination
    from equipoise.experiments.examine.examine import examine_features, examine_model, examine_run
    from equipoise.loops.plain import HandTraining, by_hand
    from equipoise.models import MultimodalModel, build_model, unimodal_logits
    from equipoise.relearning import DiagnoseRelearn, soft_reinitialize
    from equipoise.report import write_examination_report, write_report
    from equipoise.training.fit import FitResult, fit, load_run
    from equipoise.types import (
        Batch,
        DataError,
        EquipoiseError,
        EquipoiseWarning,
        LeakError,
        MissingExtraError,
        ModelError,
        ModelOutput,
        RunFolderError,
        TrainingError,
        UnknownNameError,
        UsageError,
    )

__version__ = "0.1.0"

_HOMES = {
    "api": ("compare",),
    "catalogue": ("list_datasets", "list_methods", "list_metrics", "list_models"),
    "data": ("PreparedDataset", "load_dataset", "open_dataset", "write_dataset"),
    "diagnosis": (
        "Diagnosis",
        "DiagnosisOptions",
        "LearningState",
        "collect_features",
        "diagnose",
        "purity",
        "relearning_strength",
        "separability",
    ),
    "diagnosis.contribution.of_features": ("contribution_of_features",),
    "diagnosis.contribution.of_model": ("contribution",),
    "experiments.examine.contribution_of_run": ("contribution_of_run",),
    "experiments.examine.diagnose_run": ("diagnose_run",),
    "experiments.examine.encoder_quality": ("encoder_quality",),
    "experiments.examine.examination": ("Examination",),
    "experiments.examine.examine": ("examine_features", "examine_model", "examine_run"),
    "loops.plain": ("HandTraining", "by_hand"),
    "models": ("MultimodalModel", "build_model", "unimodal_logits"),
    "relearning": ("DiagnoseRelearn", "soft_reinitialize"),
    "report": ("write_examination_report", "write_report"),
    "training.fit": ("FitResult", "fit", "load_run"),
    "types": (
        "Batch",
        "DataError",
        "EquipoiseError",
        "EquipoiseWarning",
        "LeakError",
        "MissingExtraError",
        "ModelError",
        "ModelOutput",
        "RunFolderError",
        "TrainingError",
        "UnknownNameError",
        "UsageError",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Batch",
    "DataError",
    "DiagnoseRelearn",
    "Diagnosis",
    "DiagnosisOptions",
    "EquipoiseError",
    "EquipoiseWarning",
    "Examination",
    "FitResult",
    "HandTraining",
    "LeakError",
    "LearningState",
    "MissingExtraError",
    "ModelError",
    "ModelOutput",
    "MultimodalModel",
    "PreparedDataset",
    "RunFolderError",
    "TrainingError",
    "UnknownNameError",
    "UsageError",
    "build_model",
    "by_hand",
    "collect_features",
    "compare",
    "contribution",
    "contribution_of_features",
    "contribution_of_run",
    "diagnose",
    "diagnose_run",
    "encoder_quality",
    "examine_features",
    "examine_model",
    "examine_run",
    "fit",
    "list_datasets",
    "list_methods",
    "list_metrics",
    "list_models",
    "load_dataset",
    "load_run",
    "open_dataset",
    "purity",
    "relearning_strength",
    "separability",
    "soft_reinitialize",
    "unimodal_logits",
    "write_dataset",
    "write_examination_report",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name == "methods":
        return import_module("equipoise.methods")
    if name in _HOME_OF:
        value = getattr(import_module(f"equipoise.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'equipoise' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
