"""A trained model that was passed on in a folder, or on the Hugging Face Hub."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.files.extras import needing
from equipoise.files.limits import check_machine
from equipoise.files.untrusted import first_line, parsing
from equipoise.methods import create_method
from equipoise.models import BalancedModel
from equipoise.models.build import Shapes
from equipoise.models.custom import check_contract
from equipoise.training.assembly import ModelSpec, build_for, build_reference
from equipoise.training.export.folder import ADVICE, CONFIG, FILES, read_folder
from equipoise.training.finished import load_run
from equipoise.training.prediction.used_run import UsedRun
from equipoise.training.record.files import read_weights
from equipoise.training.record.history import RecordedDiagnosis
from equipoise.training.record.inputs import RunInputs, read_inputs
from equipoise.training.record.reading import RecordReader
from equipoise.training.record.record import INPUTS, RESULT, WEIGHTS
from equipoise.training.settings import Settings
from equipoise.training.trained import TrainedModel
from equipoise.types import PathError, RunFolderError, UsageError

Factory = Callable[[Shapes, int], BalancedModel]


@dataclass(frozen=True)
class PretrainedModel(TrainedModel):
    """A trained model without its run: `predict`, `export` and `save_pretrained` are those of `FitResult`.

    Attributes:
        model: the model, in evaluation mode. For a numeric target it predicts the standardised value;
            `summary["target_scale"]` has mean and deviation.
        summary: the result of its run, without what names the machine.
        settings: those of its run; `data` is the name of the dataset.
        inputs: what turns samples into inputs.
        diagnoses: empty; those of the run are in the model card.
    """

    model: BalancedModel
    summary: dict[str, Any]
    settings: Settings
    inputs: RunInputs
    diagnoses: list[RecordedDiagnosis] = field(default_factory=list)

    def used(self) -> UsedRun:
        """Return the model with its inputs."""
        return UsedRun(None, self.model, self.summary, self.settings, self.inputs)


def from_pretrained(
    folder_or_repository: str | os.PathLike[str],
    *,
    model: Factory | None = None,
    revision: str | None = None,
) -> PretrainedModel:
    """Read a model that `save_pretrained` has written; no code of the folder is run.

    Args:
        folder_or_repository: a folder; where there is none of that name, a repository of the Hugging Face
            Hub, `OWNER/NAME`, which is downloaded.
        model: the class or factory of a model of your own (`module:Class`), called as `model(shapes,
            num_classes)`. It is not imported by the name in the folder.
        revision: branch, tag or commit of the repository.

    Raises:
        PathError: there is neither such a folder nor such a repository.
        MissingExtraError: it is no folder, and huggingface_hub is not installed.
        RunFolderError: a file is missing, damaged, or of another version.
        UsageError: the model is a user-defined one, and `model` is not given.
    """
    folder = _found(folder_or_repository, revision)
    settings, result = read_folder(folder)

    def refuse(found: str) -> RunFolderError:
        return RunFolderError(f"{folder / CONFIG} fits no model ({found}). {ADVICE}")

    with parsing(refuse):
        spec = ModelSpec.from_dict(result["model_spec"])
        reference = _reference(settings, spec, model)
        built = build_for(create_method(settings.method, settings.method_options), settings, reference)
    read_weights(folder / WEIGHTS, built, ADVICE)
    inputs = read_inputs(RecordReader(folder), ADVICE)
    if inputs is None:
        raise RunFolderError(f"{folder / INPUTS} is missing. {ADVICE}")
    return PretrainedModel(built.eval(), result, settings, inputs)


def read_trained(folder: Path) -> TrainedModel:
    """Read the model of a run's folder, or of one that `save_pretrained` has written."""
    passed_on = (folder / CONFIG).is_file() and not (folder / RESULT).is_file()
    return from_pretrained(folder) if passed_on else load_run(folder)


def _reference(settings: Settings, spec: ModelSpec, factory: Factory | None) -> BalancedModel:
    if settings.model == "auto":
        return build_reference(settings, spec)
    if factory is None:
        raise UsageError(
            f"the model is a user-defined one, {settings.model!r}, and code that a folder names is not "
            "imported; give its class: from_pretrained(..., model=Class)."
        )
    built: object = factory(dict(spec.shapes), spec.num_classes)
    return check_contract(built, spec.shapes, spec.num_classes, settings.model)


def _found(place: str | os.PathLike[str], revision: str | None) -> Path:
    folder = Path(place).expanduser()
    if folder.is_dir():
        return folder
    name = os.fspath(place)
    if name.count("/") != 1 or not all(name.split("/")):
        raise PathError(
            f"{name} is no folder; expected one that save_pretrained has written, or OWNER/NAME of a "
            "repository."
        )
    with needing("huggingface_hub", "hub", "a model of the Hugging Face Hub"):
        from huggingface_hub import snapshot_download
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    except Exception as error:  # of the package, and of those that it connects by
        check_machine(error)
        raise PathError(
            f"there is no folder {name}, and the repository cannot be read ({first_line(error)}); expected a "
            "folder that save_pretrained has written, or OWNER/NAME of a repository."
        ) from error
