"""Re-learning gives the same weights in our trainer, a plain loop, Lightning and transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import equipoise as eq
from against_trainer import EPOCHS, Trained, trained_by_us

pytestmark = pytest.mark.usefixtures("float64")

OPTIONS: dict[str, Any] = {"epochs": [0, 2], "lam": 3.0}


@pytest.fixture
def trained() -> Trained:
    # No dropout: reading features draws no random numbers, but each Trainer draws some itself.
    still = {modality: {"dropout": 0.0} for modality in ("audio", "video")}
    return trained_by_us("diagnose-relearn", OPTIONS, encoder_options=still)


def test_it_has_an_effect(trained: Trained) -> None:
    still = {modality: {"dropout": 0.0} for modality in ("audio", "video")}
    joint = trained_by_us("joint", {}, encoder_options=still).weights
    assert not all(torch.equal(value, joint[key]) for key, value in trained.weights.items())


def test_in_a_plain_loop(trained: Trained) -> None:
    optimizer = torch.optim.SGD(trained.plain.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    relearn = eq.DiagnoseRelearn(trained.encoders, **OPTIONS)
    for epoch in range(EPOCHS):
        trained.begin(epoch)
        for audio, video, target in trained.loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(trained.plain(audio, video), target).backward()
            optimizer.step()
        if relearn.due(epoch):
            relearn.step(epoch, trained.plain, *trained.in_order)
    trained.assert_equal()


def test_in_lightning(trained: Trained, tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    from equipoise.loops.lightning import DiagnoseRelearnCallback
    from lightning_modules import HANDLES, fit

    train, val = trained.in_order
    fit(tmp_path, trained, DiagnoseRelearnCallback(HANDLES, **OPTIONS, train_loader=train, val_loader=val))
    trained.assert_equal()


def test_in_transformers(trained: Trained, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from equipoise.loops.transformers import DiagnoseRelearnCallback
    from trainer_modules import HANDLES, trainer

    train, val = (loader.dataset for loader in trained.in_order)
    callback = DiagnoseRelearnCallback(HANDLES, val, train_dataset=train, **OPTIONS)
    trainer(tmp_path, trained, callback).train()
    trained.assert_equal()
