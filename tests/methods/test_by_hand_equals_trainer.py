"""The same method, data, seed and initial weights give the same weights in a plain loop as in the trainer."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import synthetic
from equipoise.methods import METHODS, create_method
from equipoise.methods.hand import by_hand
from equipoise.methods.hand.fitness import reason_against
from equipoise.randomness import derive_seed, seed_everything
from equipoise.training.assembly import ModelSpec, build_reference, prepare_data
from equipoise.training.loop import Training
from equipoise.training.record import RunRecord
from equipoise.training.settings import Settings

EPOCHS = 4
MODALITIES = ("audio", "video")
OPTIONS: dict[str, dict[str, Any]] = {
    "ogm": {"end_epoch": 2},
    "ogm-ge": {"end_epoch": None, "logits": "zero-feature"},
    "opm": {"start_epoch": 1},
    "arl": {"warmup_epochs": 1},
    "fixed-modulation": {"factors": {"audio": 0.3}},
    "inforeg": {"threshold": 0.0, "loss": "joint+unimodal"},
    "mcr": {"n": 3, "lam_ceb": 0.1},
    "cml": {"absence": "zero-input"},
    "agm": {"mode": "shapley-branch"},
}
FITTING = [
    name
    for name, kind in METHODS.items()
    if name != "greedy"  # acts inside a fusion of its own
    and kind.argument is None
    and not reason_against(create_method(name, OPTIONS.get(name)), MODALITIES)
]


class AudioVisualNet(nn.Module):
    """A model that knows nothing of the toolkit."""

    def __init__(self, audio: nn.Module, video: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.audio_net, self.video_net, self.head = audio, video, head

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        return self.head(torch.cat([self.audio_net(audio), self.video_net(video)], dim=1))


def trained_by_us(folder: Path, method: str, options: dict[str, Any], **budget: Any) -> tuple[Any, ...]:
    """The weights after the last epoch, with the plain model, its loader and the optimiser's settings."""
    synthetic.write(folder / "data", count=90)
    settings = Settings.from_options(
        str(folder / "data"), method=method, method_options=options, epochs=EPOCHS, batch_size=16, **budget
    )
    dataset, data = prepare_data(settings)
    reference = build_reference(settings, ModelSpec.of(dataset))
    mine = deepcopy(reference)
    record = RunRecord(folder / "run")
    record.open({}, resume=False, overwrite=False)
    last: dict[str, Tensor] = {}

    def keep(epoch: int, _: Any) -> None:
        last.update({name: value.clone() for name, value in training.model.state_dict().items()})

    chosen = create_method(method, options)
    training = Training(settings, data, reference, chosen, record, keep)
    training.fit()
    plain = AudioVisualNet(mine.encoder_module("audio"), mine.encoder_module("video"), mine.fusion.linear)
    whole = data.train_samples[range(len(data.train_samples))]
    tensors = TensorDataset(whole.inputs["audio"], whole.inputs["video"], whole.target)
    # With a generator of its own, as in the trainer, a pass draws nothing from the global stream.
    loader = DataLoader(tensors, batch_sampler=data.train.sampler, generator=torch.Generator())
    return last, mine, plain, loader, data.set_epoch


def loop(
    method: Any, loader: DataLoader[Any], optimizer: torch.optim.Optimizer, set_epoch: Callable[[int], None]
) -> None:
    for epoch in method.epochs():
        set_epoch(epoch)
        seed_everything(derive_seed(0, "epoch", epoch))  # as the trainer does, for the encoders' dropout
        for batch in loader:
            optimizer.zero_grad()
            method.loss(batch).backward()
            method.on_gradients()
            optimizer.step()


@pytest.mark.parametrize("name", FITTING)
def test_weights_are_those_of_the_trainer(tmp_path: Path, name: str) -> None:
    options = OPTIONS.get(name, {})
    last, mine, plain, loader, set_epoch = trained_by_us(tmp_path, name, options)
    before = {key: value.clone() for key, value in mine.state_dict().items()}
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    encoders = {"audio": plain.audio_net, "video": plain.video_net}
    method = by_hand(
        name,
        plain,
        encoders,
        head=plain.head,
        train_loader=loader,
        optimizer=optimizer,
        epochs=EPOCHS,
        **options,
    )
    loop(method, loader, optimizer, set_epoch)
    for key, value in mine.state_dict().items():
        torch.testing.assert_close(value, last[key], rtol=0, atol=1e-6)
        assert not torch.equal(value, before[key]) or not value.is_floating_point()
