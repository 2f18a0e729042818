"""Settings as options in text, which is how the command line and `config.yaml` hold them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from equipoise.training.settings import Settings
from equipoise.types import UsageError


def parse_assignments(texts: Iterable[str], option: str) -> dict[str, Any]:
    """Read `name=value` texts; values are YAML: `3`, `true`, `[1, 2]` and `{a: 1}` are what they look like.

    Raises:
        UsageError: a text has no `=`, a name stands twice, or a value is no YAML.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--{option} {text!r} has no '='; expected NAME=VALUE.")
        if name in values:
            raise UsageError(f"--{option} gives {name!r} twice.")
        try:
            values[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UsageError(f"--{option} {text!r}: cannot read the value {value!r}.") from None
    return values


def nested(values: Mapping[str, Any], option: str, form: str) -> dict[str, dict[str, Any]]:
    """Sort values named `owner.name` by owner.

    Raises:
        UsageError: a name has no dot.
    """
    sorted_values: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        owner, dot, name = key.rpartition(".")
        if not dot or not owner:
            raise UsageError(f"--{option} {key}=...: expected {form}=VALUE.")
        sorted_values.setdefault(owner, {})[name] = value
    return sorted_values


def parse_encoders(texts: Sequence[str]) -> str | dict[str, str]:
    """Read one encoder for all modalities, or `modality=encoder` texts.

    Raises:
        UsageError: several names for all modalities, or both forms at once.
    """
    if len(texts) == 1 and "=" not in texts[0]:
        return texts[0]
    encoders = {}
    for text in texts:
        modality, equals, name = text.rpartition("=")
        if not equals or not modality:
            raise UsageError(f"--encoder {text!r}: expected one name for all, or MODALITY=NAME for each.")
        encoders[modality] = name
    return encoders


def to_options(settings: Settings) -> dict[str, Any]:
    """Return settings under the names and in the form of the options of `equipoise train`."""
    flat = settings.to_dict()
    method_options, encoder = flat.pop("method_options"), flat.pop("encoder")
    encoder_options, fusion_options = flat.pop("encoder_options"), flat.pop("fusion_options")
    augment_options = flat.pop("augment_options")
    if flat["augment"] == "none":
        del flat["augment"]
    if not flat["trace"]:  # runs of before it was there are the same runs
        del flat["trace"]
    options: dict[str, Any] = {}
    for key, value in flat.items():
        if value is not None:
            options[key] = value
        if key == "augment":
            options["augment_option"] = [
                f"{name}={json.dumps(entry)}" for name, entry in augment_options.items()
            ]
        if key == "fusion":
            options["fusion_option"] = [
                f"{name}={json.dumps(entry)}" for name, entry in fusion_options.items()
            ]
        if key == "method":
            options["set"] = [f"{name}={json.dumps(entry)}" for name, entry in method_options.items()]
        if key == "model":
            by_modality = [] if isinstance(encoder, str) else [f"{m}={name}" for m, name in encoder.items()]
            options["encoder"] = [encoder] if isinstance(encoder, str) else by_modality
            options["encoder_option"] = [
                f"{modality}.{name}={json.dumps(value)}"
                for modality, values in encoder_options.items()
                for name, value in values.items()
            ]
    return options


def from_options(options: Mapping[str, Any]) -> Settings:
    """Read settings from options; the counterpart of `to_options`.

    Raises:
        UsageError: an option does not exist or cannot be read.
    """
    values = {key: value for key, value in options.items() if value is not None}
    encoder = values.pop("encoder", None) or ["auto"]
    assignments = parse_assignments(values.pop("encoder_option", None) or [], "encoder-option")
    return Settings.from_options(
        values.pop("data"),
        method_options=parse_assignments(values.pop("set", None) or [], "set"),
        encoder=parse_encoders([encoder] if isinstance(encoder, str) else encoder),
        encoder_options=nested(assignments, "encoder-option", "MODALITY.OPTION"),
        augment_options=parse_assignments(values.pop("augment_option", None) or [], "augment-option"),
        fusion_options=parse_assignments(values.pop("fusion_option", None) or [], "fusion-option"),
        **values,
    )
