"""The commands in their own processes, as a user runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd

import synthetic
from processes import Ended, python


def run(*words: object, cwd: Path, **environment: str) -> Ended:
    return python("-m", "equipoise", *words, cwd=cwd, **environment)


def test_help_loads_no_heavy_packages(tmp_path: Path) -> None:
    heavy = ("torch", "numpy", "pandas", "sklearn", "lightning_fabric", "altair", "torchmetrics")
    script = (
        "import sys\nfrom equipoise.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as ended:\n    assert not ended.code\n"
        f"loaded = [name for name in {heavy!r} if name in sys.modules]\nassert not loaded, loaded\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "compare" in ended.stdout


def test_a_custom_model(tmp_path: Path) -> None:
    data = synthetic.write(tmp_path / "data").path
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "from equipoise.models import ConcatFusion, MultimodalModel\n\n\n"
        "def build(shapes, num_classes):\n"
        "    encoders = {m: nn.Linear(shape[0], 4) for m, (shape, kind) in shapes.items()}\n"
        "    return MultimodalModel(encoders, ConcatFusion(dict.fromkeys(shapes, 4), num_classes))\n"
    )
    ended = run(
        *["compare", "--data", data, "--model", "mine:build", "--methods", "joint", "ensemble"],
        *["--seeds", 1, "--epochs", 5, "--workers", 1, "--out", "out"],
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stderr
    assert set(pd.read_csv(tmp_path / "out" / "results.csv")["model"]) == {"mine:build"}


def test_a_missing_extra_gives_one_line(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['multiviewstacking'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'multiviewstacking' else find(name, *a)\n"
        "from equipoise.cli import main; main(['train', '--data', 'htad'])"
    )
    ended = python("-c", script, cwd=tmp_path, EQUIPOISE_CACHE=str(tmp_path / "cache"))
    assert ended.returncode == 2
    assert "pip install 'equipoise[demo]'" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
