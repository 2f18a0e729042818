"""What turns new samples into inputs of a run's model: nothing else of its data is needed to use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from equipoise.data import ModalitySpec, Normalizer, RunData
from equipoise.data.format.normalize import normalizer_of
from equipoise.files.untrusted import parse_json, parsing
from equipoise.files.whole import replaced
from equipoise.training.record.events import REMEDY
from equipoise.training.record.names import INPUTS
from equipoise.training.record.reading import RecordReader
from equipoise.types import RunFolderError

DESCRIBED: Final = "equipoise"
"""The only key of the file's metadata; the order of several would vary."""
MEAN, STD, FEATURE = "mean", "std", "feature"
KEPT: Final = ("dataset", "readers")
"""What is kept of how the dataset was prepared from files."""


@dataclass(frozen=True)
class RunInputs:
    """The inputs of a run's model.

    Attributes:
        specs: modality of the training data to its description.
        normalizers: modality to normaliser, fitted on the training split.
        means: modality to the mean feature `[d_m]` of its encoder over the training split, with the kept
            weights; empty where the features could not be measured.
        preparation: the dataset's name and options (`dataset`) and its readers, where it was made from files.
    """

    specs: Mapping[str, ModalitySpec]
    normalizers: Mapping[str, Normalizer]
    means: Mapping[str, NDArray[np.float64]]
    preparation: Mapping[str, Any]

    @classmethod
    def of(cls, data: RunData, means: Mapping[str, NDArray[np.float64]]) -> RunInputs:
        """Return the inputs of a run on these data."""
        kept = {key: data.preparation[key] for key in KEPT if key in data.preparation}
        return cls(data.modality_specs, data.normalizers, means, kept)


def write_inputs(path: Path, inputs: RunInputs) -> None:
    """Write the inputs of a run, whole or not at all; equal ones give equal bytes."""
    from safetensors.numpy import save_file

    arrays = {f"{FEATURE}/{m}": mean for m, mean in inputs.means.items()}
    for m, normalizer in inputs.normalizers.items():
        arrays |= {f"{MEAN}/{m}": normalizer.mean, f"{STD}/{m}": normalizer.std}
    arrays = {name: np.ascontiguousarray(values, np.float64) for name, values in arrays.items()}
    described = {
        "modalities": [spec.to_dict() for spec in inputs.specs.values()],
        "preparation": dict(inputs.preparation),
    }
    with replaced(path) as partial:
        save_file(arrays, partial, {DESCRIBED: json.dumps(described)})


def read_inputs(record: RecordReader, advice: str = REMEDY) -> RunInputs | None:
    """Read the inputs of a finished run; None in runs of versions that kept none.

    `advice` ends the message of an error.

    Raises:
        RunFolderError: the file is damaged or was changed.
    """
    from safetensors import safe_open

    path = record.checked(INPUTS)
    if not path.is_file():
        return None

    def refuse(found: str) -> RunFolderError:
        return RunFolderError(f"cannot read {path}: {found}. {advice}")

    with parsing(refuse), safe_open(path, framework="np") as file:
        described = parse_json(file.metadata()[DESCRIBED])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        found = [ModalitySpec.from_dict(values) for values in described["modalities"]]
        specs = {spec.name: spec for spec in found}
        normalizers = {
            m: normalizer_of(spec, arrays[f"{MEAN}/{m}"], arrays[f"{STD}/{m}"]) for m, spec in specs.items()
        }
        means = {
            name.removeprefix(f"{FEATURE}/"): mean
            for name, mean in arrays.items()
            if name.startswith(f"{FEATURE}/")
        }
        return RunInputs(specs, normalizers, means, described["preparation"])
