"""Two-stream models for benchmarks/pretrained.py: random or pretrained weights, with or without adapters.

A model is named only by its factory, so environment variables choose the initial weights:
`PRETRAINED_WEIGHTS` is a folder with `MODALITY.safetensors` for each modality, `PRETRAINED_SEED` the seed for
random weights.
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
    """A two-layer BERT for sequences `[B, T, d]`; returns the mean over time, `[B, 32]`."""

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
        # Word embeddings are not used; frozen, they are not blended either.
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
    """Frozen transformer encoders with LoRA in the attention layers."""
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
