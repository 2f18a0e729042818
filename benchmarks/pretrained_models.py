"""Two-stream models for benchmarks/pretrained.py, from drawn or given weights, whole or with adapters.

Which weights they start from is told by the environment, as a model is named by its factory alone:
`PRETRAINED_WEIGHTS` is a folder with `MODALITY.safetensors` for each modality, `PRETRAINED_SEED` the seed of
whatever is drawn.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from equipoise.models import MultimodalModel
from equipoise.models.build import Shapes, build_encoder, build_fusion, drawing
from equipoise.models.encoders import Encoder

WEIGHTS, SEED = "PRETRAINED_WEIGHTS", "PRETRAINED_SEED"
WIDTH = 32


class SmallBert(nn.Module):
    """A BERT of two layers over the steps of a sequence `[B, T, d]`, averaged to `[B, 32]`."""

    out_features = WIDTH

    def __init__(self, features: int, steps: int) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        config = BertConfig(
            vocab_size=1,
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=2 * WIDTH,
            max_position_embeddings=steps,
        )
        self.projection = nn.Linear(features, WIDTH)
        self.bert = BertModel(config, add_pooling_layer=False)
        # No word is ever looked up; a weight without a gradient would only take part in the blending.
        self.bert.embeddings.word_embeddings.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Encode a batch."""
        mean: Tensor = self.bert(inputs_embeds=self.projection(x)).last_hidden_state.mean(dim=1)
        return mean


def cnn(shapes: Shapes, num_classes: int) -> MultimodalModel:
    """Convolutional encoders."""
    return _model({m: _cnn(m, *shapes[m]) for m in shapes}, num_classes)


def bert(shapes: Shapes, num_classes: int) -> MultimodalModel:
    """Transformer encoders."""
    return _model({m: _bert(m, shapes[m][0]) for m in shapes}, num_classes)


def lora(shapes: Shapes, num_classes: int) -> MultimodalModel:
    """Transformer encoders that are frozen but for LoRA in their attention."""
    from peft import LoraConfig, get_peft_model

    encoders: dict[str, nn.Module] = {}
    for m in shapes:
        config = LoraConfig(r=4, lora_alpha=8, target_modules=["query", "key", "value"])
        with drawing(_seed(), "adapters", m):
            encoders[m] = get_peft_model(_bert(m, shapes[m][0]), config)  # type: ignore[arg-type]
        encoders[m].out_features = WIDTH  # type: ignore[assignment]
    return _model(encoders, num_classes)


def _cnn(modality: str, shape: tuple[int, ...], kind: str) -> Encoder:
    encoder = build_encoder(modality, shape, kind, "sequence-cnn", seed=_seed())
    _load(encoder, modality)
    return encoder


def _bert(modality: str, shape: tuple[int, ...]) -> SmallBert:
    with drawing(_seed(), "encoder", modality):
        encoder = SmallBert(shape[1], shape[0])
    _load(encoder, modality)
    return encoder


def _load(encoder: nn.Module, modality: str) -> None:
    if folder := os.environ.get(WEIGHTS):
        file = Path(folder) / f"{modality}.safetensors"
        encoder.load_state_dict(load_file(file))
        encoder.loaded_weights = file.name  # type: ignore[assignment]


def _model(encoders: dict[str, nn.Module], num_classes: int) -> MultimodalModel:
    widths = {m: int(encoder.out_features) for m, encoder in encoders.items()}  # type: ignore[arg-type]
    fusion = build_fusion("concat", widths, num_classes, seed=_seed())
    model = MultimodalModel(encoders, fusion, num_classes)
    return model.to(torch.float32)


def _seed() -> int:
    return int(os.environ.get(SEED, "0"))
