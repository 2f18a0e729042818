"""What is loaded before a command does its work; each package costs seconds in every call."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from equipoise import catalogue

HEAVY = {"torch", "pandas", "numpy", "scipy", "sklearn", "shtab"}
NOT_BEFORE_A_STEP = {
    "torchmetrics",
    "transformers",
    "matplotlib",
    "scipy",
    "sklearn",
    "statsmodels",
    "jinja2",
}
FIRST_STEP = """
import json, os, sys
from torch.optim.optimizer import register_optimizer_step_post_hook

def stop(*_):
    print(json.dumps(sorted(sys.modules)), flush=True)
    os._exit(0)

register_optimizer_step_post_hook(stop)
from equipoise.cli import main
main(sys.argv[1:])
"""
COMMAND = """
import json, sys
from equipoise.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code
    print()
    print(json.dumps(sorted(sys.modules)))
"""


def loaded(script: str, *words: str, folder: Path) -> set[str]:
    """Return the packages that are loaded when a script prints them."""
    ended = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return set(json.loads(ended.stdout.splitlines()[-1]))


def test_the_first_step_loads_only_what_it_needs(data: str, tmp_path: Path) -> None:
    found = loaded(FIRST_STEP, "train", "--data", data, "--epochs", "1", folder=tmp_path)
    assert "torch" in found
    assert not NOT_BEFORE_A_STEP & found
    assert not {name for name in found if name.startswith(("equipoise.experiments", "equipoise.report"))}


@pytest.mark.matrix  # it changes with pinned versions only
def test_fabric_does_not_change_torchmetrics() -> None:
    script = (
        "import json, sys; from equipoise.training.fabric import make_fabric; make_fabric('cpu', '32-true');"
        "from lightning_fabric.utilities.imports import _TORCHMETRICS_GREATER_EQUAL_1_0_0 as known;"
        "assert known; import torchmetrics; assert torchmetrics.Metric; print(json.dumps([]))"
    )
    loaded(script, folder=Path.cwd())


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["train", "--help"],
        ["compare", "--help"],
        ["tune", "--help"],
        ["diagnose", "--help"],
        ["predict", "--help"],
        ["export", "--help"],
        ["report", "--help"],
        ["list", "methods"],
        ["list", "datasets"],
        ["list", "models"],
        ["list", "metrics"],
    ],
    ids=" ".join,
)
def test_lists_and_help_load_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    """A list loads nothing heavy once its facts are in the cache."""
    if words[0] == "list":
        catalogue.list_methods()
    found = loaded(COMMAND, *words, folder=tmp_path)
    assert not HEAVY & found
