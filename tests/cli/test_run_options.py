"""The options of the command line are those of the settings."""

from __future__ import annotations

from dataclasses import fields

from equipoise.cli.run_options import RunOptions
from equipoise.training.option_text import from_options
from equipoise.training.settings import Budget, Settings


def test_defaults_do_not_drift_apart() -> None:
    assert from_options(RunOptions().to_dict()) == Settings(data="htad")


def test_every_setting_can_be_given() -> None:
    settings = {field.name for kind in (Settings, Budget) for field in fields(kind)}
    given_otherwise = {"budget", "method", "method_options", "seed", "encoder_options", "fusion_options"}
    given_otherwise |= {"augment_options"}
    options = {field.name for field in fields(RunOptions)}
    assert options == (settings - given_otherwise) | {"encoder_option", "fusion_option", "augment_option"}
