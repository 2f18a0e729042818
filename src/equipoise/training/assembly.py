"""Data, splits and model of a run, from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.data import PreparedDataset, RunData, Splits, guard, leaks_in_words, load_dataset, splits_of
from equipoise.distributed import by_first, process_count, process_rank
from equipoise.methods import Method
from equipoise.methods.core.method import overrides
from equipoise.models import BalancedModel, build_model
from equipoise.models.build import Shapes, describe, drawing, encoder_names, reasons
from equipoise.models.custom import custom_model
from equipoise.models.encoders.token_bag import TokenBag
from equipoise.models.encoders.token_transformer import TokenTransformer, refuse_unknown
from equipoise.tasks import CLASSIFICATION, task_named
from equipoise.training.settings import Settings
from equipoise.types import LeakError, ModelError, UsageError

VERIFIED_BYTES = 256 * 2**20
"""Datasets up to this size are checked before each run for changes since they were written."""


@dataclass(frozen=True)
class ModelSpec:
    """What a model is built from; kept in the result, so that the model can be rebuilt without the data.

    Attributes:
        shapes: modality to shape and kind of one sample.
        num_classes: `C`; the number of labels, 1 for a number.
        task: what the target is.
    """

    shapes: Shapes
    num_classes: int
    task: str = CLASSIFICATION.name

    @classmethod
    def of(cls, dataset: PreparedDataset) -> ModelSpec:
        """Return the specification for a dataset."""
        return cls(
            {m: (spec.shape, spec.kind) for m, spec in dataset.modalities.items()},
            len(dataset.classes) or 1,
            dataset.task,
        )

    def to_dict(self) -> dict[str, object]:
        """Return the specification as plain values."""
        shapes = {m: {"shape": list(shape), "kind": kind} for m, (shape, kind) in self.shapes.items()}
        return {"shapes": shapes, "num_classes": self.num_classes, "task": self.task}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelSpec:
        """Read what `to_dict` returned."""
        shapes = {m: (tuple(held["shape"]), held["kind"]) for m, held in values["shapes"].items()}
        task = values.get("task", CLASSIFICATION.name)  # records of older versions have no task
        return cls(shapes, values["num_classes"], task)


def dataset_of(settings: Settings) -> PreparedDataset:
    """Open the dataset of a run, with the modalities that it uses."""
    dataset = load_dataset(settings.data)
    return dataset if settings.modalities is None else dataset.only(settings.modalities)


def prepare_data(settings: Settings) -> tuple[PreparedDataset, RunData]:
    """Load a dataset, split it three ways, and check that nothing occurs in two splits.

    Raises:
        UnknownNameError, DataError, LeakError: see `load_dataset`, `splits_of` and `guard`.
    """
    dataset = dataset_of(settings)
    if settings.trace and dataset.task != CLASSIFICATION.name:
        raise UsageError(
            f"a trace measures the purity of clusters by class, and the target of {dataset.name!r} is "
            f"{dataset.task}; train without it."
        )
    settings.budget.selector(task_named(dataset.task))
    splits = splits_of(dataset, settings.splitting_seed)
    by_first(lambda: _check(dataset, splits, settings.allow_leaks))
    return dataset, RunData(
        dataset,
        splits,
        batch_size=settings.budget.batch_size,
        seed=settings.seed,
        num_workers=settings.num_workers,
        share=(process_rank(), process_count()),
        augment=settings.budget.augmentation(),
    )


def check_unchanged(dataset: PreparedDataset) -> None:
    """Raise DataError if arrays have changed since they were written; large ones are not read for this."""
    if sum(spec.row_bytes for spec in dataset.modalities.values()) * len(dataset) <= VERIFIED_BYTES:
        dataset.verify()


def _check(dataset: PreparedDataset, splits: Splits, allow_leaks: bool) -> None:
    """Check that nothing has changed since the data were written, and that nothing occurs in two splits."""
    check_unchanged(dataset)
    leaks = guard(dataset, splits, allow=allow_leaks)
    # Diagnosis and selection use validation, so it must never contain a test sample.
    grave = [leak for leak in leaks if leak.kind in ("id", "content")]
    if tested := [leak for leak in grave if {"val", "test"} <= set(leak.splits)]:
        raise LeakError(
            f"{leaks_in_words(dataset, tested, leaks)}; selection uses validation, so this is refused even "
            "with allow_leaks. Remove these samples from one split."
        )


def build_reference(settings: Settings, spec: ModelSpec) -> BalancedModel:
    """Build the joint model, whose encoders every method of a comparison starts from."""
    if settings.model != "auto":
        own = custom_model(settings.model, spec.shapes, spec.num_classes, seed=settings.seed)
        if process_count() > 1 and not isinstance(own, BalancedModel):
            raise ModelError(
                f"{settings.model!r} gives a {type(own).__name__}, whose features processes cannot exchange; "
                "derive it from equipoise.models.BalancedModel, or train in one process."
            )
        if own.task != spec.task:
            raise ModelError(
                f"{settings.model!r} is a model for {own.task}, and the data are {spec.task}; set its "
                f"attribute task = {spec.task!r}."
            )
        return own
    return build_model(
        spec.shapes,
        spec.num_classes,
        encoders=settings.encoder,
        encoder_options=settings.encoder_options,
        fusion=settings.fusion,
        fusion_options=settings.fusion_options,
        seed=settings.seed,
        task=spec.task,
    )


def check_tokens(model: BalancedModel, dataset: PreparedDataset) -> None:
    """Raise ModelError if an encoder does not know a token of the data; training might meet it only later."""
    for name, encoder in getattr(model, "encoders", {}).items():
        if isinstance(encoder, (TokenBag, TokenTransformer)) and name in dataset.modalities:
            tokens = dataset.array(name)
            refuse_unknown(
                int(tokens.min()), int(tokens.max()), encoder.vocabulary, encoder.name, "vocabulary"
            )


def build_for(method: Method, settings: Settings, reference: BalancedModel) -> BalancedModel:
    """Build the model that a method trains, around the encoders of the reference.

    Weights that a method adds come from a random stream of their own, so that they are the same in a
    combination.

    Raises:
        UsageError: in a combination, one method cannot work with the model that another one builds.
    """
    model = reference
    for member in method.members():
        with drawing(settings.seed, "model of", member.name):
            model = member.build(model)
            model.task = reference.task
    if model is not reference:
        for member in method.members():
            if not overrides(member, "build"):
                member.check(model)
    return model


def model_name(settings: Settings, spec: ModelSpec) -> str:
    """Return the name of the model of a comparison."""
    if settings.model != "auto":
        return settings.model
    return describe(encoder_names(spec.shapes, settings.encoder), settings.fusion)


def model_facts(settings: Settings, spec: ModelSpec) -> dict[str, Any]:
    """Return what a record says of the model: name, recipe, and each encoder with the reason."""
    named = {} if settings.model != "auto" else encoder_names(spec.shapes, settings.encoder)
    why = reasons(spec.shapes, settings.encoder) if named else {}
    encoders = {m: {"name": name, "why": why[m]} for m, name in named.items()}
    return {"model": model_name(settings, spec), "encoders": encoders, "recipe": settings.recipe}
