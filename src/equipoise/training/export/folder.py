"""A folder with a model to pass on: weights, inputs, a configuration in JSON, and a model card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from equipoise import __version__
from equipoise.files.untrusted import parsing, read_json
from equipoise.files.whole import replaced, write_atomically
from equipoise.models.encoders.hugging_face import TransformersEncoder
from equipoise.models.local_weights import without_weights
from equipoise.training.export.card import card_of
from equipoise.training.export.description import KEY, description_of
from equipoise.training.option_text import recorded_settings, to_options
from equipoise.training.prediction.used_run import UsedRun
from equipoise.training.record.files import weights_of
from equipoise.training.record.history import RecordedDiagnosis
from equipoise.training.record.inputs import write_inputs
from equipoise.training.record.names import CONFIG as RUN_CONFIG
from equipoise.training.record.names import INPUTS, RESULT, WEIGHTS
from equipoise.training.record.reading import check_result
from equipoise.training.record.seals import changed, holds, opened, seal_of, sealed
from equipoise.training.settings import Settings
from equipoise.types import PathError, RunFolderError

CONFIG, CARD = "config.json", "README.md"
FILES: Final = (CONFIG, WEIGHTS, INPUTS, CARD)
SEALED: Final = (WEIGHTS, INPUTS)
FORMAT: Final = 1
NEEDED: Final = ("test", "validation", "seed", "dataset", "method", "classes", "model_spec")
"""Entries of a result that a model cannot be used or described without."""
LEFT_OUT: Final = ("environment", "parts", "loaded_weights")
"""Entries of a result that name the machine, and files on it."""
ADVICE: Final = "Save it again with save_pretrained, or copy the folder again."


def write_folder(
    run: UsedRun, folder: Path, diagnoses: Sequence[RecordedDiagnosis] = (), *, overwrite: bool = False
) -> None:
    """Write the folder; the configuration comes last, as a folder without it is none.

    Raises:
        PathError: something is in the folder, and must not be replaced.
        RunFolderError: the result is not one that a run writes.
        MissingExtraError: huggingface_hub, which writes the header of the card, is not installed.
    """
    if folder.exists() and not folder.is_dir():
        raise PathError(f"{folder} is a file; expected the name of a folder.")
    if any((folder / name).is_file() for name in (RESULT, RUN_CONFIG)):
        raise PathError(f"{folder} is that of a run, whose weights would be replaced; choose another folder.")
    if folder.is_dir() and not overwrite and any(folder.iterdir()):
        raise PathError(f"{folder} is not empty; choose another folder, or give overwrite=True.")
    run = _without_paths(run)
    with parsing(lambda found: RunFolderError(f"no card can be written of this result ({found}).")):
        card = card_of(run, diagnoses)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    _write_weights(run, folder / WEIGHTS)
    write_inputs(folder / INPUTS, run.inputs)
    write_atomically(folder / CARD, card)
    content: dict[str, Any] = {
        "toolkit": "equipoise",
        "toolkit_version": __version__,
        "format": FORMAT,
        "settings": to_options(run.settings),
        "result": dict(run.summary),
    }
    content = sealed(content, {name: seal_of(folder / name) for name in SEALED})
    write_atomically(folder / CONFIG, json.dumps(content, indent=1) + "\n")


def _write_weights(run: UsedRun, path: Path) -> None:
    from safetensors.torch import save_file

    with replaced(path) as partial:
        save_file(weights_of(run.model), partial, {KEY: json.dumps(description_of(run))})


def read_folder(folder: Path) -> tuple[Settings, dict[str, Any]]:
    """Read the settings and the result of a folder, whose files are as they were written.

    Raises:
        PathError: it is no such folder.
        RunFolderError: a file is missing, damaged or of another version.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise PathError(f"{folder} has no {CONFIG}; expected a folder written by save_pretrained.")

    def refuse(found: str) -> RunFolderError:
        return RunFolderError(f"cannot read {path}: {found}. {ADVICE}")

    content, seals = opened(read_json(path, refuse), path, ADVICE)
    if content.get("toolkit") != "equipoise" or content.get("format") != FORMAT:
        found = f"toolkit {content.get('toolkit')!r}, format {content.get('format')!r}"
        raise refuse(f"it has {found}, expected 'equipoise' and {FORMAT}")
    with parsing(refuse):
        for name in SEALED:
            if seals is None or not holds(folder / name, seals[name]):
                raise changed(folder / name, ADVICE)
        settings, result = recorded_settings(content["settings"], path), content["result"]
        if not isinstance(result, dict):
            raise refuse("it has no result")
        check_result(result, refuse, NEEDED)
    for modality, options in settings.encoder_options.items():
        if "folder" in options or isinstance(options.get("config"), str):
            raise refuse(f"the options of {modality!r} name files of another machine")
    return settings, result


def _without_paths(run: UsedRun) -> UsedRun:
    """Return a run without names of files: nothing of them is needed, as all weights are saved."""
    settings = run.settings
    options = without_weights(settings.encoder_options)
    for modality in run.model.modalities:
        encoder = run.model.encoder_module(modality)
        if isinstance(encoder, TransformersEncoder) and modality in options:
            options[modality] = _described(encoder, options[modality])
    settings = replace(
        settings,
        data=str(run.summary["dataset"]),
        encoder_options=options,
        method_options=_by_name(settings.method_options),
    )
    summary = {key: _by_name(value) for key, value in run.summary.items() if key not in LEFT_OUT}
    return replace(run, settings=settings, summary=summary)


def _described(encoder: TransformersEncoder, options: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in options.items() if name not in ("folder", "config")}
    config = json.loads(encoder.settings.to_json_string(use_diff=False))
    return {**kept, "model": type(encoder.model).__name__, "config": config}


def _by_name(value: Any) -> Any:
    """Return options in which the path of a file is its name."""
    if isinstance(value, Mapping):
        return {key: _by_name(own) for key, own in value.items()}
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value
