"""With equal method, data, seed and initial weights, a plain loop and the trainer give equal weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import equipoise as eq
from against_trainer import EPOCHS, FITTING, OPTIONS, Trained, trained_by_us

PLUS = "diagnose-relearn-plus"
pytestmark = pytest.mark.usefixtures("float64")


def loop(
    method: eq.HandTraining,
    trained: Trained,
    optimizer: torch.optim.Optimizer,
    after: Callable[[], None] = lambda: None,
) -> None:
    for epoch in method.epochs():
        trained.begin(epoch)
        for batch in trained.loader:
            optimizer.zero_grad()
            method.loss(batch).backward()
            method.on_gradients()
            optimizer.step()
            after()


def in_a_loop(trained: Trained, name: str, optimizer: torch.optim.Optimizer, **options: Any) -> None:
    method = eq.by_hand(
        name,
        trained.plain,
        trained.encoders,
        head=trained.plain.head,
        train_loader=trained.loader,
        optimizer=optimizer,
        epochs=EPOCHS,
        **options,
    )
    loop(method, trained, optimizer)


@pytest.mark.parametrize("name", [*FITTING, "opm+multi-loss", "ogm+mcr"])
def test_weights_equal_those_of_the_trainer(name: str) -> None:
    names = name.split("+")
    options = OPTIONS.get(name, {})
    if len(names) > 1:
        options = {f"{part}.{key}": value for part in names for key, value in OPTIONS.get(part, {}).items()}
    trained = trained_by_us(name, options)
    optimizer = torch.optim.SGD(trained.plain.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    in_a_loop(trained, name, optimizer, **options)
    trained.assert_equal()


@pytest.mark.parametrize("options", [{"cycles": 2}, {"cycles": 2, "rates": "keep", "weight": 0.0}])
def test_relearning_in_cycles(options: dict[str, Any]) -> None:
    trained = trained_by_us(PLUS, options)
    optimizer = torch.optim.SGD(trained.plain.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    in_a_loop(trained, PLUS, optimizer, val_loader=trained.in_order[1], **options)
    trained.assert_equal()
    last = 0.05 if options.get("rates") == "keep" else 0.025
    assert optimizer.param_groups[0]["lr"] == pytest.approx(last)


def test_a_scheduler_is_overruled_with_a_warning() -> None:
    """Warm-up: the rate is 0 when the method is prepared, and changes after each step."""
    trained = trained_by_us(PLUS, {"cycles": 2})
    optimizer = torch.optim.SGD(trained.plain.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    warm = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 7))
    assert optimizer.param_groups[0]["lr"] == 0
    method = eq.by_hand(
        PLUS,
        trained.plain,
        trained.encoders,
        train_loader=trained.loader,
        val_loader=lambda: trained.in_order[1],
        optimizer=optimizer,
        epochs=EPOCHS,
        cycles=2,
    )
    with pytest.warns(eq.EquipoiseWarning, match="a scheduler set the learning rate to 0.007") as caught:
        loop(method, trained, optimizer, warm.step)
    assert sum("scheduler" in str(one.message) for one in caught) == 1
    trained.assert_equal()


def test_what_it_needs_is_said_before_training() -> None:
    trained = trained_by_us(PLUS, {"cycles": 2})
    optimizer = torch.optim.SGD(trained.plain.parameters(), lr=0.05)
    for options, message in (
        ({}, "give val_loader="),
        ({"distillation": "last"}, "needs the position of each sample"),
        ({"prediction": "heads"}, "its own inference rule"),
        ({"cycle_mean": True}, "its own inference rule"),
    ):
        given = {"val_loader": trained.in_order[1]} if options else {}
        with pytest.raises(eq.UsageError, match=message):
            in_a_loop(trained, PLUS, optimizer, **given, **options)


@pytest.mark.parametrize("name", ["multi-loss", "ogm-ge"])
def test_adam(name: str) -> None:
    options = {"apply": "update"} if name == "ogm-ge" else {}
    trained = trained_by_us(name, options, optimizer="adamw")
    optimizer = torch.optim.AdamW(trained.plain.parameters(), lr=1e-3, weight_decay=1e-4)
    in_a_loop(trained, name, optimizer, **options)
    trained.assert_equal()


def test_methods_differ() -> None:
    """Checks that the tests above do not always compare joint training."""
    joint = trained_by_us("joint", {}).weights
    for name in FITTING:
        if name != "joint":
            weights = trained_by_us(name, OPTIONS.get(name, {})).weights
            assert not all(torch.equal(weights[key], joint[key]) for key in joint), name
