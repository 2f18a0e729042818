"""The contract between a model and everything above it: encode, fuse, and explicit parameter groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from equipoise.models.fusion.head import HeadView
from equipoise.models.options import listed
from equipoise.types import Batch, ModelError, ModelOutput

NamedParameter = tuple[str, nn.Parameter]


class BalancedModel(nn.Module, ABC):
    """What methods ask of a multimodal model.

    `MultimodalModel` is the one to use where a model is encoders and a fusion. Derive from this class where
    it is not: set `modalities` and `num_outputs` and define `encode`, `fuse` and `encoder_module`; everything
    else follows from them.

    Attributes:
        modalities: names, in a fixed order.
        num_outputs: columns `C` of the logits.
        task: what the logits are for.
    """

    modalities: tuple[str, ...]
    num_outputs: int
    task: str = "classification"

    @abstractmethod
    def encode(
        self, batch: Batch | Mapping[str, Tensor], only: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Return pooled features `{m: [B, d_m]}` in the model's order, of those in `only` if given."""

    @abstractmethod
    def fuse(self, z: Mapping[str, Tensor]) -> Tensor:
        """Return the joint logits `[B, C]` of the features of all modalities."""

    @abstractmethod
    def encoder_module(self, modality: str) -> nn.Module:
        """Return the encoder of a modality: the module that is frozen, snapshot and re-learned.

        `encode` calls it, as `module(x)`, once a batch; a module that serves several modalities, once for
        each of them. Costs are counted and features are read where it is called.
        """

    def forward(self, batch: Batch | Mapping[str, Tensor]) -> ModelOutput:
        """Encode and fuse.

        Args:
            batch: a batch, or its inputs `{m: [B, ...]}`.

        Returns:
            Joint logits `[B, C]` and pooled features `{m: [B, d_m]}`.
        """
        z = self.encode(batch)
        return ModelOutput(self.fuse(z), z)

    def encoder_parameters(self, modality: str) -> list[NamedParameter]:
        """Return the parameters that belong to one encoder alone, named as in `named_parameters`.

        Together with `fusion_parameters` and `shared_parameters` the encoders' lists hold every parameter of
        the model exactly once.

        Raises:
            ModelError: unknown modality.
        """
        position = self._position(modality)
        return [named for named, owners in self._owned() if owners == {position}]

    def fusion_parameters(self) -> list[NamedParameter]:
        """Return the parameters of the fusion and the joint head: all that no encoder uses."""
        return [named for named, owners in self._owned() if not owners or owners == {-1}]

    def shared_parameters(self) -> list[NamedParameter]:
        """Return the parameters used by several encoders, or by an encoder and the fusion."""
        return [named for named, owners in self._owned() if len(owners) > 1]

    def feature_widths(self) -> dict[str, int]:
        """Return the feature width `d_m` of every modality.

        Raises:
            ModelError: an encoder does not say its width.
        """
        widths = {m: getattr(self.encoder_module(m), "out_features", None) for m in self.modalities}
        if unknown := [m for m, width in widths.items() if not isinstance(width, int)]:
            raise ModelError(
                f"the feature width of {listed(unknown)} is not known; "
                "give the encoder an attribute 'out_features', the d of the [B, d] that it returns."
            )
        return {m: int(width) for m, width in widths.items() if width is not None}

    @property
    def head(self) -> HeadView | None:
        """The view of the head where it is additive, else None."""
        return None

    @property
    def capabilities(self) -> frozenset[str]:
        """What methods may require of a model, checked before training.

        `additive_head`: `head` is not None. `shared_head`: all features are equally wide, so that one head
        can read each of them. `own_heads`: the fusion answers for every modality by itself
        (`own_logits`). `mid_fusion`: the encoders exchange signals before they give their features. `gates`:
        they do so through MMTM blocks, and the model has `blocks`, `block_parameters` and `curate` of a
        `MidFusionModel`.
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
            pass  # widths that are not known are not known to be equal
        return frozenset(found)

    def _fusion_module(self) -> nn.Module | None:
        """Return the module that fuses, where it is a module of its own."""
        return None

    def _owned(self) -> list[tuple[NamedParameter, set[int]]]:
        """Return every parameter with its users: positions of encoders, -1 for the fusion module."""
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
        if unknown := [m for m in modalities if m not in self.modalities]:
            raise ModelError(
                f"the model has no modality {listed(unknown)}; its modalities: {listed(self.modalities)}."
            )


def batch_inputs(batch: Batch | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the inputs `{m: [B, ...]}` of a batch, or the mapping itself.

    Raises:
        ModelError: neither a batch nor a mapping.
    """
    inputs = batch.inputs if isinstance(batch, Batch) else batch
    if not isinstance(inputs, Mapping):
        raise ModelError(
            f"a model takes a Batch or a mapping of modality to tensor; found {type(batch).__name__}."
        )
    return inputs
