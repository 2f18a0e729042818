"""Recipes: their files, what `auto` takes, and what they fill in beside the options that are given."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

import equipoise as eq
from equipoise.models import ENCODERS
from equipoise.training.option_text import from_options, to_options
from equipoise.training.recipe import PRECEDENCE, budget_options, recipe_of, recipes
from equipoise.training.settings import Budget, Settings
from equipoise.types import UnknownNameError, UsageError

GOVERNED = set(recipes()["paper"].budget)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Return sets of 50 samples by the kinds of their modalities."""
    folder, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)
    inputs = {
        "numbers": rng.standard_normal((50, 3)).astype(np.float32),
        "steps": rng.standard_normal((50, 6, 2)).astype(np.float32),
        "text": rng.integers(1, 9, (50, 5)).astype(np.int32),
    }

    def make(*names: str) -> str:
        out = folder / "-".join(names)
        if not out.exists():
            kinds = {"text": "tokens"} if "text" in names else {}
            eq.write_dataset(out, {m: inputs[m] for m in names}, np.arange(50) % 2, kinds=kinds)
        return str(out)

    return make


def test_a_named_recipe_with_nothing_to_decide_is_refused(sets):
    every = dict(recipes()["vectors"].budget)
    assert Settings.from_options(sets("numbers"), **every).budget.lr == every["lr"]
    with pytest.raises(UsageError, match=r"recipe 'paper' decides nothing.*learning rate 0\.1"):
        Settings.from_options(sets("numbers"), recipe="paper", **every)


def test_every_recipe_is_a_valid_budget_with_the_same_options():
    for name, recipe in recipes().items():
        assert set(recipe.budget) - {"augment_options", "clip_norm"} == GOVERNED, name
        budget = Budget(**recipe.options(10_000, {}))
        assert {key: getattr(budget, key) for key in recipe.budget} == dict(recipe.budget), name
        assert recipe.description


def test_each_encoder_has_exactly_one_recipe_and_the_order_names_all():
    named = [encoder for recipe in recipes().values() for encoder in recipe.encoders]
    assert sorted(named) == sorted(ENCODERS)
    assert set(PRECEDENCE) == {name for name, recipe in recipes().items() if recipe.encoders}


def test_paper_has_the_settings_of_the_paper():
    """Section 4.1: SGD with 0.002, momentum 0.9, weight decay 0.0001, batches of 64."""
    budget = Settings.from_options("htad", recipe="paper").budget
    assert (budget.optimizer, budget.lr, budget.momentum, budget.weight_decay) == ("sgd", 2e-3, 0.9, 1e-4)
    assert (budget.batch_size, budget.schedule, budget.epochs) == (64, "constant", 90)


def test_a_bare_budget_is_that_of_vectors():
    clipped = {"clip_norm": recipes()["vectors"].budget["clip_norm"]}
    assert {key: getattr(Budget(), key) for key in GOVERNED} | clipped == dict(recipes()["vectors"].budget)


@pytest.mark.parametrize(
    ("names", "options", "expected"),
    [
        (("numbers",), {}, "vectors"),
        (("numbers", "steps"), {}, "convolutions"),
        (("numbers", "text"), {}, "words"),
        (("steps", "text"), {}, "convolutions"),
        (("numbers", "steps", "text"), {"modalities": ["numbers", "text"]}, "words"),
        (("numbers", "steps"), {"encoder": {"steps": "transformer"}}, "transformers"),
        (("numbers", "steps"), {"method": "unimodal:numbers"}, "convolutions"),  # as of its comparison
        (("numbers", "steps"), {"recipe": "paper"}, "paper"),
    ],
)
def test_the_encoders_decide_and_not_the_method(sets, names, options, expected):
    settings = Settings.from_options(sets(*names), **options)
    assert settings.recipe == expected
    assert settings.budget.lr == recipes()[expected].budget["lr"]


def test_vectors_of_many_features_do_not_diverge(tmp_path):
    """As embeddings have them; without clipping the weights are lost after some epochs."""
    rng, target, inputs = np.random.default_rng(0), np.arange(800) % 10, {}
    means = rng.standard_normal((10, 20))
    for name in ("image", "text"):
        signal = means[target] + rng.standard_normal((800, 20))
        mixed = signal @ rng.standard_normal((20, 3072)) / 20**0.5
        inputs[name] = (mixed + 0.3 * rng.standard_normal(mixed.shape)).astype(np.float32)
    data = eq.write_dataset(tmp_path / "embeddings", inputs, target)
    assert eq.fit(data, epochs=8).summary["validation"]["accuracy"] > 0.98
    with pytest.raises(eq.TrainingError, match="nan"):
        eq.fit(data, epochs=8, clip_norm=float("inf"))


def test_a_record_without_clipping_stays_without(sets):
    every = dict(recipes()["vectors"].budget)
    del every["clip_norm"]
    assert Settings.from_options(sets("numbers"), **every).budget.clip_norm is None
    assert Settings.from_options(sets("numbers")).budget.clip_norm == recipes()["vectors"].budget["clip_norm"]


def test_options_that_are_given_win(sets):
    data = sets("numbers", "steps")
    budget = Settings.from_options(data, lr=0.5, epochs=3, batch_size=7).budget
    assert (budget.lr, budget.epochs, budget.batch_size) == (0.5, 3, 7)
    assert budget.optimizer == recipes()["convolutions"].budget["optimizer"]


def test_another_optimizer_gets_its_own_defaults(sets):
    budget = Settings.from_options(sets("numbers", "steps"), optimizer="sgd").budget
    assert (budget.lr, budget.weight_decay, budget.schedule) == (0.05, Budget().weight_decay, "constant")
    assert budget.epochs == 80


@pytest.mark.parametrize(("samples", "expected"), [(50, 80), (217, 74), (400, 40), (10**6, 40)])
def test_tiny_sets_get_more_epochs(samples, expected):
    """A thousand steps of 16 samples are 74 passes through 217 samples."""
    assert recipes()["convolutions"].options(samples, {})["epochs"] == expected


@pytest.mark.parametrize(("samples", "expected"), [(50, 16), (1279, 16), (1280, 32), (2560, 64), (10**6, 64)])
def test_small_sets_get_small_batches(samples, expected):
    assert recipes()["convolutions"].options(samples, {})["batch_size"] == expected


def test_the_batch_size_depends_on_the_whole_set_so_that_seeds_have_equal_budgets(sets):
    data = sets("numbers", "steps")
    budgets = {str(Settings.from_options(data, seed=s, split_seed="run").budget) for s in range(4)}
    assert len(budgets) == 1


@pytest.mark.parametrize(("epochs", "expected"), [(1, 0), (3, 2), (40, 4)])
def test_the_warm_up_of_a_recipe_is_shorter_than_a_short_training(epochs, expected):
    options = recipes()["transformers"].options(50, {"epochs": epochs})
    assert options["warmup_epochs"] == expected
    Budget(**options)


def test_a_warm_up_that_is_given_is_not_shortened():
    with pytest.raises(UsageError, match="warmup_epochs is 5 of 3 epochs"):
        Settings.from_options("htad", recipe="transformers", epochs=3, warmup_epochs=5)


RECIPE = recipes()["convolutions"]


@pytest.mark.parametrize(
    ("given", "augmentable", "expected"),
    [
        ({}, True, ("standard", RECIPE.budget["augment_options"])),
        ({}, False, ("none", {})),
        ({"augment": "none"}, True, ("none", {})),
        ({"augment": "standard"}, True, ("standard", {})),
        ({"augment": "standard"}, False, ("standard", {})),  # the trainer warns that nothing is augmented
        (
            {"augment_options": {"flip": 0.5}},
            True,
            ("standard", {"crop_area": 0.7, "flip": 0.5, "jitter": 0.0}),
        ),
        ({"augment_options": {}}, True, ("standard", RECIPE.budget["augment_options"])),
    ],
    ids=str,
)
def test_augmentation_is_refined_or_replaced(given, augmentable, expected):
    budget = Budget(**RECIPE.options(50, given, augmentable=augmentable))
    assert (budget.augment, budget.augment_options) == expected


def test_an_unknown_recipe_is_refused_before_the_data_are_opened():
    with pytest.raises(UnknownNameError, match="unknown recipe 'papier': did you mean paper"):
        budget_options("papier", "no such data", {})


def test_recorded_options_are_read_without_the_data(sets):
    settings = Settings.from_options(sets("numbers", "steps"), method="joint")
    recorded = to_options(settings) | {"data": "gone"}
    assert "recipe" not in recorded
    assert asdict(from_options(recorded).budget) == asdict(settings.budget)


def test_the_record_names_the_recipe(sets, tmp_path):
    result = eq.fit(sets("numbers", "steps"), epochs=1, out=tmp_path / "run")
    assert result.summary["recipe"] == "convolutions"
    assert recipe_of(eq.open_dataset(sets("numbers"))).name == "vectors"
    again = eq.fit(sets("numbers", "steps"), epochs=1, out=tmp_path / "run", resume=True)
    assert again.test == result.test
