"""New unimodal classifiers on the encoders of a finished run, trained by the project's own loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from equipoise.data import RunData
from equipoise.methods import Run
from equipoise.methods.unimodal import Unimodal
from equipoise.models import BalancedModel
from equipoise.models.local_weights import without_weights
from equipoise.randomness import isolated_rng
from equipoise.threads import cpu_threads
from equipoise.training.assembly import ModelSpec, build_for, build_reference
from equipoise.training.finished import FitResult
from equipoise.training.loop import Training
from equipoise.training.measuring.evaluation import evaluate
from equipoise.training.option_text import to_options
from equipoise.training.record import fingerprints
from equipoise.training.record.files import read_weights, weights_of, write_weights
from equipoise.training.record.locks import locked
from equipoise.training.record.record import METRICS, WEIGHTS, RunRecord
from equipoise.training.settings import Settings
from equipoise.types import Batch, RunFolderError


@dataclass
class Classifier(Unimodal):
    """A new linear classifier on an encoder of a finished run.

    It is not a method to compare, and so outside the package of methods, where no list shows it.
    """

    figure: ClassVar[str]
    """Field of `EncoderState` for its accuracy."""

    def take_over(self, model: BalancedModel, trained_model: BalancedModel) -> None:
        """Copy the trained encoder, weights and buffers."""
        state = trained_model.encoder_module(self.modality).state_dict()
        model.encoder_module(self.modality).load_state_dict(state)


@dataclass
class Probe(Classifier):
    """Train the classifier alone: `min over h of CE(h(f_m(x^m)), y)`; the encoder does not change."""

    name = "encoder-probe"
    figure = "probe"

    def take_over(self, model: BalancedModel, trained_model: BalancedModel) -> None:
        """Copy the encoder and freeze it."""
        super().take_over(model, trained_model)
        model.encoder_module(self.modality).requires_grad_(False)

    def epoch_start(self, run: Run) -> None:
        """Keep the encoder in evaluation mode, so that its running statistics do not change either."""
        run.model.encoder_module(self.modality).eval()


@dataclass
class FineTuned(Classifier):
    """Train the classifier and the encoder: `min over h, f_m of CE(h(f_m(x^m)), y)`."""

    name = "encoder-finetune"
    figure = "fine_tuned"


def trained(
    method: Classifier,
    finished: FitResult,
    settings: Settings,
    data: RunData,
    folder: Path,
    open_test: Callable[[], Iterable[Batch]] | None = None,
) -> dict[str, Any]:
    """Train a classifier, or continue the one in its folder; see `encoder_quality`.

    `finished` is the run whose encoder it takes, and `settings` are those of the run with the classifier's
    budget. The test split is opened only if `open_test` returns it.

    Returns:
        The result of its record: `validation` has the figures of the best epoch, `test` those on the test
        split, or {}.
    """
    own = settings.with_method(f"{method.name}:{method.modality}", {}, settings.seed)
    encoder = {method.modality: finished.model.encoder_module(method.modality)}
    identity = {
        **fingerprints.of_data(data),
        "encoder_fingerprint": fingerprints.of_encoders(encoder)[method.modality],
    }
    record = RunRecord(folder)
    spec = ModelSpec.from_dict(finished.summary["model_spec"])
    # The encoder comes from the run; the file that its weights were loaded from may be missing.
    drawn = replace(own, encoder_options=without_weights(own.encoder_options))
    model = build_for(method, own, build_reference(drawn, spec))
    method.take_over(model, finished.model)
    with locked(folder, wait=True), isolated_rng():
        _open(record, own, identity)
        if record.complete and (open_test is None or record.result()["test"]):
            return record.result()
        training = Training(own, data, model, method, record)
        if record.complete:
            result: dict[str, Any] = record.result()
            read_weights(record.checked(WEIGHTS), model)
        else:
            training.fit()
            result = _result(training, own, model, record, identity)
        if open_test is not None:
            with cpu_threads(model, own.threads):
                result["test"] = evaluate(model, open_test(), data.class_count, training.device).scores
            scores = {f"test_{name}": value for name, value in result["test"].items()}
            record.append(METRICS, {"event": "test", **scores})
        record.finish(result)
    return result


def _open(record: RunRecord, settings: Settings, identity: dict[str, str]) -> None:
    """Open the folder to continue, or start again where it has another encoder or other settings."""
    options = to_options(settings)
    try:
        record.open(options, resume=True)
        started = next(record.events(METRICS), None)
        same = started is None or all(started.get(key) == value for key, value in identity.items())
    except RunFolderError:
        same = False
    if not same:
        record.open(options, overwrite=True)
    if not (record.complete or record.resumable):
        record.begin(identity)


def _result(
    training: Training, settings: Settings, model: BalancedModel, record: RunRecord, identity: dict[str, str]
) -> dict[str, Any]:
    """Write the weights, and return the result for the record."""
    write_weights(record.path(WEIGHTS), weights_of(model))
    return {
        "method": settings.method,
        "seed": settings.seed,
        **identity,
        "epochs": settings.budget.epochs,
        "best_epoch": training.best["epoch"],
        "validation": training.best["validation"],
        "test": {},
    }
