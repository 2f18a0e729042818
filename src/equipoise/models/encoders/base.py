"""The base of encoders: modules that turn a batch of one modality into one feature vector per sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor, nn

from equipoise.models.encoders.stages import MASKS, StagedPass, Stages, repeated_ends, unchanged
from equipoise.models.options import check_options
from equipoise.registry import Registry
from equipoise.types import ModelError, UnfitModelError

KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "vector": ("d",),
        "tokens": ("T",),
        "sequence": ("T", "d"),
        "image": ("C", "H", "W"),
        "video": ("T", "C", "H", "W"),
    }
)
"""The kinds of modality and the dimensions of one sample of each."""


class DefaultEncoder(NamedTuple):
    """What `auto` chooses.

    Attributes:
        samples: for which samples.
        encoder: name of the encoder.
        why: the reason.
    """

    samples: str
    encoder: str
    why: str


DEFAULT_ENCODERS: Mapping[str, DefaultEncoder] = MappingProxyType(
    {
        "vector": DefaultEncoder("vector", "mlp", "no layout"),
        "tokens": DefaultEncoder("tokens", "token-bag", "learns from few texts"),
        "sequence": DefaultEncoder("sequence", "tcn", "keeps the order of steps"),
        "image": DefaultEncoder("image", "image-cnn", "keeps layout"),
        "video": DefaultEncoder("video", "frame-cnn", "keeps layout and order"),
    }
)
"""The encoder that `auto` chooses for each kind. All give features of one width: methods with a shared head
need it."""
ONE_FRAME = DefaultEncoder("video of one frame", "cnn", "no order to keep")


class Encoder(nn.Module):
    """Base of the encoders: `[B, *shape]` to pooled features `[B, out_features]`.

    A subclass sets `name` and `kinds`. Its constructor takes the number of input features or channels as
    first argument and options as keyword-only arguments, and sets `out_features`. It defines `embed`, or, to
    support intermediate fusion, `channel_dim`, `stage_widths` and `stages`.

    Attributes:
        name: the encoder's name in the registry.
        kinds: the kinds of modality it accepts, keys of `KINDS`.
        channel_dim: the channel dimension of an intermediate map; all others except the first are positions.
            None for an encoder that does not run stage by stage.
        stage_widths: channels of the map after each stage.
        channels_last: whether a CPU trains it faster with the channels of weights side by side in memory.
        mask: which steps of a sequence are padding, of `MASKS`.
        in_features: features `d` or channels `C` of its input.
        accepted: the kinds that this instance accepts, by default all.
        loaded_weights: a `LoadedWeights`, or None for random initial weights.
        out_features: width of the feature vector.

    Raises:
        UsageError: an option is invalid.
    """

    name: ClassVar[str] = ""
    kinds: ClassVar[tuple[str, ...]] = ()
    channel_dim: ClassVar[int | None] = None
    stage_widths: tuple[int, ...] = ()
    channels_last: bool = False
    mask: str = MASKS[0]
    loaded_weights: object = None
    out_features: int

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.accepted = self.kinds

    @classmethod
    def for_shape(cls, shape: Sequence[int], kind: str, **options: Any) -> Self:
        """Build the encoder for samples of one shape.

        The shape is without the batch dimension, and given by the kind (`KINDS`); the options are keyword
        arguments of the constructor.

        Raises:
            ModelError: the kind or the shape does not match; the message names encoders that do.
            UsageError: an option is unknown or invalid.
        """
        sizes = check_shape(shape, kind)
        if kind not in cls.kinds:
            raise UnfitModelError(
                f"encoder {cls.name!r} takes {' or '.join(cls.kinds)} samples, not {kind} samples of shape "
                f"{sizes}; these encoders fit: {', '.join(fitting_encoders(kind))}."
            )
        check_options(cls, cls.name, options)
        return cls._build(sizes, kind, options)

    @classmethod
    def _build(cls, shape: tuple[int, ...], kind: str, options: dict[str, Any]) -> Self:
        return cls(input_features(shape, kind), **options)

    def forward(self, x: Tensor | StagedPass) -> Tensor:
        """Encode a batch `[B, *shape]` of one of the encoder's kinds to `[B, out_features]`.

        Of a forward pass by stages the value is returned.

        Raises:
            ModelError: `x` has another number of dimensions or of features.
        """
        if isinstance(x, StagedPass):
            return x.value
        self._check_input(x)
        return self.embed(x)

    def stagewise(self, x: Tensor) -> Stages:
        """Encode a batch `[B, *shape]` of one of the encoder's kinds stage by stage.

        The generator yields the map after each stage, receives the input of the next stage, and returns the
        feature `[B, out_features]`. The map of a video has a row for every frame, sample by sample.

        Raises:
            ModelError: the encoder does not run stage by stage, or `x` has another shape.
        """
        if self.channel_dim is None:
            raise ModelError(
                f"encoder {self.name!r} does not run stage by stage; these do: "
                f"{', '.join(stagewise_encoders())}."
            )
        self._check_input(x)
        return self.stages(x)

    def embed(self, x: Tensor) -> Tensor:
        """Encode a batch of checked shape: `[B, *shape]` to `[B, out_features]`."""
        return unchanged(self.stages(x))

    def stages(self, x: Tensor) -> Stages:
        """Encode a batch of checked shape stage by stage; see `stagewise`.

        Raises:
            ModelError: the class defines neither `stages` nor `embed`.
        """
        raise self._lacks("stages", "embed")

    def padding(self, x: Tensor) -> Tensor | None:
        """Return which steps of a batch's maps are padding, `[B, T]` (bool), or None without padding."""
        return repeated_ends(x) if self.mask == "ends" else None

    def _lacks(self, staged: str, whole: str) -> ModelError:
        return ModelError(
            f"encoder {self.name!r} has no stages; expected its class to define {whole!r}, or {staged!r} "
            "to run stage by stage."
        )

    def _check_input(self, x: Tensor) -> None:
        for kind in self.accepted:
            if x.ndim == 1 + len(KINDS[kind]) and input_features(x.shape[1:], kind) == self.in_features:
                return
        expected = " or ".join(f"[B, {', '.join(KINDS[kind])}]" for kind in self.accepted)
        raise ModelError(
            f"encoder {self.name!r} takes {expected} with {self.in_features} input features or channels; "
            f"found a batch of shape {tuple(x.shape)}."
        )


class FrameEncoder(Encoder):
    """Base of image encoders that read a video frame by frame and average over the frames.

    A subclass defines `image_stages`, or `embed_images` if it does not run stage by stage: `[B, C, H, W]` to
    `[B, out_features]`.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image", "video")

    def embed(self, x: Tensor) -> Tensor:
        """Encode images `[B, C, H, W]`, or the frames of videos `[B, T, C, H, W]` and take their mean."""
        if x.ndim == 4:
            return self.embed_images(x)
        return self._over_frames(self.embed_images(x.flatten(0, 1)), x)

    def stages(self, x: Tensor) -> Stages:
        """Encode images or videos stage by stage; the maps of a video are those of its `B * T` frames."""
        if x.ndim == 4:
            return (yield from self.image_stages(x))
        return self._over_frames((yield from self.image_stages(x.flatten(0, 1))), x)

    def embed_images(self, x: Tensor) -> Tensor:
        """Encode images: `[B, C, H, W]` to `[B, out_features]`."""
        return unchanged(self.image_stages(x))

    def image_stages(self, x: Tensor) -> Stages:
        """Encode images stage by stage: `[B, C, H, W]` to `[B, out_features]`.

        Raises:
            ModelError: the class defines neither `image_stages` nor `embed_images`.
        """
        raise self._lacks("image_stages", "embed_images")

    def _over_frames(self, frames: Tensor, x: Tensor) -> Tensor:
        return frames.reshape(x.shape[0], x.shape[1], self.out_features).mean(dim=1)


ENCODERS: Registry[Encoder] = Registry("encoder", Encoder, "equipoise.models.encoders", "equipoise.encoders")


def check_shape(shape: Sequence[int], kind: str) -> tuple[int, ...]:
    """Return the shape of one sample as a tuple of ints, checked against its kind.

    Raises:
        ModelError: the kind is unknown, the number of dimensions differs, or a size is below 1.
    """
    if kind not in KINDS:
        raise ModelError(f"unknown kind of modality {kind!r}; known: {', '.join(KINDS)}.")
    sizes = tuple(int(size) for size in shape)
    if len(sizes) != len(KINDS[kind]) or min(sizes) < 1:
        alike = [name for name, dims in KINDS.items() if len(dims) == len(sizes)]
        hint = (
            f" {len(sizes)} dimensions are those of kind {alike[0]!r}." if alike and alike[0] != kind else ""
        )
        raise ModelError(
            f"a sample of kind {kind!r} has shape [{', '.join(KINDS[kind])}] with sizes of at least 1; "
            f"found {sizes}.{hint} Encoders for {kind}: {', '.join(fitting_encoders(kind))}."
        )
    return sizes


def input_features(shape: Sequence[int], kind: str) -> int:
    """Return the features `d` or the channels `C` of a sample; 1 for tokens."""
    return 1 if kind == "tokens" else int(shape[{"vector": 0, "sequence": 1, "image": 0, "video": 1}[kind]])


def fitting_encoders(kind: str) -> tuple[str, ...]:
    """Return the names of the encoders that accept a kind of modality."""
    return tuple(name for name, encoder in ENCODERS.items() if kind in encoder.kinds)


def stagewise_encoders() -> tuple[str, ...]:
    """Return the names of the encoders that support intermediate fusion."""
    return tuple(name for name, encoder in ENCODERS.items() if encoder.channel_dim is not None)


def default_encoder(kind: str, shape: Sequence[int]) -> DefaultEncoder:
    """Return what `auto` chooses for samples of a kind and shape.

    Raises:
        ModelError: the kind is unknown, or does not match the shape.
    """
    sizes = check_shape(shape, kind)
    return ONE_FRAME if kind == "video" and sizes[0] == 1 else DEFAULT_ENCODERS[kind]
