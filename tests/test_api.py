"""The public names of `import equipoise as eq`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

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


WIDE = {"a": np.arange(12.0)[:, None]}
FOUR = np.arange(12) % 4


def of_fit(**options: Any) -> None:
    eq.fit("nowhere/at/all", "diagnose-relearn", **options)


def of_compare(**options: Any) -> None:
    eq.compare("nowhere/at/all", ["joint", "diagnose-relearn"], **options)


def of_diagnose(**options: Any) -> None:
    eq.diagnose(WIDE, FOUR, WIDE, FOUR, **options)


def of_by_hand(**options: Any) -> None:
    eq.by_hand("ogm-ge", nn.Linear(1, 1), train_loader=[], optimizer=[], epochs=1, **options)


@pytest.mark.parametrize(
    ("called", "option", "suggested"),
    [
        (of_fit, "lamda", "method_options={'lam': ...}"),
        (of_fit, "epoch", "epochs"),
        (of_fit, "learnig_rate", "lr"),
        (of_fit, "resum", "resume"),
        (of_compare, "lamda", "method_options={'diagnose-relearn': {'lam': ...}}"),
        (of_compare, "learning_rate", "lr"),
        (of_compare, "worker", "workers"),
        (of_compare, "seed", "seeds"),
        (of_compare, "method", "methods"),
        (of_diagnose, "presset", "preset"),
        (of_by_hand, "alph", "alpha"),
        (of_by_hand, "critrion", "criterion"),
        (partial(eq.separability, WIDE, FOUR, WIDE, FOUR), "measure", "measures"),
        (partial(eq.diagnose_run, "nowhere"), "metrc", "metric"),
        (partial(eq.examine_run, "nowhere"), "qualty", "quality"),
        (partial(eq.examine_features, "nowhere.npz"), "picture", "pictures"),
        (partial(eq.examine_model, {}, nn.Linear(1, 1), [], []), "clases", "classes"),
        (partial(eq.DiagnoseRelearn, {"a": nn.Linear(1, 1)}), "evry", "every"),
    ],
)
def test_near_names_are_those_of_all_parameters_and_options(
    called: Callable[..., Any], option: str, suggested: str
) -> None:
    with pytest.raises(eq.UnknownNameError) as raised:
        called(**{option: 1})
    first = str(raised.value).partition("did you mean ")[2]
    assert first.startswith(suggested)


NET = nn.ModuleDict({"a": nn.Linear(1, 2)})
SGD = torch.optim.SGD(NET.parameters(), 0.1)


class OneInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = NET["a"]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a(x)


ONE_BATCH = [(torch.ones(2, 1), torch.arange(2))]


def by_hand(method: Any = "ogm-ge", **changed: Any) -> None:
    usual = {"head": nn.Linear(2, 2), "optimizer": SGD, "epochs": 1, "train_loader": ONE_BATCH}
    eq.by_hand(method, OneInput(), NET, **{**usual, **changed})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: eq.fit(np.zeros(3)), "data is a ndarray; expected the name of a dataset"),
        (lambda: eq.compare(None), "data is a NoneType; expected the name"),
        (lambda: eq.fit("htad", eq.methods.OGM()), r"the method is OGM\(.*expected its name"),
        (lambda: eq.fit("htad", ["joint"]), r"the method is \['joint'\]; expected its name"),
        (
            lambda: eq.fit("htad", method_options="lam=3"),
            "option 'method_options' is 'lam=3'; expected a mapping",
        ),
        (lambda: eq.compare("htad", ["joint"], seeds="3"), "seeds holds '3'; expected whole numbers"),
        (lambda: eq.compare("htad", ["joint"], seeds=1.5), "seeds holds 1.5; expected whole numbers"),
        (lambda: eq.diagnose(WIDE["a"], FOUR, WIDE["a"], FOUR), "features are a ndarray; expected a mapping"),
        (lambda: eq.diagnose(WIDE, FOUR, WIDE, FOUR, preset=None), "unknown diagnosis preset None"),
        (lambda: eq.examine_model([nn.Linear(1, 1)], None, [], []), r"encoders is a list; expected a map"),
        (
            lambda: eq.examine_model(nn.Linear(1, 1), {}, [], []),
            r"encoders is a Linear; .* Encoders come first, and then the model\.",
        ),
        (lambda: eq.examine_model(NET, None, [], []), "the model is a NoneType; expected a torch module"),
        (lambda: eq.examine_model(NET, NET, None, []), "the loader is None; expected an iterable"),
        (
            lambda: eq.collect_features(NET, OneInput(), [(torch.ones(2, 1), FOUR[:2])], pool="mean"),
            "pool is 'me",
        ),
        (lambda: eq.DiagnoseRelearn(NET, every="2"), "whole numbers; found '2'"),
        (lambda: eq.DiagnoseRelearn(NET, epochs=60), "epochs is 60; expected the epochs of the re-learnings"),
        (lambda: eq.DiagnoseRelearn(NET, lam="3"), "lam is '3'; expected a number"),
        (lambda: eq.DiagnoseRelearn(NET).step(0, None, [], []), "the model is a NoneType; expected a torch"),
        (lambda: by_hand(None), "the method is None; expected its name"),
        (lambda: by_hand(optimizer=None), "optimizer is None; expected the optimizer"),
        (lambda: by_hand(optimizer=torch.optim.SGD), "optimizer is <class .*; expected the optimizer"),
        (lambda: by_hand(epochs="2"), "epochs is '2'; expected a whole number"),
        (lambda: by_hand(train_loader=None), "the training loader gives no batch"),
        (lambda: eq.build_model({"a": (3,)}, 2), r"shapes\['a'\] is \(3,\); expected the shape and kind"),
    ],
)
def test_an_argument_of_the_wrong_type_is_said_in_one_line(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(eq.EquipoiseError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_an_optimizer_of_another_model_is_warned_of() -> None:
    other = torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.1)
    with (
        pytest.warns(eq.EquipoiseWarning, match="holds no parameter of the model"),
        pytest.raises(eq.UsageError, match="head= is a str"),
    ):
        by_hand(optimizer=other, head="no head")


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
