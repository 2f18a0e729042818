"""The types of keyword options: they are those of the dataclasses, and mypy uses them."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from torch import Tensor, nn

import equipoise as eq
from equipoise.relearning.options import RelearnOptions
from equipoise.training.settings import Budget, Settings

ROOT = Path(__file__).parents[1]


def test_the_files_are_what_the_command_writes() -> None:
    spec = importlib.util.spec_from_file_location("write_keywords", ROOT / "benchmarks" / "keywords.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    for name, write in program.FILES.items():
        file = ROOT / "src" / "equipoise" / name
        assert file.read_text(encoding="utf-8") == write(), "run: make keywords"


RUN = (Settings, Budget)
DIAGNOSIS = (eq.DiagnosisOptions,)


@pytest.mark.parametrize(
    ("called", "kinds", "without"),
    [
        (eq.fit, RUN, {"budget"}),
        (eq.compare, RUN, {"budget", "method", "seed"}),
        (eq.tune, RUN, {"budget", "method"}),
        (eq.diagnose, DIAGNOSIS, set()),
        (eq.separability, DIAGNOSIS, set()),
        (eq.diagnose_run, DIAGNOSIS, set()),
        (eq.examine_run, DIAGNOSIS, set()),
        (eq.examine_features, DIAGNOSIS, set()),
        (eq.examine_model, DIAGNOSIS, set()),
        (eq.DiagnoseRelearn.__init__, (RelearnOptions, eq.DiagnosisOptions), set()),
    ],
)
def test_a_function_takes_every_option_once_and_with_its_type(
    called: Callable[..., Any], kinds: tuple[type, ...], without: set[str]
) -> None:
    (rest,) = [one for one in signature(called).parameters.values() if one.kind is one.VAR_KEYWORD]
    own = set(signature(called).parameters) - {rest.name}
    module = sys.modules[called.__module__]
    (typed,) = get_args(eval(rest.annotation, vars(module)))
    found = get_type_hints(typed, localns={"Tensor": Tensor, "Module": nn.Module})
    expected = {
        field.name: get_type_hints(kind)[field.name]
        for kind in kinds
        for field in fields(kind)
        if field.name not in own | without
    }
    assert found == expected
    assert not typed.__required_keys__


RIGHT = """\
from typing import Any

import equipoise as eq
from equipoise.keywords import FitKeywords

eq.fit("htad", "ogm-ge", lr=0.01, encoder={"audio": "mlp"}, split_seed="run", method_options={"alpha": 1})
eq.compare("htad", ["joint"], epochs=3, trace=True, modalities=["audio"])
eq.tune("htad", epochs=3, optimizer="adamw")
eq.diagnose_run("runs/a", metric="knn", bootstrap=0)
read: dict[str, Any] = {"lr": 0.1}
typed: FitKeywords = {"lr": 0.1}
eq.fit("htad", **read)
eq.fit("htad", **typed)
eq.methods.OGM(alpha=0.5)
"""
WRONG = """\
import equipoise as eq

eq.fit("htad", learning_rate=0.01)
eq.fit("htad", lr="0.01")
eq.compare("htad", batch_size=1.5)
eq.compare("htad", seed=3)
eq.tune("htad", optimiser="sgd")
eq.diagnose_run("runs/a", metrc="knn")
eq.examine_run("runs/a", folds="five")
eq.DiagnoseRelearn({}, norm_stats=1)
eq.methods.OGM(alph=0.5)
eq.methods.OGN()
"""


def test_mypy_finds_wrong_names_and_types_and_nothing_in_right_calls(tmp_path: Path) -> None:
    for name, text in (("right.py", RIGHT), ("wrong.py", WRONG)):
        (tmp_path / name).write_text(text)
    # With the settings and the cache of `make types`, which leaves little to do here.
    ended = subprocess.run(
        [sys.executable, "-m", "mypy", tmp_path / "right.py", tmp_path / "wrong.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    errors = re.findall(r"(\w+\.py):(\d+): error: ", ended.stdout)
    assert errors == [("wrong.py", str(line)) for line in range(3, 13)], ended.stdout + ended.stderr
    assert 'Unexpected keyword argument "learning_rate" for "fit"' in ended.stdout
    assert '"lr" to "fit" has incompatible type "str"' in ended.stdout
