"""Every table and figure is declared of sets, methods and options that exist."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import synthetic
from equipoise.data import write_dataset
from equipoise.data.datasets import DATASETS
from equipoise.data.datasets.from_source import SourceDataset
from equipoise.experiments.grid.planning import expand, reference_methods
from equipoise.experiments.paper.item import METHODS as OF_THE_PAPER
from equipoise.experiments.paper.item import OURS
from equipoise.experiments.paper.items import ITEMS, item_named
from equipoise.experiments.paper.items.figure2 import ARROWS, BOXES
from equipoise.experiments.paper.plan import Choices, _name, _planned, plan
from equipoise.experiments.paper.sets import PAPER, STAND_INS, Sources
from equipoise.methods import METHODS, base_names, create_method
from equipoise.training.settings import Settings
from equipoise.types import EquipoiseWarning, UnknownNameError, UsageError

FULL, QUICK = Choices(), Choices(quick=True)
NOWHERE = Sources(Path("nowhere"), True, Path("nowhere"), None, lambda _: None)  # type: ignore[arg-type,return-value]
PICTURES = {"audio": (1, 16, 16), "video": (2, 3, 16, 16)}
SHAPES = {
    "avletters": {"audio": (8, 4), "video": (3, 1, 12, 16)},
    "ucf101": {"rgb": (2, 3, 16, 16), "flow": (2, 2, 16, 16)},
    "egogestar": {"rgb": (3, 3, 12, 16), "flow": (3, 2, 12, 16)},
    "phone-watch": dict.fromkeys(("phone_acc", "phone_gyro", "watch_acc", "watch_gyro"), (10, 3)),
    "htad": {"audio": (6,), "accelerometer": (4,)},
    "cmu-mosi": dict.fromkeys(("text", "audio", "video"), (10, 4)),
}
ABLATIONS = [item for item in ITEMS.values() if item.form == "ablation"]
RUN = [item for item in ITEMS.values() if item.form not in ("scheme", "ablation")]
KINDS = [
    *(
        pytest.param(item, stand_in, id=f"{item.name}-{stand_in}")
        for item in RUN
        for stand_in in (False, True)
    ),
    *(pytest.param(item, True, id=item.name) for item in ABLATIONS),
]


def test_all_tables_and_figures_of_the_paper() -> None:
    of_the_paper = [name for name in ITEMS if not name.startswith("ablation-")]
    assert of_the_paper == [*(f"table{n}" for n in range(1, 5)), *(f"figure{n}" for n in range(1, 6))]
    assert item_named("table3").head == "Table 3"
    assert item_named("ablation-ruler").head == "Ablation ruler"
    with pytest.raises(UnknownNameError, match="did you mean figure4"):
        item_named("figur4")


@pytest.mark.parametrize(("item", "stand_in"), KINDS)
@pytest.mark.parametrize("choices", [FULL, QUICK], ids=["full", "quick"])
def test_cases_can_be_planned(item, stand_in, choices, monkeypatch: pytest.MonkeyPatch, prepared) -> None:
    sources = Sources(Path("nowhere"), stand_in, Path("nowhere"), None, NOWHERE.waiting)
    monkeypatch.setattr(Sources, "data", lambda self, name, noise: prepared(name, stand_in=stand_in))
    cases = item.cases(stand_in=stand_in, quick=choices.quick)
    assert cases
    names = [_name(case) for case in cases]
    assert len(set(names)) == len(names)  # each has a folder of its own
    for case in cases:
        assert case.data in (STAND_INS if stand_in else PAPER)
        assert case.data in DATASETS
        assert set(case.noise) <= set(DATASETS[case.data].modalities)
        cell = _planned(item, case, choices, sources).cell
        for method in cell.methods:
            assert set(base_names(method)) <= set(METHODS)
            if method != "unimodal":
                create_method(method, cell.method_options.get(method))
        assert set(cell.method_options) <= set(cell.methods)


@pytest.mark.parametrize("item", RUN, ids=lambda item: item.name)
@pytest.mark.parametrize(
    "stand_in", [pytest.param(False, marks=pytest.mark.matrix, id="paper"), pytest.param(True, id="stand-in")]
)
def test_every_method_can_train_the_models_of_its_cases(item, stand_in, monkeypatch, prepared) -> None:
    sources = Sources(Path("nowhere"), stand_in, Path("nowhere"), None, NOWHERE.waiting)
    monkeypatch.setattr(Sources, "data", lambda self, name, noise: prepared(name, stand_in=stand_in))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EquipoiseWarning)  # the sets here are small
        cases = item.cases(stand_in=stand_in, quick=False)
        for case in cases[:: 6 if item.form == "sensitivity" else 1]:  # all of these have one model
            cell = _planned(item, case, FULL, sources).cell
            expand(cell.settings, cell.methods, cell.method_options, 0)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory):
    """Return a set with modalities of the kinds of the named dataset, but small."""
    folder = tmp_path_factory.mktemp("sets")

    @cache
    def write(name: str, *, stand_in: bool) -> str:
        shapes = SHAPES.get(name) or PICTURES
        if name == "cmu-mosi" and stand_in:
            shapes = {"text": (6,), "audio": (5,)}
        inputs, target = synthetic.samples(shapes, 150)
        kinds = {}
        if name == "cmu-mosi" and stand_in:
            inputs["text"], kinds = np.ones((150, 6), np.int64), {"text": "tokens"}
        place = folder / f"{name}-{stand_in}"
        return str(write_dataset(place, inputs, target, kinds=kinds or None).path)

    return write


@pytest.mark.parametrize("item", RUN, ids=lambda item: item.name)
def test_a_full_comparison_has_joint_training_and_ours(item) -> None:
    assert {"joint", OURS} <= set(item.methods)
    assert {"joint", OURS} <= set(item.quick_methods)
    assert "joint" in reference_methods()


def test_the_settings_of_the_paper(prepared) -> None:
    settings = Settings.from_options(prepared("cremad", stand_in=False), **PAPER["cremad"].settings)
    budget = settings.budget
    assert (settings.encoder, budget.epochs, budget.batch_size) == ("resnet18", 90, 64)
    assert (budget.optimizer, budget.schedule, budget.augment) == ("sgd", "constant", "none")
    assert (budget.lr, budget.momentum, budget.weight_decay) == (2e-3, 0.9, 1e-4)
    assert PAPER["kinetics-sounds"].settings["lr"] == 1e-3
    ours = create_method(OURS)
    assert (ours.lam, ours.count, ours.schedule(90).every) == (3.0, 3, 20)  # type: ignore[attr-defined]
    assert OURS in OF_THE_PAPER


def test_archives_of_stand_ins_are_those_that_their_datasets_expect() -> None:
    for name, stand_in in STAND_INS.items():
        kind = DATASETS[name]
        assert bool(stand_in.files) == issubclass(kind, SourceDataset)
        if issubclass(kind, SourceDataset):
            assert all(file in kind.expected for file in stand_in.files)


def test_every_arrow_of_the_scheme_joins_two_boxes() -> None:
    assert {end for arrow in ARROWS for end in arrow} == set(BOXES)


@pytest.mark.parametrize("item", ABLATIONS, ids=lambda item: item.name)
def test_an_ablation_changes_one_thing_of_the_default_and_can_be_trained(item, monkeypatch, prepared) -> None:
    sources = Sources(None, True, Path("nowhere"), None, NOWHERE.waiting)
    monkeypatch.setattr(Sources, "data", lambda self, name, noise: prepared(name, stand_in=True))
    cases = item.cases(stand_in=True, quick=False)
    own = {(case.data, *case.noise.items()): [] for case in cases}
    for case in cases:
        own[case.data, *case.noise.items()].append(case)
    assert len(own) == 7
    for variants in own.values():
        labels = [case.label for case in variants]
        assert labels[:4] == ["joint", "multi-loss", "the paper's re-learning", "default"]
        options = [(case.methods, str(case.method_options)) for case in variants]
        assert len(set(options)) == len(options)  # no two rows are the same
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EquipoiseWarning)  # the sets here are small
        for case in (*own["htad",], *own["egogestar",]):
            cell = _planned(item, case, FULL, sources).cell
            expand(cell.settings, cell.methods, cell.method_options, 0)


def test_an_ablation_needs_no_folder_for_the_set_that_needs_none(tmp_path: Path) -> None:
    item = item_named("ablation-modality")
    sources = Sources(None, True, tmp_path, None, lambda _: nullcontext())
    cases = plan(item, Choices(quick=True), sources)
    assert {case.data for case in cases} == {"HTAD"}
    assert [case.case.label for case in cases][4:] == [
        "only audio",
        "only accelerometer",
        "every modality",
        "none",
    ]
    assert {tuple(case.cell.seeds) for case in cases} == {tuple(range(6))}
    (only,) = [case for case in cases if case.case.label == "only audio"]
    assert only.cell.method_options == {"diagnose-relearn-plus": {"sharpness": 0.0, "only": ["audio"]}}
    assert len({case.cell.name for case in cases}) == len(cases)
    full = plan(item, Choices(), sources)
    assert {case.data for case in full} == {"HTAD", "HTAD with noise of 2 std on audio"}
    assert {tuple(case.cell.seeds) for case in full} == {tuple(range(6))}
    with pytest.raises(UsageError, match="ablation-modality is an ablation"):
        plan(item, Choices(protocol="original"), sources)
