"""From an item to its comparisons: epochs, options, the original protocol, and where data come from."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

import synthetic
from equipoise.data import write_dataset
from equipoise.experiments.paper.item import OURS, Case
from equipoise.experiments.paper.items.figure5 import ITEM as FIGURE5
from equipoise.experiments.paper.items.table1 import ITEM as TABLE1
from equipoise.experiments.paper.plan import Choices, plan
from equipoise.experiments.paper.sets import Sources
from equipoise.types import PathError, UnknownNameError, UsageError


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """A folder with prepared sets of the paper, of vectors."""
    for name in ("cremad", "kinetics-sounds"):
        synthetic.write(tmp_path / "sets" / name)
    return Sources(tmp_path / "sets", False, tmp_path / "out", 1, lambda _: nullcontext())


def test_the_papers_sets_have_the_papers_settings(sources: Sources) -> None:
    cases = plan(TABLE1, Choices(), sources)
    assert [case.title for case in cases] == [
        "CREMA-D",
        "Kinetics-Sounds",
        "CREMA-D, MMTM",
        "Kinetics-Sounds, MMTM",
    ]
    first, second = (case.cell.settings for case in cases[:2])
    assert (first.budget.epochs, first.budget.lr, first.encoder) == (90, 2e-3, "resnet18")
    assert second.budget.lr == 1e-3
    assert list(cases[0].cell.seeds) == [0, 1, 2]
    assert cases[2].cell.methods == ["joint", "greedy", OURS]
    assert cases[0].augmented is None


def test_quick_and_given_numbers(sources: Sources) -> None:
    cases = plan(TABLE1, Choices(quick=True, seeds=2, epochs=5), sources)
    assert {case.cell.settings.budget.epochs for case in cases} == {5}
    assert list(cases[0].cell.seeds) == [0, 1]
    assert len(cases[0].cell.methods) < len(TABLE1.methods)


def test_epochs_between_relearnings_keep_their_proportion(sources: Sources) -> None:
    for epochs, expected in ((90, [5, 10, 15, 20, 25]), (30, [2, 3, 5, 7, 8]), (9, [1, 1, 2, 2, 2])):
        cases = plan(FIGURE5, Choices(epochs=epochs), sources)
        own = [case for case in cases if case.case.data == "cremad" and case.case.axis == "H"]
        assert [case.cell.method_options[OURS]["every"] for case in own] == expected


def test_adaptive_optimizers_have_their_steps_scaled(sources: Sources) -> None:
    adamw = replace(TABLE1, paper=(Case(data="cremad", settings={"optimizer": "adamw"}),))
    options = plan(adamw, Choices(), sources)[0].cell.method_options
    assert options == {"agm": {"mode": "encoder-grad"}}
    assert plan(TABLE1, Choices(), sources)[0].cell.method_options == {}


def test_the_original_protocol_traces_all_epochs_and_augments_the_others(sources: Sources) -> None:
    inputs, target = synthetic.samples({"audio": (4,), "video": (1, 8, 8)}, 60)
    place, frames = sources.root / "cremad", {"video": "frames"}
    write_dataset(place, inputs, target, contents=frames, overwrite=True)
    case, other, *_ = plan(TABLE1, Choices(protocol="original"), sources)
    assert other.augmented is None  # vectors cannot be augmented
    assert case.augmented is not None
    for cell, augment in ((case.cell, "none"), (case.augmented, "standard")):
        assert (cell.settings.trace, cell.settings.diagnose_every) == (True, 1)
        assert cell.settings.budget.augment == augment
    assert OURS in case.cell.methods
    assert OURS not in case.augmented.methods
    case, *_ = plan(TABLE1, Choices(protocol="original", rank_anyway=True), sources)
    assert case.augmented is not None
    assert (case.cell.rank_anyway, case.augmented.rank_anyway) == (True, True)
    as_recipe = replace(TABLE1, paper=(Case(data="cremad", settings={"recipe": "convolutions"}),))
    assert plan(as_recipe, Choices(), sources)[0].cell.settings.budget.augment == "standard"
    (case,) = plan(as_recipe, Choices(protocol="original", rank_anyway=True), sources)
    assert case.cell.settings.budget.augment == "none"
    assert case.cell.rank_anyway
    with pytest.raises(UsageError, match="figure5 is a figure"):
        plan(FIGURE5, Choices(protocol="original"), sources)


def test_what_is_missing_is_named(tmp_path: Path, sources: Sources) -> None:
    with pytest.raises(PathError, match="no folder; expected that of the data: --data-root DIR"):
        plan(TABLE1, Choices(), replace(sources, root=tmp_path / "gone"))
    with pytest.raises(PathError, match=r"cremad holds no prepared dataset, and table1 needs CREMA-D"):
        plan(TABLE1, Choices(), replace(sources, root=tmp_path))
    with pytest.raises(PathError, match=r"lacks avletters.npz, and table1 needs AVLetters"):
        plan(TABLE1, Choices(), replace(sources, stand_in=True))
    with pytest.raises(UnknownNameError, match="did you mean original"):
        Choices(protocol="orginal")
    with pytest.raises(UsageError, match="seeds is 0"):
        Choices(seeds=0)
