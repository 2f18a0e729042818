"""The options of the command line are the fields of the settings, with the texts of their docstrings."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from equipoise.cli.arguments import DEFAULT_DATA, help_texts, settings_arguments
from equipoise.training.option_text import IN_TEXT, from_options, to_options
from equipoise.training.recipe import recipes
from equipoise.training.settings import Budget, Settings

NOT_OF_A_COMPARISON = {"method", "set", "seed"}
"""Settings that `compare` replaces with its own options, or that have a different meaning there."""


def options() -> set[str]:
    """Return the names of the options for the settings."""
    return {IN_TEXT.get(f.name, f.name) for kind in (Settings, Budget) for f in fields(kind)} - {"budget"}


def test_every_field_is_an_option_with_its_default() -> None:
    defaults = {argument.name: argument.default for argument in settings_arguments()}
    assert set(defaults) == options()
    # The data are vectors, as `Budget` assumes; only clipping is no default of its own, see `LEFT_OUT`.
    clipped = Budget(clip_norm=recipes()["vectors"].budget["clip_norm"])
    assert from_options(defaults) == Settings(data=DEFAULT_DATA, budget=clipped)


@pytest.mark.parametrize("kind", [Settings, Budget])
def test_every_field_has_one_text_and_no_text_is_unused(kind: type) -> None:
    texts = help_texts(kind)
    assert set(texts) == {field.name for field in fields(kind)}
    assert all(text.endswith(".") for text in texts.values())


@pytest.mark.parametrize(("command", "missing"), [("train", set()), ("compare", NOT_OF_A_COMPARISON)])
def test_the_help_shows_every_field(equipoise, command: str, missing: set[str]) -> None:
    shown = " ".join(re.sub(r"[│╭╮╰╯─]", " ", equipoise(command, "--help").out).split())
    texts = {
        IN_TEXT.get(name, name): text
        for kind in (Settings, Budget)
        for name, text in help_texts(kind).items()
    }
    for name in options() - missing:
        assert f"--{name.replace('_', '-')} " in shown
        assert texts[name].replace("`", "") in shown, name


def test_settings_survive_conversion_to_text_and_back() -> None:
    settings = Settings.from_options(
        "htad",
        method="diagnose-relearn+multi-loss",
        method_options={"diagnose-relearn.lam": 5.0, "diagnose-relearn.targets": ["audio"]},
        encoder={"audio": "mlp", "accelerometer": "sequence-cnn"},
        encoder_options={"audio": {"widths": [8, 8]}, "accelerometer": {"widths": [4]}},
        fusion="film",
        fusion_options={"by": "audio"},
        augment="standard",
        augment_options={"flip": 0.0},
        split_seed="run",
        trace=True,
        modalities=["audio", "accelerometer"],
    )
    assert from_options(to_options(settings)) == settings
