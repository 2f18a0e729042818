"""Settings as options in text, as the command line and `config.yaml` have them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from equipoise.files.untrusted import parse_yaml, parsing
from equipoise.training.settings import Settings
from equipoise.types import RunFolderError, UsageError

IN_TEXT: Final = {
    "method_options": "set",
    "encoder_options": "encoder_option",
    "fusion_options": "fusion_option",
    "augment_options": "augment_option",
}
"""Settings that are mappings, and the option that holds each of them as a list of NAME=VALUE texts."""


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as a number, which to YAML 1.1 is a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse_assignments(texts: Iterable[str], option: str) -> dict[str, Any]:
    """Read `name=value` texts; values are YAML: `3`, `true`, `[1, 2]`, `{a: 1}`.

    Raises:
        UsageError: a text has no `=`, a name occurs twice, or a value is not YAML.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--{option} {text!r} has no '='; expected NAME=VALUE.")
        if name in values:
            raise UsageError(f"--{option} gives {name!r} twice.")

        def refuse(_: str, text: str = text, value: str = value) -> UsageError:
            return UsageError(f"--{option} {text!r}: cannot read the value {value!r}.")

        with parsing(refuse):
            values[name] = parse_yaml(value, _Loader)
    return values


def parse_varied(texts: Iterable[str]) -> dict[str, list[Any]]:
    """Read `name=value,value` texts; each value is YAML, see `parse_assignments`.

    Raises:
        UsageError: as there.
    """
    listed = (re.sub("=(.*)", r"=[\1]", text, count=1, flags=re.DOTALL) for text in texts)
    found = parse_assignments(listed, "vary")
    return {name if "." in name else name.replace("-", "_"): values for name, values in found.items()}


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
    options: dict[str, Any] = {}
    for key, value in settings.to_dict().items():
        if key in IN_TEXT:
            named = _flat(value) if key == "encoder_options" else value
            options[IN_TEXT[key]] = [f"{name}={json.dumps(own)}" for name, own in named.items()]
        elif key == "encoder":
            options[key] = [value] if isinstance(value, str) else [f"{m}={name}" for m, name in value.items()]
        elif value is not None:
            options[key] = value
    # Runs of versions that did not have these options are the same runs as those that leave them off.
    if settings.budget.augment == "none":
        del options["augment"], options["augment_option"]
    if not settings.trace:
        del options["trace"]
    return options


def from_options(options: Mapping[str, Any]) -> Settings:
    """Read settings from options; the counterpart of `to_options`.

    Raises:
        UsageError: an option does not exist or cannot be read.
    """
    values = to_keywords(options)
    if "data" not in values:
        raise UsageError("the options lack 'data'; expected the name of a dataset, or its folder.")
    return Settings.from_options(**values)


def recorded_settings(options: Mapping[str, Any], file: Path) -> Settings:
    """Read settings from the options that a file holds; see `from_options`.

    Raises:
        RunFolderError: an option does not exist or cannot be read; the file is named.
    """
    try:
        return from_options(options)
    except UsageError as error:
        raise RunFolderError(f"{file} holds no settings of a run: {error}") from error


def to_keywords(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as the arguments of `Settings.from_options`, those that are given.

    Raises:
        UsageError: an option cannot be read.
    """
    values = {key: value for key, value in options.items() if value is not None}
    for key, option in IN_TEXT.items():
        if option in values:
            read = parse_assignments(_texts(values.pop(option), option), option.replace("_", "-"))
            nest = key == "encoder_options"
            values[key] = nested(read, "encoder-option", "MODALITY.OPTION") if nest else read
    if encoder := values.pop("encoder", None):
        values["encoder"] = parse_encoders(
            [encoder] if isinstance(encoder, str) else _texts(encoder, "encoder")
        )
    return values


def _texts(value: Any, option: str) -> list[str] | tuple[str, ...]:
    """Return the texts of an option, which come from a file."""
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise UsageError(f"the option {option!r} is {repr(value)[:80]}; expected a list of texts.")
    return value


def _flat(options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{owner}.{name}": value for owner, own in options.items() for name, value in own.items()}
