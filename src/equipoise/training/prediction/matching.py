"""Whether a model can read a dataset: its modalities by name, shape, kind and type, and its tokens."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from equipoise.data import ModalitySpec, PreparedDataset
from equipoise.diagnosis.features.capture import encoders_of
from equipoise.models import BalancedModel
from equipoise.types import DataError

NUMBERS = {"f": "floats", "i": "integers", "u": "integers", "b": "bools"}
EIGHT_BITS = "uint8"
"""The type of pixels, which are scaled by 1/255; it is read as itself only."""


def matched(
    dataset: PreparedDataset, specs: Mapping[str, ModalitySpec], modalities: Sequence[str]
) -> PreparedDataset:
    """Return a dataset with some of its modalities only, which are described as those of a run are.

    Raises:
        DataError: one is missing or differs.
    """
    found = dataset.modalities
    check_there(repr(dataset.name), found, modalities)
    for m in modalities:
        if (one := _described(found[m])) != (other := _described(specs[m])):
            raise DataError(
                f"the modality {m!r} of {dataset.name!r} is {one}, and the run was trained on {other}; "
                "prepare it in the same way."
            )
    return dataset.only(modalities)


def check_there(what: str, found: Collection[str], modalities: Sequence[str]) -> None:
    """Raise DataError if data do not have a modality; `what` names them, `found` are those that they have."""
    lacking = [m for m in modalities if m not in found]
    if not lacking:
        return
    remedy = "give other data"
    if len(lacking) < len(modalities):
        remedy = f"add it, or leave it out (--without {' '.join(lacking)}, without={lacking!r})"
    raise DataError(
        f"{what} has no modality {', '.join(map(repr, lacking))}, which the model reads; it has "
        f"{', '.join(map(repr, found)) or 'none'}: {remedy}."
    )


def check_vocabulary(model: BalancedModel, dataset: PreparedDataset) -> None:
    """Raise DataError if a token is none of those that an encoder knows."""
    encoders = encoders_of(model)
    for m, spec in dataset.modalities.items():
        size = getattr(encoders[m], "vocabulary", None)
        if spec.kind != "tokens" or not isinstance(size, int):
            continue
        tokens = dataset.array(m)
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= size:
            raise DataError(
                f"the modality {m!r} of {dataset.name!r} has the token {low if low < 0 else high}, and the "
                f"model knows 0 to {size - 1}; prepare the texts as those of the run."
            )


def _described(spec: ModalitySpec) -> str:
    if spec.kind == "tokens":
        return f"tokens {list(spec.shape)}"
    kind = spec.stored_type.kind
    numbers = f"pixels ({EIGHT_BITS})" if spec.dtype == EIGHT_BITS else NUMBERS[kind]
    return f"{spec.kind} {list(spec.shape)} of {numbers}"
