"""Modalities: the description of one, and arrays given by the user, checked and described."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from equipoise.data.format.folder import array_file
from equipoise.types import DataError

KIND_AXES = {
    "vector": ("d",),
    "tokens": ("T",),
    "sequence": ("T", "d"),
    "image": ("C", "H", "W"),
    "video": ("T", "C", "H", "W"),
}
"""Kind of a modality to the axes of one sample; the first kind with that number of axes is the default."""
NORMALIZATIONS = ("standard", "clip", "none")
BY_CLIP = ("sequence", "image", "video")
"""Kinds that can be normalised by clip: a feature or channel of them has several values in one sample."""
CONTENTS = ("frames", "spectrogram", "flow")
"""What an image or a video may show; this decides how it can be augmented."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The array of one modality, before it has a name.

    Attributes:
        shape: of one sample, without the batch axis.
        dtype: NumPy name of the stored type.
        kind: `"vector"` [d], `"tokens"` [T] (whole numbers, 0 after the end of a text), `"sequence"` [T, d],
            `"image"` [C, H, W] or `"video"` [T, C, H, W].
        normalize: `"standard"` (by statistics of the train split), `"clip"` (each sample by its own; for
            sequences, images and videos) or `"none"`.
        content: `"frames"`, `"spectrogram"` (an image [C, frequency, time]), `"flow"` (channels alternate
            between horizontal and vertical motion; no motion is 0 or, as uint8, 127.5), or None where
            unknown.
        noise: standard deviation of Gaussian noise that is added to the normalised samples when they are read
            (`ReadNoise`), or None. Not for tokens, nor by clip.
    """

    shape: tuple[int, ...]
    dtype: str
    kind: str
    normalize: str = "standard"
    content: str | None = None
    noise: float | None = None

    @property
    def stored_type(self) -> np.dtype[Any]:
        """The type on disk: `dtype`, little-endian."""
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def row_bytes(self) -> int:
        """Bytes of one stored sample."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class ModalitySpec(Layout):
    """One modality of a prepared dataset; `normalize` is always `"none"` for tokens.

    Attributes:
        name: as the user wrote it.
        file: name of the array file in the dataset's folder.
    """

    name: str
    file: str

    @classmethod
    def of(cls, number: int, name: str, layout: Layout) -> ModalitySpec:
        """Name a layout; `number` is the position among the modalities."""
        fields = {**asdict(layout), "name": name, "file": array_file(number, name)}
        return cls(**fields | ({"normalize": "none"} if layout.kind == "tokens" else {}))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, without those that are None."""
        return {"name": self.name} | {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModalitySpec:
        """Read what `to_dict` returned."""
        return cls(**{**values, "shape": tuple(values["shape"])})

    @property
    def hash_column(self) -> str:
        """Column of `index.csv` with the content hashes of this modality."""
        return f"hash_{self.file.removesuffix('.npy')}"


@dataclass(frozen=True, slots=True)
class ArraySource:
    """A modality's array as the user gave it.

    Attributes:
        values: NumPy array, memory map or torch tensor `[N, ...]`.
        shape: `(N, ...)`.
        dtype: the type in which it is stored, little-endian.
    """

    values: NDArray[Any] | torch.Tensor
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, part: slice) -> NDArray[Any]:
        """Return some rows as a contiguous array of the stored type; no other row is loaded."""
        rows = self.values[part]
        if isinstance(rows, torch.Tensor):
            rows = _numpy(rows)
        return np.ascontiguousarray(rows, dtype=self.dtype)


def array_sources(inputs: Mapping[str, Any]) -> dict[str, ArraySource]:
    """Check names, dtypes and shapes of the modalities, arrays `[N, ...]` by name.

    Raises:
        DataError: there is no modality, a name is not a text, or an array is not numeric, not dense or has no
            features.
    """
    if not isinstance(inputs, Mapping):
        raise DataError(
            f"inputs is a {type(inputs).__name__}; expected a mapping of modality names to arrays."
        )
    if not inputs:
        raise DataError("inputs holds no modality; give at least one array, for instance {'audio': array}.")
    for name in inputs:
        if not isinstance(name, str) or not name:
            raise DataError(f"a modality is named {name!r}; expected a text that is not empty.")
    return {name: _source(name, values) for name, values in inputs.items()}


def modality_specs(
    sources: Mapping[str, ArraySource],
    kinds: Mapping[str, str] | None,
    normalize: Mapping[str, str] | str | None,
    contents: Mapping[str, str] | None = None,
    noise: Mapping[str, float] | None = None,
) -> dict[str, ModalitySpec]:
    """Describe each modality; the kind follows from the number of axes unless `kinds` names it.

    Raises:
        DataError: a modality, kind, normalisation, content or noise is unknown, or does not match the array.
    """
    kinds, contents, noise = kinds or {}, contents or {}, noise or {}
    for what, given in (("kinds", kinds), ("contents", contents), ("noise", noise)):
        _check_names(what, given, sources)
    layouts = {}
    for name, source in sources.items():
        kind = _kind(name, source, kinds.get(name))
        content = _content(name, kind, source.shape, contents.get(name))
        layouts[name] = Layout(source.shape[1:], source.dtype.name, kind, content=content)
    layouts = normalized_by(layouts, normalize)
    layouts |= {name: _with_noise(name, layouts[name], level) for name, level in noise.items()}
    return {name: ModalitySpec.of(number, name, one) for number, (name, one) in enumerate(layouts.items())}


def normalized_by(layouts: Mapping[str, Layout], chosen: Mapping[str, str] | str | None) -> dict[str, Layout]:
    """Return the layouts with the chosen normalisation, by modality or one for all; tokens have none.

    Raises:
        DataError: a modality or normalisation is unknown, or does not fit the kind.
    """
    if isinstance(chosen, str):
        chosen = dict.fromkeys(layouts, chosen)
    chosen = chosen or {}
    _check_names("normalize", chosen, layouts)
    for name, how in chosen.items():
        kind = layouts[name].kind
        if kind != "tokens" and how not in NORMALIZATIONS:
            expected = " or ".join(map(repr, NORMALIZATIONS))
            raise DataError(f"normalize[{name!r}] is {how!r}; expected {expected}.")
        if kind == "vector" and how == "clip":
            raise DataError(
                f"normalize[{name!r}] is 'clip', but a sample of {name!r} is a vector, with one value a "
                f"feature; expected one of {', '.join(BY_CLIP)}: name the other modalities only."
            )
    usable = {name: how for name, how in chosen.items() if layouts[name].kind != "tokens"}
    return {name: replace(one, normalize=usable.get(name, one.normalize)) for name, one in layouts.items()}


def _with_noise(name: str, layout: Layout, level: float) -> Layout:
    if not (isinstance(level, int | float) and math.isfinite(level) and level > 0):
        raise DataError(f"noise[{name!r}] is {level!r}; expected a number above 0.")
    if layout.kind == "tokens" or layout.normalize != "standard":
        found = layout.kind if layout.kind == "tokens" else f"normalised by {layout.normalize!r}"
        raise DataError(
            f"noise names the modality {name!r}, which is {found}; expected one that is normalised by "
            "'standard', because noise is given in its standard deviations."
        )
    return replace(layout, noise=float(level))


def _check_names(what: str, given: Mapping[str, object], known: Mapping[str, object]) -> None:
    for name in given:
        if name not in known:
            raise DataError(f"{what} names the modality {name!r}; inputs has {', '.join(map(repr, known))}.")


def _kind(name: str, source: ArraySource, wanted: str | None) -> str:
    if wanted is not None and wanted not in KIND_AXES:
        raise DataError(f"kinds[{name!r}] is {wanted!r}; expected one of {', '.join(KIND_AXES)}.")
    fitting = [kind for kind, axes in KIND_AXES.items() if len(axes) == len(source.shape) - 1]
    if not fitting or wanted not in (None, *fitting):
        kinds = [wanted] if wanted else list(KIND_AXES)
        expected = " or ".join(f"{kind} [{', '.join(KIND_AXES[kind])}]" for kind in kinds)
        raise DataError(
            f"modality {name!r} has the shape {list(source.shape)}, that is {len(source.shape) - 1} axes a "
            f"sample; expected {expected} after the axis of samples: reshape the array."
        )
    if wanted == "tokens" and source.dtype.kind not in "iu":
        raise DataError(
            f"modality {name!r} holds {source.dtype.name}; expected whole numbers for tokens: give an array "
            "of integers."
        )
    return wanted or fitting[0]


def _content(name: str, kind: str, shape: tuple[int, ...], wanted: str | None) -> str | None:
    if wanted is not None and wanted not in CONTENTS:
        raise DataError(f"contents[{name!r}] is {wanted!r}; expected one of {', '.join(CONTENTS)}.")
    if wanted is not None and kind not in ("image", "video"):
        raise DataError(f"contents[{name!r}] is {wanted!r}, but it is {kind}; expected an image or a video.")
    if wanted == "flow" and shape[-3] % 2:
        raise DataError(
            f"modality {name!r} has {shape[-3]} channels; expected an even number for flow: channels "
            "alternate between horizontal and vertical motion."
        )
    return wanted


def _source(name: str, values: Any) -> ArraySource:
    if isinstance(values, torch.Tensor):
        if values.layout != torch.strided:
            raise DataError(f"modality {name!r} is a sparse tensor; expected a dense one: call .to_dense().")
        shape, found = tuple(values.shape), _numpy(values[:0] if values.ndim else values).dtype
    else:
        if np.ma.is_masked(values):
            raise DataError(f"modality {name!r} has masked values; fill them with numbers before writing.")
        try:
            values = np.asarray(values)
        except ValueError as error:
            raise DataError(
                f"modality {name!r} is not a rectangular array ({error}); pad or crop its samples."
            ) from error
        shape, found = values.shape, values.dtype
    if found.kind not in "biuf" or found.itemsize > 8:
        raise DataError(
            f"modality {name!r} has the dtype {found}; expected a dense array of integers or of floats up "
            "to 64 bits: turn texts and objects into numbers, and pad samples of different lengths to one "
            "shape."
        )
    if len(shape) < 2:
        raise DataError(
            f"modality {name!r} has the shape {list(shape)}; expected [N, ...]: one number a sample is [N, "
            "1], as array.reshape(-1, 1) gives it."
        )
    if 0 in shape[1:]:
        raise DataError(
            f"modality {name!r} has the shape {list(shape)}; an axis of length 0 holds no features."
        )
    return ArraySource(values, shape, found.newbyteorder("<"))


def _numpy(tensor: torch.Tensor) -> NDArray[Any]:
    tensor = tensor.detach().cpu()
    if tensor.dtype.is_floating_point and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        tensor = tensor.float()  # NumPy has no bfloat16 and no eight-bit floats
    try:
        array: NDArray[Any] = tensor.resolve_conj().resolve_neg().numpy()
    except TypeError as error:
        raise DataError(
            f"a tensor of {tensor.dtype} cannot be stored ({error}); convert it to float32."
        ) from error
    return array
