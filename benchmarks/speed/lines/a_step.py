"""Seconds a step against a hand-written loop."""

from __future__ import annotations

from collections.abc import Callable

from sets import (
    HTAD,
    PlainMLP,
    avletters,
    epoch_of,
    hand_epoch,
    hand_optimizer,
    images,
    model_of,
    served,
    shuffled,
    tensors_of,
    training_of,
)
from turns import Found, Ratio, Size, in_turn

import equipoise as eq
from equipoise.data import load_dataset
from equipoise.models.encoders import frame_cnn

TITLE = "Seconds a step against a hand-written loop"


def measure(size: Size) -> Found:
    found = Found()
    mlp(found, size)
    videos(found, size)
    resnet(found, size)
    found.notes.append(
        "The hand-written loop is zero_grad, forward, loss, backward, step. For the MLP it has a model of "
        "plain layers and takes shuffled batches from tensors. For the other two it has the same model "
        "and the same batches (on AVLetters augmented, by AdamW) as the trainer, because line (e) "
        "measures reading."
    )
    return found


def mlp(found: Found, size: Size) -> None:
    """The MLP on HTAD: the trainer, a loop with a plain model, and user-defined loops with methods."""
    training, epochs = training_of(HTAD), size.of(8, 1)
    inputs, target = tensors_of(training._source)
    batch = training.batch_size
    model = PlainMLP({m: x.shape[1] for m, x in inputs.items()}, training._num_classes)
    optimizer = hand_optimizer(model, training)

    def plain() -> None:
        for _ in range(epochs):
            hand_epoch(model, optimizer, shuffled(inputs, target, batch))

    works = {"trainer": epoch_of(training, epochs), "plain": plain}
    works |= {name: by_hand(name, epochs) for name in ("joint", "ogm-ge")}
    turns = in_turn(works, size.of(15, 1))
    steps = epochs * training.steps_per_epoch
    names = {"trainer": "trainer", "joint": "by_hand joint", "ogm-ge": "by_hand ogm-ge"}
    for name, shown in names.items():
        what = f"MLP, batch {batch}: {shown} / hand-written"
        asked = 1.15 if name == "trainer" else None
        found.ratios.append(Ratio(what, turns[name], turns["plain"], asked, unit=" s", per=steps))


def by_hand(name: str, epochs: int) -> Callable[[], None]:
    """Return the work of a user-defined loop with a method, over the batches of the trainer."""
    training = training_of(HTAD)
    shapes = {m: (spec.shape, spec.kind) for m, spec in load_dataset(HTAD).modalities.items()}
    model = eq.build_model(shapes, training._num_classes)
    optimizer = hand_optimizer(model, training)

    def work() -> None:
        method = eq.by_hand(name, model, train_loader=training.train, optimizer=optimizer, epochs=epochs)
        for _ in method.epochs():
            model.train()
            for batch in training.train:
                optimizer.zero_grad()
                method.loss(batch).backward()
                method.on_gradients()
                optimizer.step()

    return work


def videos(found: Found, size: Size) -> None:
    """The default training of AVLetters, against the loop, and against channels-first convolutions."""
    training, other = training_of(avletters()), training_of(avletters())
    model = model_of(avletters())
    optimizer = hand_optimizer(model, other)
    first = training_of(avletters())

    def channels_first() -> None:
        usual, frame_cnn.channels_last = frame_cnn.channels_last, lambda x: x
        try:
            epoch_of(first)()
        finally:
            frame_cnn.channels_last = usual

    works = {
        "trainer": epoch_of(training),
        "loop": lambda: hand_epoch(model, optimizer, served(other)),
        "channels first": channels_first,
    }
    turns, steps = in_turn(works, size.of(7, 1), warm=not size.quick), training.steps_per_epoch
    batch = training.batch_size
    found.ratios += [
        Ratio(
            f"video CNN, batch {batch}: trainer / hand-written",
            turns["trainer"],
            turns["loop"],
            1.05,
            unit=" s",
            per=steps,
        ),
        Ratio(
            f"video CNN, batch {batch}: channels first / trainer",
            turns["channels first"],
            turns["trainer"],
            unit=" s",
            per=steps,
        ),
    ]


def resnet(found: Found, size: Size) -> None:
    """ResNet-18 on images of 224 x 224, in single precision."""
    data, batch = images(size.of(64, 8), size.of(224, 32)), size.of(8, 2)
    options = {"encoder": {"image": "resnet18", "vector": "mlp"}, "recipe": "paper", "batch_size": batch}
    training, other = (training_of(data, epochs=1, **options) for _ in range(2))
    model = model_of(data, epochs=1, **options)
    optimizer = hand_optimizer(model, other)
    works = {
        "trainer": epoch_of(training),
        "loop": lambda: hand_epoch(model, optimizer, served(other)),
    }
    turns = in_turn(works, size.of(5, 1), warm=not size.quick)
    what = f"ResNet-18 at {size.of(224, 32)}, batch {batch}: trainer / hand-written"
    found.ratios.append(
        Ratio(what, turns["trainer"], turns["loop"], 1.03, unit=" s", per=training.steps_per_epoch)
    )
