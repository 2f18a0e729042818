"""Encoders of the package `transformers`, from a local folder or a configuration."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.files.extras import needing
from equipoise.files.limits import check_machine
from equipoise.files.untrusted import first_line, parsing, read_json
from equipoise.models.encoders.base import Encoder, input_features
from equipoise.models.encoders.stages import Stages, masked_mean, unchanged
from equipoise.models.encoders.token_transformer import padded, token_ids
from equipoise.models.options import listed, one_of
from equipoise.types import ModelError, UsageError

POOLINGS = ("mean", "cls", "pooler")


class TransformersEncoder(Encoder):
    """An encoder of the package transformers, such as ViT, AST or BERT, by class and folder or configuration.

    Nothing is downloaded. The input of a model determines the kinds it accepts: pixels (`image`, and `video`
    with a mean over the frames), a spectrogram `[1, bins, frames]` (`image`), or tokens (`tokens`, with
    padding 0; and `sequence`, whose steps a linear layer turns into embeddings).

    Args:
        in_features: features `d` or channels `C` of the input.
        kind: the kind of modality; set by `for_shape`.
        model: name of a class of transformers, for instance `ViTModel`.
        folder: local folder with `config.json` and weights, as `save_pretrained` writes it.
        config: instead of the folder, the configuration as a mapping, or the path of a `config.json`, for
            random initial weights.
        pooling: `mean` over the steps that are not padding, `cls` (the first step), or `pooler` (that of the
            model; it does not support intermediate fusion).
        freeze: no gradients, and always in evaluation mode.

    Raises:
        MissingExtraError: transformers is not installed.
        UsageError: the class, folder or file does not exist, or an option is invalid.
        ModelError: the model cannot be built or does not read this kind of modality.
    """

    name: ClassVar[str] = "transformers"
    kinds: ClassVar[tuple[str, ...]] = ("tokens", "sequence", "image", "video")
    channel_dim: ClassVar[int | None] = 2

    def __init__(
        self,
        in_features: int,
        kind: str = "image",
        *,
        model: str = "AutoModel",
        folder: str | None = None,
        config: Mapping[str, Any] | str | None = None,
        pooling: str = "mean",
        freeze: bool = False,
    ) -> None:
        super().__init__(in_features)
        self.kind = one_of("kind", kind, self.kinds)
        self.accepted = (kind,)
        self.pooling = one_of("pooling", pooling, POOLINGS)
        if not isinstance(freeze, bool):
            raise UsageError(f"option 'freeze' must be true or false; found {freeze!r}.")
        self.model: nn.Module = _model(model, folder, config, pooling == "pooler")
        self.settings: Any = self.model.config
        self.reads = self._checked_input(model)
        self.out_features = _width(self.settings, model)
        # A pooler reads the steps inside the model, so that changes of the map would have no effect.
        self.stage_widths = () if pooling == "pooler" else (self.out_features,)
        self.projection: nn.Module | None = None
        if kind == "sequence":
            embedding: Any = self.model.get_input_embeddings()  # type: ignore[operator]
            self.projection = nn.Linear(in_features, embedding.embedding_dim)
        self.frozen = freeze
        if freeze:
            self.model.requires_grad_(False)
            self.model.eval()

    @classmethod
    def _build(cls, shape: tuple[int, ...], kind: str, options: dict[str, Any]) -> Self:
        encoder = cls(input_features(shape, kind), kind, **options)
        encoder.check_length(shape)
        return encoder

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen model stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def check_length(self, shape: tuple[int, ...]) -> None:
        """Raise ModelError if samples are longer than the model's positions."""
        limit = getattr(self.settings, "max_position_embeddings", None)
        if self.reads == "input_ids" and isinstance(limit, int) and 0 < limit < shape[0]:
            raise ModelError(
                f"encoder {self.name!r}: the model has {limit} positions and cannot read {shape[0]} steps; "
                "prepare shorter samples, or choose another model."
            )
        if self.reads == "input_values":
            bins, frames = self.settings.num_mel_bins, self.settings.max_length
            if shape[0] != 1 or shape[1] != bins or shape[2] > frames:
                raise ModelError(
                    f"encoder {self.name!r}: the model reads spectrograms [1, {bins}, up to {frames}]; found "
                    f"{list(shape)}: prepare these, or change num_mel_bins and max_length of its config."
                )

    def embed(self, x: Tensor) -> Tensor:
        """Encode a batch: `[B, *shape]` to `[B, out_features]`."""
        if self.pooling != "pooler":
            return unchanged(self.stages(x))
        pooled = getattr(self._read(x)[0], "pooler_output", None)
        if pooled is None:
            raise ModelError(f"encoder {self.name!r}: the model has no pooler; choose 'mean' or 'cls'.")
        return self._over_frames(pooled.flatten(1), x)

    def stages(self, x: Tensor) -> Stages:
        """Encode a batch in one stage; its map is the last hidden states, `[B, T, out_features]`."""
        output, padding = self._read(x)
        last: Tensor = output.last_hidden_state
        if last.ndim == 4:  # the map of a convolutional network
            last = last.flatten(2).transpose(1, 2)
        last = yield last
        return self._over_frames(last[:, 0] if self.pooling == "cls" else masked_mean(last, padding), x)

    def padding(self, x: Tensor) -> Tensor | None:
        """Return which tokens are padding, `[B, T]` (bool); other kinds have none."""
        return padded(x) if self.kind == "tokens" else None

    def _read(self, x: Tensor) -> tuple[Any, Tensor | None]:
        """Return the model's output, and which of its steps are padding."""
        if self.kind == "video":
            return self._read_images(x.flatten(0, 1)), None
        if self.kind == "tokens":
            return self._read_tokens(x)
        if self.kind == "sequence":
            assert self.projection is not None
            return self.model(inputs_embeds=self.projection(x)), None
        return (self._read_images if self.reads == "pixel_values" else self._read_spectrograms)(x), None

    def _over_frames(self, features: Tensor, x: Tensor) -> Tensor:
        """Average the features of a video's frames."""
        return features.reshape(*x.shape[:2], -1).mean(dim=1) if self.kind == "video" else features

    def _read_tokens(self, x: Tensor) -> tuple[Any, Tensor]:
        ids, padding = token_ids(x, self.settings.vocab_size, self.name, "config: vocab_size"), padded(x)
        filler = getattr(self.settings, "pad_token_id", None)
        if isinstance(filler, int):
            ids = ids.masked_fill(x == 0, filler)
        return self.model(input_ids=ids, attention_mask=(~padding).long()), padding

    def _read_images(self, x: Tensor) -> Any:
        channels = int(getattr(self.settings, "num_channels", 3))
        if x.shape[1] == 1:
            x = x.expand(-1, channels, -1, -1)
        size = getattr(self.settings, "image_size", None)
        wanted = (size, size) if isinstance(size, int) else size and tuple(size)
        if wanted and tuple(x.shape[2:]) != wanted:
            x = F.interpolate(x, size=wanted, mode="bilinear", align_corners=False, antialias=True)
        return self.model(pixel_values=x)

    def _read_spectrograms(self, x: Tensor) -> Any:
        frames = x[:, 0].transpose(1, 2)
        return self.model(input_values=F.pad(frames, (0, 0, 0, self.settings.max_length - frames.shape[1])))

    def _checked_input(self, model: str) -> str:
        """Return the argument by which the model reads the kind of modality."""
        reads = str(getattr(self.model, "main_input_name", ""))
        spectrograms = reads == "input_values" and hasattr(self.settings, "num_mel_bins")
        fitting = {"pixel_values": ("image", "video"), "input_ids": ("tokens", "sequence")}
        kinds = ("image",) if spectrograms else fitting.get(reads, ())
        if self.kind not in kinds:
            raise ModelError(
                f"encoder {self.name!r}: {model} reads {reads or 'no known input'}, for samples of "
                f"kind {listed(kinds) or 'none'}, not {self.kind!r}; choose another class."
            )
        channels = int(getattr(self.settings, "num_channels", 3))
        if reads == "pixel_values" and self.in_features not in (1, channels):
            raise ModelError(
                f"encoder {self.name!r}: the model reads {channels} channels, or grey images; found "
                f"{self.in_features}: change num_channels of its config, or choose another encoder."
            )
        return reads


def _model(name: str, folder: str | None, config: Mapping[str, Any] | str | None, pooler: bool) -> nn.Module:
    """Return a model with the weights of a folder, or with random ones."""
    with needing("transformers", "transformers", "the encoder 'transformers'"):
        import transformers
    cls = getattr(transformers, name, None) if isinstance(name, str) else None
    if not hasattr(cls, "from_pretrained") or not (hasattr(cls, "main_input_name") or name == "AutoModel"):
        raise UsageError(
            "option 'model' must name a class of transformers, such as ViTModel, ASTModel, BertModel or "
            f"AutoModel; found {name!r}."
        )
    if (folder is None) == (config is None):
        raise UsageError(
            "encoder 'transformers' needs one of the options 'folder' (of a pretrained model) and 'config' "
            f"(for random weights); found {'none' if folder is None else 'both'}."
        )
    built: nn.Module = (
        _from_folder(cls, str(folder), pooler) if config is None else _from_config(cls, name, config)
    )
    if not pooler and "add_pooling_layer" in inspect.signature(type(built).__init__).parameters:
        built.register_module("pooler", None)  # its weights would never be trained
    return built


def _from_folder(cls: Any, folder: str, pooler: bool) -> Any:
    path = Path(folder).expanduser()
    if not (path / "config.json").is_file():
        raise UsageError(
            f"option 'folder': {folder!r} is not a local folder with a config.json; models are not "
            "downloaded: save the model with save_pretrained, and give this folder."
        )
    try:
        built, info = cls.from_pretrained(path, local_files_only=True, output_loading_info=True)
    except Exception as error:  # its type depends on the file format
        raise ModelError(f"{path} cannot be read as {cls.__name__}: {_line(error)}") from error
    missing = sorted(key for key in info["missing_keys"] if pooler or not key.startswith("pooler."))
    unfit = missing + sorted(str(key[0]) for key in info.get("mismatched_keys", ()))
    if unfit:
        raise ModelError(
            f"{path} lacks {unfit[0]!r}{f' and {len(unfit) - 1} more' if len(unfit) > 1 else ''} of "
            f"{cls.__name__}; choose the class that the folder was saved from."
        )
    return built


def _from_config(cls: Any, name: str, config: Mapping[str, Any] | str) -> Any:
    if isinstance(config, Mapping):
        values = dict(config)
    else:
        path = Path(config).expanduser()

        def refuse(found: str) -> UsageError:
            return UsageError(f"option 'config': {path} cannot be read as JSON ({found}).")

        with parsing(refuse):
            values = read_json(path, refuse)
    try:
        if name != "AutoModel":
            return cls(cls.config_class.from_dict(values))
        from transformers import AutoConfig

        if "model_type" not in values:
            raise UsageError("option 'config' needs 'model_type' if 'model' is AutoModel.")
        return cls.from_config(AutoConfig.for_model(**values))
    except UsageError:
        raise
    except Exception as error:  # its type depends on the model
        raise ModelError(f"{name} cannot be built from this configuration: {_line(error)}") from error


def _width(settings: Any, model: str) -> int:
    width = getattr(settings, "hidden_size", None) or (getattr(settings, "hidden_sizes", None) or [None])[-1]
    if not isinstance(width, int):
        raise ModelError(f"the configuration of {model} has no 'hidden_size'; choose another class.")
    return width


def _line(error: Exception) -> str:
    check_machine(error)
    return first_line(error)
