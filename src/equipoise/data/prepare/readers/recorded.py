"""Readers from the record of a preparation, to read further samples in the same way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final, get_type_hints

from equipoise.data.prepare.clips import ModalityReader
from equipoise.data.prepare.readers.audio_video import FbankReader, FramesReader, ImageReader, StftReader
from equipoise.data.prepare.readers.avletters import LipsReader, MfccReader
from equipoise.data.prepare.readers.flow import FlowFoldersReader, FlowImagesReader, FlowReader
from equipoise.data.prepare.readers.table import ArrayFileReader, CellTextReader, NumbersReader
from equipoise.data.prepare.readers.text import TokensReader
from equipoise.typed_options import check_types
from equipoise.types import DataError, UsageError

READERS: Final[Mapping[str, type[ModalityReader]]] = {
    kind.__name__: kind
    for kind in (
        *(StftReader, FbankReader, FramesReader, ImageReader),
        *(FlowReader, FlowImagesReader, FlowFoldersReader),
        *(MfccReader, LipsReader),
        *(NumbersReader, CellTextReader, ArrayFileReader, TokensReader),
    )
}
"""All that a record may name: a name in a file never imports anything."""
REMEDY: Final = "prepare the new samples yourself (equipoise prepare), and give the result as data"


def as_recorded(
    recorded: Mapping[str, Mapping[str, Any]], own: Mapping[str, ModalityReader]
) -> dict[str, ModalityReader]:
    """Return a reader for each recorded description: one of `own` that says the same of itself, or a new one.

    Raises:
        DataError: there is no such reader, or its fields are not those of a description.
    """
    found = {}
    for modality, described in recorded.items():
        reader = own.get(modality)
        same = reader is not None and json.loads(json.dumps(reader.describe())) == described
        found[modality] = reader if reader is not None and same else restored_reader(modality, described)
    return found


def restored_reader(modality: str, described: Mapping[str, Any]) -> ModalityReader:
    """Return the reader of which `describe` said this; see `as_recorded`."""
    values = dict(described)
    name = values.pop("reader", None)
    if name not in READERS:
        raise DataError(
            f"the modality {modality!r} was read by {name!r}, which is none of {', '.join(READERS)}; "
            f"{REMEDY}."
        )
    if values.get("tokenizer") is not None:
        raise DataError(
            f"the modality {modality!r} was read with a pretrained tokenizer, and the record has its "
            f"fingerprint ({values['tokenizer']}) but not its folder; {REMEDY}."
        )
    try:
        reader: ModalityReader = _restored(READERS[name], values)
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"the record of how the modality {modality!r} was read is damaged ({error}); {REMEDY}."
        ) from error
    return reader


def _restored(kind: type, values: Mapping[str, Any]) -> Any:
    hints, known = get_type_hints(kind), {field.name for field in fields(kind)}
    if unknown := sorted(set(values) - known):
        raise UsageError(f"{kind.__name__} has no field {unknown[0]!r}")
    given = {name: _of_type(hints[name], value) for name, value in values.items()}
    check_types(kind, given)
    return kind(**given)


def _of_type(hint: Any, value: Any) -> Any:
    """Return a plain value as its field has it: JSON knows neither tuples nor dataclasses."""
    if isinstance(value, list):
        return tuple(value)
    return _restored(hint, value) if is_dataclass(hint) and isinstance(hint, type) else value
