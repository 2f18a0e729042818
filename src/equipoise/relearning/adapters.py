"""The adapters that `peft` has put into an encoder, recognised by its own classes, never by names."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator
from typing import Any, cast

from torch import nn

from equipoise.types import MissingExtraError, ModelError


def adapter_parameters(module: nn.Module) -> list[str]:
    """Return the names of the parameters that belong to adapters, in the encoder's order.

    These are the parameters that `peft` has added to its layers (LoRA's `A`, `B` and DoRA's magnitudes, say),
    its trainable copies of whole layers (`modules_to_save`), and learned prompts; the weights that are
    adapted are not among them.

    Raises:
        MissingExtraError: `peft` is not installed.
        ModelError: there is no adapter in the encoder.
    """
    own = {id(parameter) for parameter in _parameters_of_adapters(module)}
    names = [name for name, parameter in module.named_parameters() if id(parameter) in own]
    if not names:
        raise ModelError(
            f"{type(module).__name__} holds no adapter of peft; expected an encoder that went through "
            "peft.get_peft_model, before the re-learning is set up."
        )
    return names


def refuse_merged(module: nn.Module, what: str) -> None:
    """Check that no adapter is merged into the weights that it adapts.

    A merged adapter is not used by the forward pass; to change it would have no effect now, and would spoil
    the adapted weights when it is taken out of them again.

    Raises:
        ModelError: one is; `what` names the encoder.
    """
    merged = [name for name, layer in module.named_modules() if _is_tuner(layer) and layer.merged]
    if merged:
        raise ModelError(
            f"{what} has {len(merged)} adapters that are merged into the weights, first that of "
            f"{merged[0]!r}; expected separate ones: call unmerge_adapter() before training."
        )


def _is_tuner(layer: Any) -> bool:
    if "peft" not in sys.modules:  # nobody has made an adapter then
        return False
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(layer, BaseTunerLayer)


def _parameters_of_adapters(module: nn.Module) -> Iterator[nn.Parameter]:
    if "peft" not in sys.modules:
        if importlib.util.find_spec("peft") is None:
            raise MissingExtraError("peft", "transformers", "parameters='adapters'")
        return
    from peft import PeftModel
    from peft.utils.other import AuxiliaryTrainingWrapper

    for layer in module.modules():
        parts: list[object] = []
        if _is_tuner(layer) or isinstance(layer, AuxiliaryTrainingWrapper):
            names = cast("Iterable[str]", layer.adapter_layer_names)
            parts = [getattr(layer, name, None) for name in names]
        elif isinstance(layer, PeftModel):
            parts = [getattr(layer, "prompt_encoder", None)]
        for part in parts:
            if isinstance(part, nn.Module):
                yield from part.parameters()
            elif isinstance(part, nn.Parameter):
                yield part
