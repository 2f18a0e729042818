"""The public names of `import equipoise as eq`."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import equipoise as eq


@pytest.mark.parametrize("name", eq.__all__)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    assert (getattr(eq, name).__doc__ or "").strip()
    assert name in dir(eq)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'diagnos'"):
        eq.diagnos  # noqa: B018


def test_importing_loads_nothing_heavy() -> None:
    script = "import sys, equipoise; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_catalogues_hold_names() -> None:
    methods = {"joint", "unimodal", "ensemble", "ogm", "ogm-ge", "diagnose-relearn"}
    assert methods <= set(eq.list_methods())
    assert eq.list_methods()["diagnose-relearn"]["family"] == "optimisation"
    assert "htad" in eq.list_datasets()
    models = eq.list_models()
    assert {"mlp", "cnn", "resnet18", "sequence-cnn", "transformer", "concat", "sum"} <= set(models)
    assert models["mlp"]["default_for"] == "vector"
    assert eq.list_metrics().to_frame().loc["purity", "description"]
    assert "diagnose-relearn" in str(eq.list_methods())


def test_the_core_imports_no_other_trainers() -> None:
    """Optional packages are loaded only when they are used."""
    code = (
        "import sys, equipoise, equipoise.api, equipoise.cli\n"
        "for name in equipoise.__all__: getattr(equipoise, name)\n"
        "others = {'lightning', 'pytorch_lightning', 'transformers', 'accelerate', 'peft', 'ray'}\n"
        "loaded = others & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("seeds", [0, -1, np.int64(0)])
def test_a_comparison_needs_at_least_one_seed(seeds: int) -> None:
    with pytest.raises(eq.UsageError, match=f"seeds is {seeds}; expected at least 1"):
        eq.compare("htad", seeds=seeds)
