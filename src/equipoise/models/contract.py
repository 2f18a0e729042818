"""The contract of a model: encode, fuse, and explicit parameter groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from torch import Tensor, nn

from equipoise.models.fusion.head import HeadView
from equipoise.models.options import listed, require_modalities
from equipoise.sharing import SharedBatch
from equipoise.types import Batch, ModelError, ModelOutput

NamedParameter = tuple[str, nn.Parameter]


class BalancedModel(nn.Module, ABC):
    """The interface of a multimodal model that methods use.

    Use `MultimodalModel` for a model of encoders and a fusion. For other models, derive from this class, set
    `modalities` and `num_outputs`, and define `encode`, `fuse` and `encoder_module`; everything else follows.

    Attributes:
        modalities: names, in a fixed order.
        num_outputs: columns `C` of the logits.
        task: kind of the target.
    """

    modalities: tuple[str, ...]
    num_outputs: int
    task: str = "classification"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "encode" in vars(cls):
            cls.encode = _shared_encoding(cls.encode)  # type: ignore[method-assign]

    @abstractmethod
    def encode(
        self, batch: Batch | Mapping[str, Tensor], only: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Return pooled features `{m: [B, d_m]}` in the model's order; `only` selects modalities.

        Of a `SharedBatch` it gets the samples of this process, and the caller the features of all.
        """

    @abstractmethod
    def fuse(self, z: Mapping[str, Tensor]) -> Tensor:
        """Return the joint logits `[B, C]` of the features of all modalities."""

    @abstractmethod
    def encoder_module(self, modality: str) -> nn.Module:
        """Return the encoder of a modality, to which freezing, snapshots and re-learning apply.

        `encode` calls it as `module(x)` once per batch; a module of several modalities, once for each. Hooks
        on this call count costs and read features.

        Raises:
            ModelError: unknown modality.
        """

    def forward(self, batch: Batch | Mapping[str, Tensor]) -> ModelOutput:
        """Return joint logits `[B, C]` and pooled features of a batch, or of its inputs `{m: [B, ...]}`."""
        z = self.encode(batch)
        return ModelOutput(self.fuse(z), z)

    def encoder_parameters(self, modality: str) -> list[NamedParameter]:
        """Return the parameters of one encoder that no other part uses, named as in `named_parameters`.

        The lists of all encoders, `fusion_parameters` and `shared_parameters` together contain every
        parameter of the model exactly once.

        Raises:
            ModelError: unknown modality.
        """
        position = self._position(modality)
        return [named for named, owners in self._owned() if owners == {position}]

    def fusion_parameters(self) -> list[NamedParameter]:
        """Return the parameters of the fusion and the joint head: all parameters that no encoder uses."""
        return [named for named, owners in self._owned() if not owners or owners == {-1}]

    def shared_parameters(self) -> list[NamedParameter]:
        """Return the parameters used by several encoders, or by an encoder and the fusion."""
        return [named for named, owners in self._owned() if len(owners) > 1]

    def feature_widths(self) -> dict[str, int]:
        """Return the feature width `d_m` of every modality.

        Raises:
            ModelError: the width of an encoder is unknown.
        """
        widths = {m: getattr(self.encoder_module(m), "out_features", None) for m in self.modalities}
        if unknown := [m for m, width in widths.items() if not isinstance(width, int)]:
            raise ModelError(
                f"the feature width of {listed(unknown)} is unknown; "
                "give the encoder an attribute 'out_features', the d of its output [B, d]."
            )
        return {m: int(width) for m, width in widths.items() if width is not None}

    @property
    def head(self) -> HeadView | None:
        """The view of an additive head, else None."""
        return None

    @property
    def capabilities(self) -> frozenset[str]:
        """The features of a model that methods may require, checked before training.

        `additive_head`: `head` is not None. `shared_head`: all features have the same width, so that one head
        can read each of them. `own_heads`: the fusion has a classifier for every modality (`own_logits`).
        `mid_fusion`: the encoders exchange signals. `gates`: they do so through MMTM blocks, and the model
        has `blocks`, `block_parameters` and `curate` of a `MidFusionModel`.
        """
        found = set()
        if self.head is not None:
            found.add("additive_head")
        if callable(getattr(self._fusion_module(), "own_logits", None)):
            found.add("own_heads")
        try:
            if len(set(self.feature_widths().values())) == 1:
                found.add("shared_head")
        except ModelError:
            pass  # unknown widths may differ
        return frozenset(found)

    def _fusion_module(self) -> nn.Module | None:
        """Return the fusion if it is a separate module, else None."""
        return None

    def _owned(self) -> list[tuple[NamedParameter, set[int]]]:
        """Return every parameter with its users: positions of encoders, and -1 for the fusion module."""
        users: dict[nn.Parameter, set[int]] = {}
        modules = [(i, self.encoder_module(m)) for i, m in enumerate(self.modalities)]
        fusion = self._fusion_module()
        for position, module in [*modules, *([] if fusion is None else [(-1, fusion)])]:
            for parameter in module.parameters():
                users.setdefault(parameter, set()).add(position)
        return [((name, p), users.get(p, set())) for name, p in self.named_parameters()]

    def _position(self, modality: str) -> int:
        self._require_known([modality])
        return self.modalities.index(modality)

    def _require_known(self, modalities: Sequence[str]) -> None:
        require_modalities(modalities, self.modalities, "the model has no modality")


def _shared_encoding(encode: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
    """Return `encode` for batches of which each process encodes a part."""

    @wraps(encode)
    def encode_shared(self: BalancedModel, batch: Any, *only: Any, **named: Any) -> dict[str, Tensor]:
        if not isinstance(batch, SharedBatch):
            return encode(self, batch, *only, **named)
        with batch.own_randomness():
            own = encode(self, batch.own(), *only, **named)
        return batch.exchanged(own)

    return encode_shared


def batch_inputs(batch: Batch | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the inputs `{m: [B, ...]}` of a batch, or the mapping itself.

    Raises:
        ModelError: it is neither a batch nor a mapping.
    """
    inputs = batch.inputs if isinstance(batch, Batch) else batch
    if not isinstance(inputs, Mapping):
        raise ModelError(
            f"a model takes a Batch or a mapping of modality to tensor; found {type(batch).__name__}."
        )
    return inputs
