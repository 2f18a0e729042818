"""The page of an examination: it states and shows what was measured."""

from dataclasses import replace

import numpy as np
import pytest

import equipoise as eq
import synthetic
from equipoise.diagnosis.verdict.rules import ModalityNumbers
from equipoise.diagnosis.verdict.verdict import judge
from equipoise.report import write_examination_report, write_report
from equipoise.report.pages.examination import examination_page
from equipoise.report.text.detail_tables import states_table
from equipoise.report.text.examined import contribution
from vega import column

HOSTILE = "<b>a</b>"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examined")
    inputs, target = synthetic.samples({HOSTILE: (6,), "video": (5,)}, 120)
    classes = ["<i>one</i>", "two & two", "$three$"]
    eq.write_dataset(folder / "data", inputs, target, classes=classes)
    options = {"epochs": [1, 2], "layer_strength": {"": 0.5}}
    eq.fit(
        folder / "data",
        "diagnose-relearn",
        method_options=options,
        out=folder / "run",
        epochs=4,
        diagnose_every=1,
        trace=True,
    )
    return folder / "run"


@pytest.fixture(scope="module")
def examined(run):
    return eq.examine_run(run)


def test_the_summary_contains_the_measured_numbers(examined, read, tmp_path):
    page = read(write_examination_report(examined, str(tmp_path / "page.html")))
    for name, state in examined.learning.items():
        row = page.rows()[name]
        own = examined.contributions[name]
        assert row["training purity"][1] == state.train_score
        assert row["validation purity"][1] == state.val_score
        assert row["gap"][1] == state.train_score - state.val_score
        low = abs(state.interval[0])
        assert f"{low:.3f}" in row["gap"][0]  # a gap always has its interval
        assert row["strength"][1] == state.strength()
        assert row["with it only"][1] == own.alone
        assert row["drop"][1] == own.drop_averaged
        assert examined.verdicts[name].state in row["verdict"][0]
        for sentence in examined.verdicts[name].reasons:
            assert sentence.replace("\N{MINUS SIGN}", "-") in page.text
    assert (tmp_path / "page.json").is_file()
    assert HOSTILE in page.text
    assert "b" not in {tag for tag, _ in page.tags}  # names are escaped


def test_headline_table_and_advice_use_the_verdict(examined):
    idle = judge(
        ModalityNumbers(modality="video", chance=0.25, refit=0.5, removed_drop=-0.01, shapley=-0.006)
    )
    learning = replace(
        examined.learning,
        states={name: replace(state, interval=(-0.0004, 0.02)) for name, state in examined.learning.items()},
    )
    page = examination_page(
        replace(examined, learning=learning, verdicts={**examined.verdicts, "video": idle})
    )
    assert {row[4].note for row in page.tables[0].rows} == {"\N{MINUS SIGN}0.0004 to 0.020"}
    assert "Unused (redundant): video." in page.statements[0].verdict
    assert f"video: {idle.reasons[0]}" in page.statements[0].text
    assert page.tables[0].rows[1][1].text == "unused (redundant)"
    assert page.sections[0].statements[1].text.startswith(idle.reasons[0])
    (advice,) = [notice for notice in page.sections[0].notices if "video" in notice.text]
    assert advice.items == idle.advice


def test_the_estimate_of_the_paper_is_shown_beside_the_chosen_one(examined, read, tmp_path):
    table = states_table(examined.paper)
    rows = {row[0].text: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    for name, state in examined.paper.items():
        assert rows[name]["training purity"].value == state.train_score
        assert rows[name]["validation purity"].value == state.val_score
        assert rows[name]["strength"].value == state.strength()
        assert rows[name]["training samples"].value == state.n_train
    page = read(write_examination_report(examined, tmp_path / "page.html"))
    assert "The paper's estimate" in page.text
    assert table.caption in page.text


def test_all_pictures_are_present_and_can_be_exported(examined):
    names = [chart.name for chart in examination_page(examined).all_charts]
    assert names == ["states", "contributions", "projections", "trace", "measures", "confusion-validation"]


def test_without_samples_or_run_there_are_no_pictures_of_a_run(examined, read, tmp_path):
    train, val = (synthetic.samples(synthetic.VECTORS, n, seed=n) for n in (60, 30))
    arrays = {f"train_{m}": x for m, x in train[0].items()} | {f"val_{m}": x for m, x in val[0].items()}
    np.savez(tmp_path / "f.npz", **arrays, train_labels=train[1], val_labels=val[1])
    found = eq.examine_features(tmp_path / "f.npz", pictures=False)
    page = read(write_examination_report(found, tmp_path / "page.html"))
    assert "linear head" in page.text
    assert "projections-0" not in page.figures
    assert "Configuration" not in page.text
    assert "Configuration" in read(write_examination_report(examined, tmp_path / "run.html")).text


def test_the_report_of_a_run_shows_its_records(run, read, tmp_path):
    figures = read(write_report([run], tmp_path / "run.html")).figures
    for name in ("trace-0", "confusion-validation-0", "confusion-test-0", "layers-0"):
        assert name in figures
    bars = column(figures["layers-0"], "strength", "layer")
    applied = eq.load_run(run).relearnings[-1][HOSTILE].applied
    assert bars == pytest.approx([0.5 * applied] * len(bars), rel=1e-4)


def test_a_contribution_is_attributed_only_where_its_interval_stands_out(examined):
    def said(*spans):
        own = examined.contributions
        items = {
            name: replace(own[name], shapley=sum(span) / 2, intervals={"shapley": span})
            for name, span in zip((HOSTILE, "video"), spans, strict=False)
        }
        return contribution(replace(examined, contributions=replace(own, contributions=items))).verdict

    assert said((0.2, 0.3), (0.0, 0.1)) == f"Most comes from {HOSTILE}."
    assert said((0.1, 0.2), (0.25, 0.4)) == "Most comes from video."
    for unsure in ([(-0.1, 0.5), (-0.2, 0.0)], [(0.1, 0.4), (0.0, 0.3)], [(-0.1, 0.2)]):
        assert said(*unsure) == "No modality stands out."
    assert said((0.1, 0.4)) == f"Only from {HOSTILE}."
