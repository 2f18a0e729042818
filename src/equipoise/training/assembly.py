"""Data, splits and model of a run, from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from equipoise.data import PreparedDataset, RunData, guard, load_dataset, splits_of
from equipoise.methods import Method
from equipoise.methods.base import overrides
from equipoise.models import (
    BalancedModel,
    build_model,
    custom_model,
    describe,
    encoder_names,
)
from equipoise.models.build import Shapes, drawing
from equipoise.training.settings import Settings
from equipoise.types import DataError, LeakError

VERIFIED_BYTES = 256 * 2**20
"""Datasets up to this size are read through before each run, to see that nobody changed them."""


@dataclass(frozen=True)
class ModelSpec:
    """What a model is built from; kept in the result, so that it can be built again without the data.

    Attributes:
        shapes: modality to shape and kind of one sample.
        num_classes: `C`.
    """

    shapes: Shapes
    num_classes: int

    @classmethod
    def of(cls, dataset: PreparedDataset) -> ModelSpec:
        """Return what a dataset asks of a model."""
        return cls(
            {m: (spec.shape, spec.kind) for m, spec in dataset.modalities.items()}, len(dataset.classes)
        )

    def to_dict(self) -> dict[str, object]:
        """Return the specification as plain values."""
        shapes = {m: {"shape": list(shape), "kind": kind} for m, (shape, kind) in self.shapes.items()}
        return {"shapes": shapes, "num_classes": self.num_classes}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> ModelSpec:
        """Read what `to_dict` gave."""
        shapes, classes = values["shapes"], values["num_classes"]
        assert isinstance(shapes, Mapping)
        assert isinstance(classes, int)
        return cls({m: (tuple(s["shape"]), str(s["kind"])) for m, s in shapes.items()}, classes)


def prepare_data(settings: Settings) -> tuple[PreparedDataset, RunData]:
    """Load a dataset, split it three ways, and check that nothing stands in two splits.

    Raises:
        UnknownNameError, DataError, LeakError: see `load_dataset`, `splits_of` and `guard`.
    """
    dataset = load_dataset(settings.data)
    if dataset.task != "classification":
        raise DataError(
            f"{dataset.name!r} has a numeric target, and training knows losses for classes only; prepare it "
            "with classes as target."
        )
    if sum(spec.row_bytes for spec in dataset.modalities.values()) * len(dataset) <= VERIFIED_BYTES:
        dataset.verify()
    splits = splits_of(dataset, settings.splitting_seed)
    for leak in guard(dataset, splits, allow=settings.allow_leaks):
        if leak.kind in ("id", "content") and {"val", "test"} <= set(leak.splits):
            # Diagnosis and selection see validation, so that it must never hold a test sample.
            raise LeakError(
                f"{leak}; validation decides, so this is refused even with allow_leaks: repair it."
            )
    return dataset, RunData(
        dataset,
        splits,
        batch_size=settings.budget.batch_size,
        seed=settings.seed,
        num_workers=settings.num_workers,
        augment=settings.budget.augmentation(),
    )


def build_reference(settings: Settings, spec: ModelSpec) -> BalancedModel:
    """Build the joint model, whose encoders every method of a comparison starts from."""
    if ":" in settings.model:
        return custom_model(settings.model, spec.shapes, spec.num_classes, seed=settings.seed)
    return build_model(
        spec.shapes,
        spec.num_classes,
        encoders=settings.encoder,
        encoder_options=settings.encoder_options,
        fusion=settings.fusion,
        fusion_options=settings.fusion_options,
        seed=settings.seed,
    )


def build_for(method: Method, settings: Settings, reference: BalancedModel) -> BalancedModel:
    """Build the model that a method trains, around the encoders of the reference.

    What a method adds is drawn from a stream of its own, so that it is the same within a combination.

    Raises:
        UsageError: in a combination, one method cannot work with the model that another one brings.
    """
    model = reference
    for member in method.members():
        with drawing(settings.seed, "model of", member.name):
            model = member.build(model)
    if model is not reference:
        for member in method.members():
            if not overrides(member, "build"):
                member.check(model)
    return model


def model_name(settings: Settings, spec: ModelSpec) -> str:
    """Return the name of the model that a comparison is made with."""
    if settings.model != "auto":
        return settings.model
    return describe(encoder_names(spec.shapes, settings.encoder), settings.fusion)
