"""A small two-stream model in plain PyTorch, and data that it can overfit."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

CLASSES = 3


def stream(d: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(d, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 6))


class TwoStreams(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.audio_net, self.visual_net = stream(5), stream(7)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        return self.head(torch.cat([self.audio_net(audio), self.visual_net(video)], dim=1))

    def handles(self) -> dict[str, nn.Module]:
        return {"audio": self.audio_net, "video": self.visual_net}


@dataclass
class Data:
    """`audio` is uninformative, `video` weakly informative; both can be memorised."""

    train: tuple[Tensor, Tensor, Tensor]
    val: tuple[Tensor, Tensor, Tensor]

    def loaders(self, seed: int | None = 3):
        """A shuffled training loader (from the global stream if `seed` is None) and a validation loader."""
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return (
            DataLoader(TensorDataset(*self.train), 16, shuffle=True, generator=generator),
            DataLoader(TensorDataset(*self.val), 16),
        )


@pytest.fixture
def data() -> Data:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES, 7, generator=generator).double()

    def draw(n: int) -> tuple[Tensor, Tensor, Tensor]:
        y = torch.arange(n) % CLASSES
        audio, video = (torch.randn(n, d, generator=generator).double() for d in (5, 7))
        return audio, video + centres[y], y

    return Data(draw(64), draw(40))


@pytest.fixture
def model() -> TwoStreams:
    return fresh_model()


def fresh_model(seed: int = 0) -> TwoStreams:
    torch.manual_seed(seed)
    return TwoStreams().double()


@pytest.fixture
def make_model():
    return fresh_model
