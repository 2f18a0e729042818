"""Diagnosing & Re-learning with transformers.Trainer: synthetic images, and sentences about them.

    python examples/huggingface.py    # extra transformers

Both encoders are small and built from a configuration, so nothing is downloaded. The lines marked "D&R" are
the only additions.
"""

from __future__ import annotations

import tempfile

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import BertConfig, BertModel, Trainer, TrainingArguments, ViTConfig, ViTModel
from transformers.modeling_outputs import SequenceClassifierOutput

from equipoise.loops.transformers import DiagnoseRelearnCallback  # D&R

SHAPES, WORDS, LENGTH = 4, 30, 8
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


class ShapesAndSentences(Dataset):
    """Noisy images of a bar at one of four positions; 70 % of the sentences contain a word for it."""

    def __init__(self, n: int, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(n) % SHAPES
        self.pixels = torch.randn(n, 1, 16, 16, generator=draw)
        self.tokens = torch.randint(SHAPES, WORDS, (n, LENGTH), generator=draw)
        for row, label in enumerate(self.labels.tolist()):
            self.pixels[row, 0, 4 * label : 4 * label + 4] += 0.7
            if torch.rand((), generator=draw) < 0.7:
                self.tokens[row, torch.randint(1, LENGTH, (), generator=draw)] = label

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"input_ids": self.tokens[row], "pixel_values": self.pixels[row], "labels": self.labels[row]}


class TextAndImage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        text = BertConfig(vocab_size=WORDS, max_position_embeddings=LENGTH, **SMALL)
        image = ViTConfig(image_size=16, patch_size=4, num_channels=1, **SMALL)
        self.text = BertModel(text, add_pooling_layer=False)
        self.image = ViTModel(image, add_pooling_layer=False)
        self.head = nn.Linear(64, SHAPES)

    def forward(
        self, input_ids: Tensor, pixel_values: Tensor, labels: Tensor | None = None
    ) -> SequenceClassifierOutput:
        outputs = self.text(input_ids=input_ids), self.image(pixel_values=pixel_values)
        logits = self.head(torch.cat([first_token(output) for output in outputs], dim=1))
        return SequenceClassifierOutput(None if labels is None else F.cross_entropy(logits, labels), logits)


def first_token(output: SequenceClassifierOutput) -> Tensor:
    return output.last_hidden_state[:, 0]


def main() -> nn.Module:
    torch.manual_seed(0)
    model, train_set, val_set = TextAndImage(), ShapesAndSentences(320, 0), ShapesAndSentences(160, 1)
    encoders = {"text": "text", "image": "image"}  # D&R
    relearn = DiagnoseRelearnCallback(encoders, val_set, every=2, count=2, lam=3.0, pool=first_token)  # D&R
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder,
            num_train_epochs=7,
            per_device_train_batch_size=32,
            learning_rate=2e-3,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            save_strategy="no",
        )
        trainer = Trainer(model, args, train_dataset=train_set, eval_dataset=val_set)
        trainer.add_callback(relearn)  # D&R
        trainer.train()
        print(trainer.evaluate())
    print(*(entry for entry in trainer.state.log_history if any("equipoise" in k for k in entry)), sep="\n")
    return model


if __name__ == "__main__":
    main()
