"""Write the model of a run in a format of others, and compare what the file computes with the model."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from equipoise.files.extras import needing
from equipoise.files.limits import check_machine
from equipoise.files.untrusted import first_line
from equipoise.files.whole import replaced
from equipoise.models.multimodal import in_present_names
from equipoise.scopes import evaluating
from equipoise.training.export.description import KEY, description_of, output_name
from equipoise.training.export.program import as_onnx, traced
from equipoise.training.export.samples import CheckSamples, check_samples
from equipoise.training.prediction.used_run import UsedRun
from equipoise.training.record.files import read_tensors, weights_of
from equipoise.training.record.names import CONFIG, EXPORTS, FILES
from equipoise.types import EquipoiseError, ModelError, PathError, UsageError, check_known

TOLERANCE: Final = 1e-4
ONNX_LIMIT: Final = 2**31 - 2**20
"""Bytes of weights that fit into one ONNX file, whose format cannot be longer than 2 GiB."""

Computes = Callable[[dict[str, Tensor]], Tensor]
"""From inputs `{m: [B, ...]}` to logits `[B, C]`."""


@dataclass(frozen=True)
class Exported:
    """A model that was written.

    Attributes:
        path: the file.
        difference: the largest difference between its logits and those of the model; relative to the largest
            logit where that is above 1.
        samples: number of samples on which they were compared.
        of_validation: whether these are of the run's validation split, or were drawn at random.
    """

    path: Path
    difference: float
    samples: int
    of_validation: bool


class Format(ABC):
    """A kind of file."""

    suffix: str

    @abstractmethod
    def write(self, run: UsedRun, path: Path, samples: CheckSamples, metadata: Mapping[str, str]) -> None:
        """Write the model of a run to a path."""

    @abstractmethod
    def reader(self, run: UsedRun, path: Path) -> Computes:
        """Return what a file computes."""


class Safetensors(Format):
    """Weights and buffers by name."""

    suffix = "safetensors"

    def write(self, run: UsedRun, path: Path, samples: CheckSamples, metadata: Mapping[str, str]) -> None:
        """Write the weights."""
        from safetensors.torch import save_file

        save_file(weights_of(run.model), path, dict(metadata))

    def reader(self, run: UsedRun, path: Path) -> Computes:
        """Return what a copy of the model computes with these weights."""
        model = deepcopy(run.model).eval()
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.zero_()
        model.load_state_dict(in_present_names(model, read_tensors(path)))
        return lambda inputs: model(inputs).logits


class Program(Format):
    """A program of `torch.export`."""

    suffix = "pt2"

    def write(self, run: UsedRun, path: Path, samples: CheckSamples, metadata: Mapping[str, str]) -> None:
        """Write the program, with the metadata as a further file in it."""
        program = traced(run.model, samples.example)
        with path.open("wb") as file:
            torch.export.save(program, file, extra_files=dict(metadata))

    def reader(self, run: UsedRun, path: Path) -> Computes:
        """Return what the program computes."""
        with path.open("rb") as file:
            module = torch.export.load(file).module()
        return lambda inputs: module(inputs)


class Onnx(Format):
    """A model of ONNX in one file."""

    suffix = "onnx"

    def write(self, run: UsedRun, path: Path, samples: CheckSamples, metadata: Mapping[str, str]) -> None:
        """Write the model."""
        size = sum(tensor.nbytes for tensor in run.model.state_dict().values())
        if size > ONNX_LIMIT:
            raise ModelError(
                f"the weights take {size / 2**30:.1f} GiB, and a file of ONNX at most 2; expected a smaller "
                "model: export it as pt2 or safetensors."
            )
        with needing("onnxruntime", "onnx", "the comparison of an exported model"):
            import onnxruntime  # noqa: F401
        program = traced(run.model, samples.example)
        model = as_onnx(program, run.model.modalities, output_name(run), metadata)
        path.write_bytes(model.SerializeToString())

    def reader(self, run: UsedRun, path: Path) -> Computes:
        """Return what ONNX Runtime computes."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session: Any = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        return lambda inputs: torch.from_numpy(
            session.run(None, {m: x.numpy() for m, x in inputs.items()})[0]
        )


FORMATS: Final[Mapping[str, Format]] = {one.suffix: one for one in (Safetensors(), Onnx(), Program())}


def format_of(path: Path, name: str | None) -> str:
    """Return the format that is named, or that of a file's ending.

    Raises:
        UsageError: neither says which.
    """
    chosen = path.suffix.removeprefix(".") if name is None else name
    if name is None and chosen not in FORMATS:
        raise UsageError(f"{path} has no ending that names a format; expected .{', .'.join(FORMATS)}.")
    check_known("format", [chosen], FORMATS)
    return chosen


def export_run(run: UsedRun, path: str | os.PathLike[str], name: str) -> Exported:
    """Write the model of a run to a file, after a comparison with it on samples of validation.

    Args:
        run: the run; its model is on the CPU, where the comparison computes.
        path: the file; one that exists is replaced.
        name: of `FORMATS`.

    Raises:
        UnknownNameError: there is no such format.
        MissingExtraError: the format needs a package that is not installed.
        ModelError: the model cannot be exported, or the file computes something else; none is written.
        PathError: the file is one that a run has written.
    """
    check_known("format", [name], FORMATS)
    file, form = Path(path), FORMATS[name]
    if file.name in FILES and file.name not in EXPORTS and (file.parent / CONFIG).is_file():
        raise PathError(f"{file} is a file of the run in its folder; choose another name, or another folder.")
    samples = check_samples(run)
    metadata = {KEY: json.dumps(description_of(run))}
    file.parent.mkdir(parents=True, exist_ok=True)
    with replaced(file) as partial, evaluating(run.model):
        form.write(run, partial, samples, metadata)
        difference = _compared(run, _reading(form, run, partial), samples, name)
    return Exported(file, difference, len(samples), samples.of_validation)


def _reading(form: Format, run: UsedRun, path: Path) -> Computes:
    try:
        return form.reader(run, path)
    except EquipoiseError:
        raise
    except Exception as error:  # of torch or ONNX Runtime
        check_machine(error)
        raise ModelError(
            f"the exported {form.suffix} cannot be read again ({first_line(error)}); nothing is written. "
            "Choose another format."
        ) from error


@torch.no_grad()
def _compared(run: UsedRun, computes: Computes, samples: CheckSamples, name: str) -> float:
    """Return the largest difference of the logits; see `Exported`."""
    difference = largest = 0.0
    for inputs in samples.batches():
        expected = run.model(inputs).logits
        found = computes(inputs)
        if found.shape != expected.shape or bool((found.isfinite() != expected.isfinite()).any()):
            difference = float("inf")
            break
        known = expected.isfinite()
        if bool(known.any()):
            difference = max(difference, float((found - expected)[known].abs().max()))
            largest = max(largest, float(expected[known].abs().max()))
    difference /= max(1.0, largest)
    if difference > TOLERANCE:
        raise ModelError(
            f"the exported {name} differs from the model by {difference:.1e} on {len(samples)} samples, "
            f"expected at most {TOLERANCE:g}; nothing is written. Choose another format."
        )
    return difference
