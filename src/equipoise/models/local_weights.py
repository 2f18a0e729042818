"""Initial weights of an encoder from a local file, such as a published ImageNet checkpoint."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from equipoise.files.torch_files import load_tensors
from equipoise.files.untrusted import Refuse, first_line, parsing
from equipoise.models.encoders.base import Encoder
from equipoise.types import ModelError, UsageError

WEIGHTS = "weights"
"""The option of every encoder for a weights file."""

SUFFIXES = (".safetensors", ".pt", ".pth")
WRAPPERS = ("state_dict", "model")
PREFIXES = ("module.", "encoder.", "resnet.", "backbone.")
CLASSIFIERS = ("fc.", "classifier.")
COUNTER = "num_batches_tracked"
GIT_LFS = b"version https://git-lfs"


@dataclass(frozen=True)
class LoadedWeights:
    """How a weights file was loaded; stored as `loaded_weights` of the encoder.

    Attributes:
        path: the file.
        stripped: prefix removed from every name, or "".
        ignored: parameters of a classifier, which an encoder does not have.
        adapted: the first convolution if its number of channels differs from the file's, else "".
    """

    path: str
    stripped: str
    ignored: tuple[str, ...]
    adapted: str

    def __str__(self) -> str:
        """Return a summary in one line."""
        parts = [f"weights of {self.path}"]
        parts += [f"prefix {self.stripped!r} removed"] if self.stripped else []
        parts += [f"without {', '.join(self.ignored)}"] if self.ignored else []
        parts += [f"{self.adapted} adapted to the number of channels"] if self.adapted else []
        return "; ".join(parts)


def without_weights(encoder_options: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return options of encoders without weights files; they build the same modules with random weights."""
    return {
        modality: {name: value for name, value in options.items() if name != WEIGHTS}
        for modality, options in encoder_options.items()
    }


def load_weights(encoder: Encoder, path: object) -> LoadedWeights:
    """Load the weights of a file into an encoder, in place.

    A common prefix of all names (`module.`, `encoder.`, `resnet.`, `backbone.`) is removed, and a classifier
    (`fc.`, `classifier.`) is ignored. All other names must match those of the encoder, except for the
    counters of batch normalisation. If the first convolution has another number of channels `C` than the
    file's `C'`, each of its channels becomes the mean over the channels of the file; for `C = 1`, `C'` times
    the mean, so that a grey image gives the response of `C'` equal channels. For stacked optical flow, the
    plain mean is that of two-stream networks (Wang et al., ECCV 2016, arXiv 1608.00859).

    Args:
        encoder: keeps its precision and device.
        path: of a `.safetensors`, `.pt` or `.pth` file; no code from the file is run.

    Raises:
        UsageError: the file does not exist, or is of another kind.
        ModelError: the file cannot be read, or its weights do not match; the message names the first.
    """
    file = _checked(path)
    found = _read(file)
    expected = encoder.state_dict()
    stripped = _shared_prefix(found, expected)
    found = {name.removeprefix(stripped): value for name, value in found.items()}
    ignored = tuple(sorted(n for n in found if n not in expected and n.startswith(CLASSIFIERS)))
    found = {name: value for name, value in found.items() if name not in ignored}
    _check_names(encoder, found, expected, file)
    _check_values(found, expected, file)
    adapted = _adapt_first_convolution(encoder, found)
    for name, value in found.items():
        if value.shape != expected[name].shape:
            raise ModelError(
                f"{file}: {name!r} is {list(value.shape)}, that of encoder {encoder.name!r} is "
                f"{list(expected[name].shape)}; give the encoder the options (width, layers, stem) of the "
                "file, or choose another file."
            )
    encoder.load_state_dict({**expected, **found})
    loaded = LoadedWeights(str(file), stripped, ignored, adapted)
    encoder.loaded_weights = loaded
    return loaded


def _checked(path: object) -> Path:
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise UsageError(f"option {WEIGHTS!r} must be the path of a file; found {path!r}.")
    file = Path(path).expanduser()
    if not file.is_file():
        raise UsageError(
            f"option {WEIGHTS!r}: {file} does not exist; expected a local file, {' or '.join(SUFFIXES)}: "
            "weights are not downloaded."
        )
    if file.suffix not in SUFFIXES:
        raise UsageError(f"option {WEIGHTS!r}: {file} is not {' or '.join(SUFFIXES)}.")
    return file


def _read(file: Path) -> dict[str, Tensor]:
    with file.open("rb") as stream:
        if stream.read(len(GIT_LFS)) == GIT_LFS:
            raise ModelError(f"{file} is a Git LFS pointer, not the weights; run 'git lfs pull' first.")
    try:
        with parsing(_refuse(file), pickle.UnpicklingError):
            if file.suffix == ".safetensors":
                return load_file(file)
            loaded: Any = load_tensors(file)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{file} contains objects other than weights, which could run code ({first_line(error)}); save "
            "only its state_dict()."
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ModelError(f"{file} is not a state_dict; expected only names and tensors: save state_dict().")
    for name, value in loaded.items():
        if not isinstance(name, str) or value.layout != torch.strided or value.is_meta or value.is_quantized:
            kind = "meta" if value.is_meta else "quantized" if value.is_quantized else value.layout
            raise ModelError(f"{file}: {name!r} is a {kind} tensor; expected a dense one, with its values.")
    return dict(loaded)


def _refuse(file: Path) -> Refuse:
    return lambda found: ModelError(f"{file} cannot be read as weights ({found}); copy it again.")


def _shared_prefix(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Return the common prefix of all names except a classifier's, or "" if a name matches without it."""
    stripped = ""
    while not any(name.removeprefix(stripped) in expected for name in found):
        rest = [name.removeprefix(stripped) for name in found]
        rest = [name for name in rest if not name.startswith(CLASSIFIERS)]
        shared = [p for p in PREFIXES if rest and all(name.startswith(p) for name in rest)]
        if not shared:
            break
        stripped += shared[0]
    return stripped


def _check_names(
    encoder: Encoder, found: Mapping[str, Tensor], expected: Mapping[str, Tensor], file: Path
) -> None:
    missing = [name for name in expected if name not in found and not name.endswith(COUNTER)]
    unexpected = sorted(name for name in found if name not in expected)
    for names, verb, needs in ((missing, "lacks", "needs"), (unexpected, "has", "does not have")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ModelError(
                f"{file} {verb} {names[0]!r}{more}, which encoder {encoder.name!r} {needs}; expected the "
                "names of its state_dict(): choose another file, or other options of the encoder."
            )


def _check_values(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], file: Path) -> None:
    """Raise ModelError where weights are no real numbers, or not finite."""
    for name, value in found.items():
        if not expected[name].is_floating_point():
            continue
        if not value.is_floating_point():
            raise ModelError(f"{file}: {name!r} holds {value.dtype}; expected floating-point numbers.")
        held = value.untyped_storage().nbytes() // value.element_size()
        if value.numel() <= held and not bool(value.isfinite().all()):  # a small file can declare many
            raise ModelError(f"{file}: {name!r} has values that are not finite; choose another file.")


def _adapt_first_convolution(encoder: Encoder, found: dict[str, Tensor]) -> str:
    """Adapt the first convolution to the encoder's channels; return its name, or "" if unchanged."""
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d) and module.in_channels == encoder.in_features:
            key = f"{name}.weight"
            value, own = found[key], module.weight
            same_but_channels = value.shape[:1] + value.shape[2:] == own.shape[:1] + own.shape[2:]
            held = value.untyped_storage().nbytes() // value.element_size()
            fits = value.ndim == own.ndim and same_but_channels and value.shape != own.shape
            if not fits or value.numel() > held:  # a small file can declare a million channels
                return ""
            mean = value.mean(dim=1, keepdim=True)
            found[key] = mean * value.shape[1] if own.shape[1] == 1 else mean.expand_as(own)
            return key
    return ""
