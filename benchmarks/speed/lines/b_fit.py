"""A whole `fit` against the bare loop of the same epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from sets import (
    HTAD,
    PlainMLP,
    Split,
    avletters,
    folder,
    hand_epoch,
    hand_optimizer,
    served,
    shuffled,
    tensors_of,
    training_of,
)
from torch import Tensor, nn
from torch.nn import functional as F
from turns import Found, Ratio, Size, in_turn

import equipoise as eq
from equipoise.data import load_dataset
from equipoise.data.format.batches import SplitData
from equipoise.training.assembly import prepare_data
from equipoise.training.settings import Settings

TITLE = "A whole `fit` against the bare loop of the same epochs"


def measure(size: Size) -> Found:
    found = Found()
    for name, data, bare, epochs, rounds, asked in (
        ("MLP", HTAD, bare_mlp, size.of(60, 2), size.of(9, 1), 1.3),
        ("video CNN", avletters(), bare_videos, size.of(20, 1), size.of(3, 1), 1.15),
    ):
        results: list[eq.FitResult] = []
        works = {
            "fit": fitting(data, epochs, results),
            "without looks": fitting(data, epochs, [], diagnose_every=0),
            "bare": bare(data, epochs),
        }
        turns, what = in_turn(works, rounds), f"{name}, {epochs} epochs"
        found.ratios += [
            Ratio(f"{what}: fit / bare loop", turns["fit"], turns["bare"], asked, unit=" s"),
            Ratio(f"{what}: without looks / bare loop", turns["without looks"], turns["bare"], unit=" s"),
        ]
        parts = {part: results[-1].summary[f"{part}_seconds"] for part in ("train", "look", "floor")}
        found.table.append({"seconds of a fit": name, **parts})
    found.notes.append(
        "The bare loop builds the model, trains the epochs, computes loss and accuracy on the validation "
        "split after each, keeps the best weights, computes both on the test split at the end, and saves "
        "the weights. It begins with the tensors in memory. `fit` also opens and checks the data, counts, "
        "records, selects by more figures, looks at the features during training, fits the linear probes "
        "and the floor, writes all predictions and reads the run back. Imports are not counted."
    )
    return found


def fitting(data: str, epochs: int, results: list[eq.FitResult], **options: int) -> Callable[[], None]:
    return lambda: results.append(eq.fit(data, epochs=epochs, **options))


def bare_mlp(data: str, epochs: int) -> Callable[[], None]:
    training = training_of(data)
    inputs, target = tensors_of(training._source)
    widths = {m: x.shape[1] for m, x in inputs.items()}
    val, test = tensors_of(training.val.dataset), tensors_of(test_split(data))

    def work() -> None:
        model = PlainMLP(widths, training._num_classes)
        optimizer = hand_optimizer(model, training)
        batches = [shuffled(inputs, target, training.batch_size) for _ in range(epochs)]
        whole_loop(model, optimizer, batches, val, test)

    return work


def bare_videos(data: str, epochs: int) -> Callable[[], None]:
    training = training_of(data, epochs=epochs)
    shapes = {m: (spec.shape, spec.kind) for m, spec in load_dataset(data).modalities.items()}
    val, test = tensors_of(training.val.dataset), tensors_of(test_split(data))

    def work() -> None:
        model = eq.build_model(shapes, training._num_classes)
        optimizer = hand_optimizer(model, training)
        whole_loop(model, optimizer, [served(training) for _ in range(epochs)], val, test)

    return work


def test_split(data: str) -> SplitData:
    return prepare_data(Settings.from_options(data))[1].open_test().dataset


def whole_loop(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    epochs: Sequence[Iterable[Split]],
    val: Split,
    test: Split,
) -> None:
    """Train and evaluate; see the note below the table."""
    best, kept = -1.0, {}
    for epoch in epochs:
        hand_epoch(model, optimizer, epoch)
        _, accuracy = scores(model, *val)
        if accuracy > best:
            best, kept = accuracy, {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(kept)
    scores(model, *test)
    torch.save(kept, folder() / "bare.pt")


@torch.no_grad()
def scores(
    model: nn.Module, inputs: Mapping[str, Tensor], target: Tensor, batch: int = 64
) -> tuple[float, float]:
    """Return loss and accuracy."""
    model.eval()
    outputs = []
    for start in range(0, len(target), batch):
        output = model({m: x[start : start + batch] for m, x in inputs.items()})
        outputs.append(output if isinstance(output, Tensor) else output.logits)
    logits = torch.cat(outputs)
    return float(F.cross_entropy(logits, target)), float((logits.argmax(dim=1) == target).float().mean())
