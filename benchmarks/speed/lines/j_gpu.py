"""A step on a GPU against a hand-written loop there."""

from __future__ import annotations

from collections.abc import Callable

import torch
from sets import epoch_of, hand_optimizer, images, served, training_of
from torch.nn import functional as F
from turns import Found, Ratio, Size, in_turn

from equipoise.training.loop import Training

TITLE = "On a GPU: seconds a step against a hand-written loop"


def measure(size: Size) -> Found:
    found = Found()
    if not torch.cuda.is_available():
        found.missing["the steps on a GPU"] = f"torch {torch.__version__} finds no CUDA device"
        return found
    data, batch = images(size.of(512, 8), size.of(224, 32)), size.of(64, 2)
    options = {"encoder": {"image": "resnet18", "vector": "mlp"}, "recipe": "paper", "batch_size": batch}
    for precision in ("32-true", "bf16-mixed"):
        training, other = (
            training_of(data, epochs=1, device="cuda", precision=precision, **options) for _ in range(2)
        )
        works = {"trainer": waited(epoch_of(training)), "loop": waited(looping(other, precision))}
        turns = in_turn(works, size.of(7, 1))
        what = f"ResNet-18 at {size.of(224, 32)}, batch {batch}, {precision}: trainer / hand-written"
        steps = training.steps_per_epoch
        found.ratios.append(Ratio(what, turns["trainer"], turns["loop"], 1.03, unit=" s", per=steps))
    found.notes.append(f"On {torch.cuda.get_device_name()}.")
    return found


def looping(training: Training, precision: str) -> Callable[[], None]:
    """Return the work of one epoch of the hand-written loop."""
    model, optimizer = training.model, hand_optimizer(training.model, training)

    def work() -> None:
        model.train()
        for inputs, target in served(training):
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16-mixed"):
                moved = {m: x.to("cuda", non_blocking=True) for m, x in inputs.items()}
                loss = F.cross_entropy(model(moved).logits, target.to("cuda", non_blocking=True))
            loss.backward()
            optimizer.step()

    return work


def waited(work: Callable[[], object]) -> Callable[[], None]:
    """Return a work that ends once the device has done it."""

    def waiting() -> None:
        work()
        torch.cuda.synchronize()

    return waiting
