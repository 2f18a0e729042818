"""Views of an additive head: the part of the joint logits that each modality contributes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import accumulate

from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.models.options import require_modalities, require_width
from equipoise.types import ModelError


class HeadView(ABC):
    """The parts of a head of the form `u = sum_m z^m W_m^T + b`.

    A view reads the parameters at every call and stores no copy, so that it stays valid during training.

    Attributes:
        modalities: names, in the model's order.
    """

    def __init__(self, modalities: Sequence[str]) -> None:
        self.modalities = tuple(modalities)

    @abstractmethod
    def weight(self, modality: str) -> Tensor:
        """Return `W_m` `[C, d_m]`, a view of the parameter.

        Raises:
            ModelError: unknown modality.
        """

    @abstractmethod
    def bias(self) -> Tensor:
        """Return `b` `[C]`, zeros if the head has none."""

    def slice(self, modality: str, z: Tensor, head_grad: bool = True) -> Tensor:
        """Return the unimodal logits `u^m = z^m W_m^T + b / M` `[B, C]` of a feature `z [B, d_m]`.

        They sum to the joint logits over `m`. With `head_grad=False` the head's weights are constants:
        gradients flow into `z` only.

        Raises:
            ModelError: unknown modality, or `z` has another width.
        """
        weight, bias = self.weight(modality), self.bias() / len(self.modalities)
        width = weight.shape[1]
        require_width(z, width, f"the head reads [B, {width}] of modality {modality!r}")
        if not head_grad:
            weight, bias = weight.detach(), bias.detach()
        return F.linear(z, weight, bias)

    def _check(self, modality: str) -> None:
        require_modalities([modality], self.modalities, "the head has no modality")


class ConcatHead(HeadView):
    """View of one linear layer over concatenated features: `W = [W_1 .. W_M]`.

    Args:
        linear: the layer, `[B, sum d_m]` to `[B, C]`.
        widths: modality to `d_m`, in the order in which the features are concatenated.

    Raises:
        ModelError: the widths do not add up to the layer's input.
    """

    def __init__(self, linear: nn.Linear, widths: Mapping[str, int]) -> None:
        super().__init__(tuple(widths))
        if linear.in_features != sum(widths.values()):
            raise ModelError(
                f"the linear layer reads {linear.in_features} features, but the widths {dict(widths)} "
                f"add up to {sum(widths.values())}."
            )
        self._linear = linear
        ends = accumulate(widths.values())
        self._columns = {m: slice(end - widths[m], end) for m, end in zip(widths, ends, strict=True)}

    def weight(self, modality: str) -> Tensor:
        """Return the columns of the layer that read modality `m`: `[C, d_m]`."""
        self._check(modality)
        return self._linear.weight[:, self._columns[modality]]

    def bias(self) -> Tensor:
        """Return the layer's bias `[C]`."""
        return _bias(self._linear.bias, self._linear.weight)


class SumHead(HeadView):
    """View of one linear layer per modality whose outputs are added.

    Args:
        linears: modality to layer, `[B, d_m]` to `[B, C]`. Their biases are parts of `b`.
        bias: a further bias `[C]`, or None.
    """

    def __init__(self, linears: Mapping[str, nn.Linear], bias: Tensor | None = None) -> None:
        super().__init__(tuple(linears))
        self._linears, self._shared_bias = dict(linears), bias

    def weight(self, modality: str) -> Tensor:
        """Return the weight of the layer of modality `m`: `[C, d_m]`."""
        self._check(modality)
        return self._linears[modality].weight

    def bias(self) -> Tensor:
        """Return the sum of all biases `[C]`."""
        total = _bias(self._shared_bias, self._linears[self.modalities[0]].weight)
        for linear in self._linears.values():
            if linear.bias is not None:
                total = total + linear.bias
        return total


def _bias(bias: Tensor | None, weight: Tensor) -> Tensor:
    return weight.new_zeros(weight.shape[0]) if bias is None else bias
