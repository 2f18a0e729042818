"""A multimodal model made of an encoder for each modality, and a fusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from torch import Tensor, nn

from equipoise.models.by_modality import ModulesByModality
from equipoise.models.contract import BalancedModel, batch_inputs
from equipoise.models.fusion.base import check_modalities
from equipoise.models.fusion.head import HeadView
from equipoise.models.options import listed
from equipoise.pooling import pool_features
from equipoise.types import Batch, ModelError

NAMED: Final = "encoders"
NUMBERED: Final = "encoder_list"
"""Begins the names of the encoders' weights, and began them in earlier versions, where a number followed."""


class MultimodalModel(BalancedModel):
    """Encoders and a fusion: `u = g(f_1(x^1), .., f_M(x^M))`.

    Args:
        encoders: modality to module, in the order in which features are concatenated. A module takes
            `[B, ...]` and returns `[B, d]`, or a sequence `[B, T, d]` or map `[B, C, ...]`, which is averaged
            to `[B, d]` (`pool_features`).
        fusion: a `Fusion`, or any module that takes `{m: [B, d_m]}` and returns logits `[B, C]`.
        num_classes: `C`; not needed if the fusion has an attribute `num_classes`.

    Attributes:
        modalities: names, in order.
        encoders: as given. The weights of `audio` are named `encoders.audio.…` in a state dict; in one of an
            earlier version, which is read as well, they are numbered.
        fusion: as given.
        num_outputs: `C`.

    Raises:
        ModelError: encoders and fusion do not match.
    """

    def __init__(
        self, encoders: Mapping[str, nn.Module], fusion: nn.Module, num_classes: int | None = None
    ) -> None:
        super().__init__()
        check_modalities(tuple(encoders))
        for name, module in {**encoders, "fusion": fusion}.items():
            if not isinstance(module, nn.Module):
                raise ModelError(f"{name!r} must be a torch module; found {type(module).__name__}.")
        self.modalities = tuple(encoders)
        self.encoders = ModulesByModality(encoders)
        self.fusion = fusion
        self.num_outputs = check_fusion(fusion, self.modalities, num_classes)
        self._check_widths()

    def encoder_module(self, modality: str) -> nn.Module:
        """Return the encoder of a modality."""
        self._require_known([modality])
        return self.encoders[modality]

    def encode(
        self, batch: Batch | Mapping[str, Tensor], only: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Return the pooled features `{m: [B, d_m]}` of a batch, in the order of `modalities`.

        Args:
            batch: a batch, or its inputs `{m: [B, ...]}`. Inputs of other modalities are ignored, so that a
                unimodal model can read batches of a multimodal dataset.
            only: modalities to encode; None is all.

        Raises:
            ModelError: `only` names an unknown modality, an input is missing, or an encoder does not return
                one feature per sample.
        """
        return {m: self._features(m, self.encoders[m], x) for m, x in self._inputs(batch, only).items()}

    def fuse(self, z: Mapping[str, Tensor]) -> Tensor:
        """Return the joint logits `[B, C]` of the features `{m: [B, d_m]}` of all modalities, in any order.

        Raises:
            ModelError: a modality is unknown or missing.
        """
        self._require_known(tuple(z))
        if missing := [m for m in self.modalities if m not in z]:
            raise ModelError(f"cannot fuse without the features of {listed(missing)}.")
        logits: Tensor = self.fusion(z)
        return logits

    def feature_widths(self) -> dict[str, int]:
        """Return the feature width `d_m` of every modality, from the fusion's `widths` or the encoders."""
        widths = getattr(self.fusion, "widths", None)
        return dict(widths) if isinstance(widths, Mapping) else super().feature_widths()

    @property
    def head(self) -> HeadView | None:
        """The fusion's view of an additive head, else None."""
        return head_of(self.fusion)

    def _fusion_module(self) -> nn.Module:
        return self.fusion

    def present_name(self, name: str) -> str:
        """Return the name of a tensor that a state dict of this or an earlier version names so."""
        part, dot, rest = name.partition(".")
        if not dot or part not in (NAMED, NUMBERED) or NUMBERED in self._modules:
            return name
        return f"{NAMED}.{self.encoders.present_name(rest, numbered=part == NUMBERED)}"

    def earlier_name(self, name: str) -> str:
        """Return the name that a tensor of the state dict had in earlier versions."""
        part, _, rest = name.partition(".")
        return f"{NUMBERED}.{self.encoders.numbered_name(rest)}" if part == NAMED else name

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *more: Any) -> None:
        for name in [name for name in state_dict if name.startswith(prefix)]:
            new = f"{prefix}{self.present_name(name.removeprefix(prefix))}"
            if new != name:
                state_dict[new] = state_dict.pop(name)
        super()._load_from_state_dict(state_dict, prefix, *more)

    def _inputs(self, batch: Batch | Mapping[str, Tensor], only: Sequence[str] | None) -> dict[str, Tensor]:
        """Return the inputs of the requested modalities, in the model's order."""
        inputs = batch_inputs(batch)
        wanted = self.modalities if only is None else (only,) if isinstance(only, str) else tuple(only)
        self._require_known(wanted)
        if missing := [m for m in wanted if m not in inputs]:
            raise ModelError(f"the batch misses the modality {listed(missing)}; it has {listed(inputs)}.")
        return {m: inputs[m] for m in self.modalities if m in wanted}

    def _features(self, modality: str, encoder: nn.Module, x: Tensor) -> Tensor:
        try:
            z = pool_features(encoder(x))
        except ModelError as error:
            raise ModelError(f"modality {modality!r}: {error}") from error
        if z.shape[0] != x.shape[0]:
            raise ModelError(
                f"modality {modality!r}: the encoder returned {z.shape[0]} features for {x.shape[0]} "
                "samples; a module that moves frames into the batch dimension must average over them."
            )
        return z

    def _check_widths(self) -> None:
        widths = getattr(self.fusion, "widths", None)
        for m, encoder in self.encoders.items():
            width = getattr(encoder, "out_features", None)
            if isinstance(widths, Mapping) and isinstance(width, int) and widths.get(m, width) != width:
                raise ModelError(
                    f"modality {m!r}: the encoder returns {width} features, the fusion takes {widths[m]}."
                )


def in_present_names(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict of a model, which an earlier version may have written, under the present names."""
    return _renamed(model, state, MultimodalModel.present_name)


def in_earlier_names(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of a model under the names of earlier versions, which their digests contain."""
    return _renamed(model, state, MultimodalModel.earlier_name)


def _renamed(
    model: nn.Module, state: Mapping[str, Tensor], rename: Callable[[MultimodalModel, str], str]
) -> dict[str, Tensor]:
    renamed = dict(state)
    for path, part in model.named_modules(remove_duplicate=False):
        if isinstance(part, MultimodalModel):
            start = f"{path}." if path else ""
            renamed = {
                f"{start}{rename(part, name.removeprefix(start))}" if name.startswith(start) else name: value
                for name, value in renamed.items()
            }
    return renamed


def head_of(fusion: nn.Module) -> HeadView | None:
    """Return a fusion's view of an additive head, else None."""
    head = getattr(fusion, "head", None)
    return head if isinstance(head, HeadView) else None


def check_fusion(fusion: nn.Module, modalities: tuple[str, ...], num_classes: int | None = None) -> int:
    """Check that a fusion matches the modalities of a model, and return its number of classes `C`.

    Raises:
        ModelError: it was built for other modalities, is a bare linear layer, or its number of classes is
            unknown or differs.
    """
    if isinstance(fusion, nn.Linear):
        raise ModelError(
            "a linear layer does not define which columns read which modality; wrap it: "
            "ConcatFusion.from_linear(linear, {modality: width, ...})."
        )
    own = getattr(fusion, "num_classes", None)
    found = {n for n in (own, num_classes) if isinstance(n, int)}
    if not found:
        raise ModelError("the fusion has no attribute 'num_classes'; give num_classes=C.")
    if len(found) > 1:
        raise ModelError(f"the fusion returns {own} classes, but num_classes is {num_classes}.")
    names = getattr(fusion, "modalities", modalities)
    if tuple(names) != modalities:
        raise ModelError(
            f"the fusion was built for {listed(names)}, the encoders are {listed(modalities)}; "
            "both need the same modalities in the same order."
        )
    return found.pop()
