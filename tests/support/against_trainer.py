"""A training by the toolkit's trainer, and everything that another loop needs to repeat it."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import synthetic
from equipoise.loops.plain.entry import reason_against
from equipoise.methods import METHODS, create_method
from equipoise.randomness import derive_seed, seed_everything
from equipoise.training.assembly import ModelSpec, RunData, build_reference, prepare_data
from equipoise.training.loop import Training
from equipoise.training.record.record import RunRecord
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
}
FITTING = [
    name
    for name, kind in METHODS.items()
    if name not in ("greedy", "diagnose-relearn-plus")  # one needs its own fusion, one validation samples
    and kind.argument is None
    and not reason_against(create_method(name, OPTIONS.get(name)), MODALITIES)
]


class AudioVisualNet(nn.Module):
    """A model without dependency on the toolkit."""

    def __init__(self, audio: nn.Module, video: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.audio_net, self.video_net, self.head = audio, video, head

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        return self.head(torch.cat([self.audio_net(audio), self.video_net(video)], dim=1))


@dataclass
class Trained:
    """The results and inputs of a training by the trainer.

    Attributes:
        weights: after the last epoch.
        model: our model with the initial weights, with the same modules as `plain`.
        plain: a model without dependency on the toolkit.
        loader: serves the same batches as the trainer, after `begin(epoch)`.
        begin: sets order and random state of an epoch.
        in_order: the same samples in the order of the split, and the validation samples.
    """

    weights: dict[str, Tensor]
    model: Any
    plain: AudioVisualNet
    loader: DataLoader[Any]
    begin: Callable[[int], None]
    in_order: tuple[DataLoader[Any], DataLoader[Any]]

    @property
    def encoders(self) -> dict[str, nn.Module]:
        return {"audio": self.plain.audio_net, "video": self.plain.video_net}

    def assert_equal(self) -> None:
        """Check that the trained plain model has the weights of the trainer.

        The bound is for float64: the test must use the fixture `float64`.
        """
        assert self.plain.head.weight.dtype == torch.float64
        for key, value in self.model.state_dict().items():
            torch.testing.assert_close(value, self.weights[key], rtol=0, atol=1e-10)


def trained_by_us(method: str, options: dict[str, Any], **budget: Any) -> Trained:
    """Train with the toolkit's trainer, once a process for equal arguments; the model is a new copy."""
    arguments = json.dumps([method, options, budget], sort_keys=True)
    weights, untrained, data = _training(arguments, torch.get_default_dtype())
    mine = deepcopy(untrained)
    plain = AudioVisualNet(mine.encoder_module("audio"), mine.encoder_module("video"), mine.fusion.linear)
    whole = data.train_samples[range(len(data.train_samples))]
    tensors = TensorDataset(whole.inputs["audio"], whole.inputs["video"], whole.target)
    # With its own generator, as in the trainer, a pass draws nothing from the global stream.
    loader = DataLoader(tensors, batch_sampler=data.train.sampler, generator=torch.Generator())

    def begin(epoch: int) -> None:
        data.set_epoch(epoch)
        seed_everything(derive_seed(0, "epoch", epoch))  # for the dropout of encoders

    held = list(data.val)
    validation = TensorDataset(
        *(torch.cat([batch.inputs[m] for batch in held]) for m in ("audio", "video")),
        torch.cat([batch.target for batch in held]),
    )
    in_order = DataLoader(tensors, batch_size=16), DataLoader(validation, batch_size=16)
    return Trained(weights, mine, plain, loader, begin, in_order)


@cache
def _training(arguments: str, dtype: torch.dtype) -> tuple[dict[str, Tensor], Any, RunData]:
    """Return the last weights, the model before training, and the data; `dtype` is the default dtype."""
    method, options, budget = json.loads(arguments)
    # As the optimisers of the loops that the tests write; AdamW has the default rate.
    budget = {
        "weight_decay": 1e-4,
        "clip_norm": math.inf,
        **({} if "optimizer" in budget else {"lr": 0.05}),
        **budget,
    }
    folder = Path(tempfile.mkdtemp())
    synthetic.write(folder / "data", count=90)
    settings = Settings.from_options(
        str(folder / "data"), method=method, method_options=options, epochs=EPOCHS, batch_size=16, **budget
    )
    dataset, data = prepare_data(settings)
    reference = build_reference(settings, ModelSpec.of(dataset))
    untrained = deepcopy(reference)
    record = RunRecord(folder / "run")
    record.open({}, resume=False, overwrite=False)
    last: dict[str, Tensor] = {}

    def keep(epoch: int, _: Any) -> None:
        last.update({name: value.clone() for name, value in training.model.state_dict().items()})

    chosen = create_method(method, options)
    for member in chosen.members():
        member.keep_model()  # as in a loop of one's own
    training = Training(settings, data, reference, chosen, record, keep)
    training.fit()
    return last, untrained, data
