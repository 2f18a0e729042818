"""Comparisons as tables for a paper: LaTeX, Markdown and CSV."""

import io
import re
import statistics

import pandas as pd
import pytest
from scipy import stats

from equipoise.cli import main
from equipoise.cli.tables import output_console
from equipoise.cli.views.comparison_table import print_comparison
from equipoise.report.table import paper_table
from equipoise.types import PathError, UnknownNameError

MINUS, PLUS_MINUS, DAGGER = "\N{MINUS SIGN}", "\N{PLUS-MINUS SIGN}", "\N{DAGGER}"
ENVIRONMENT = {"python": "3.11", "device": "cpu", "versions": {"torch": "2"}}
FIVE = {
    "joint": [0.80, 0.82, 0.81, 0.83, 0.79],
    "ogm": [0.86, 0.87, 0.88, 0.89, 0.85],  # joint + .06 +- .01: sure
    "mla": [0.81, 0.80, 0.83, 0.82, 0.80],
}


def cells(markdown):
    """Return the rows of the first table: name to cells."""
    rows = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("| ")]
    return rows[0], {row[0]: row[1:] for row in rows[1:]}


def test_markdown_has_mean_deviation_interval_and_marks(make):
    one = make(FIVE)
    head, rows = cells(paper_table([one.folder], "markdown"))
    assert head == ["method", "accuracy", "vs joint [95 %]"]
    gains = [a - b for a, b in zip(FIVE["ogm"], FIVE["joint"], strict=True)]
    mean, error = statistics.fmean(gains), stats.sem(gains)
    low, high = stats.t.interval(0.95, 4, mean, error)
    ogm = f"{statistics.fmean(FIVE['ogm']):.3f} {PLUS_MINUS} {statistics.stdev(FIVE['ogm']):.3f}"
    assert rows["ogm"] == [f"**{ogm}**", f"+{mean:.3f} [+{low:.3f}, +{high:.3f}]*"]
    assert stats.ttest_1samp(gains, 0).pvalue * 2 < 0.05  # by Holm over two methods
    assert rows["joint"] == [f"0.810 {PLUS_MINUS} 0.016", "\N{EN DASH}"]
    assert rows["mla"][1].startswith("+0.002 [")
    assert rows["mla"][1].endswith("]")
    assert not rows["mla"][0].startswith("**")


def test_the_caption_states_seeds_splits_and_selection(make):
    one = make(FIVE)
    text = paper_table([one.folder], "markdown")
    assert "5 seeds (0 to 4), the same splits for all seeds." in text
    assert "best on validation are kept, and the test split is opened once" in text
    assert "* marks p < 0.05 after Holm's correction" in text
    one.results["split_fingerprint"] = [f"s{seed}" for seed in one.results["seed"]]
    one.write()
    assert "splits drawn anew for each seed" in paper_table([one.folder], "markdown")


def test_what_must_not_be_hidden_is_said(make):
    few = make({m: v[:2] for m, v in FIVE.items()}, name="few", failed={("mla", 1): "diverged"})
    text = paper_table([few.folder], "markdown")
    assert "**" not in text
    assert "Bold" not in text
    assert "Nothing is ranked on toys: " in text
    assert "1 run of mla failed, so it has no rank." in text


def test_only_a_method_with_a_rank_is_in_bold(make):
    values = FIVE | {"mla": [0.99] * 5}
    one = make(values, failed={("mla", seed): "diverged" for seed in range(4)})
    text = paper_table([one.folder], "markdown")
    _, rows = cells(text)
    assert rows["mla"][0] == "0.990"
    assert rows["ogm"][0].startswith("**0.870")
    assert "4 runs of mla failed, so it has no rank." in text


def test_unlike_runs_have_no_differences(make, capsys):
    one = make(FIVE, own={"ogm": {"model": "gated(mlp)"}})
    text = paper_table([one.folder], "markdown")
    assert "the runs differ in model" in text
    assert {row[1] for row in cells(text)[1].values()} == {"\N{EN DASH}"}
    assert pd.read_csv(io.StringIO(paper_table([one.folder], "csv")))["difference"].isna().all()
    print_comparison(output_console(), one)
    shown = capsys.readouterr().out
    assert "+0.0" not in shown
    assert "not ranked: the runs differ in model" in shown


def test_runs_have_the_conditions_of_their_comparison(make):
    one = make({"joint": FIVE["joint"]}, own={"joint": {"environment": ENVIRONMENT}})
    runs = [one.run_folder("joint", seed) for seed in range(5)]
    assert paper_table(runs, "latex") == paper_table([one.folder], "latex")
    assert "Python 3.11" in paper_table(runs, "latex")


def test_runs_on_other_data_or_settings_are_no_seeds_of_one_method(make):
    one = make({"joint": [0.2, 0.3]}, name="one", dataset="a")
    two = make({"joint": [0.8, 0.9]}, name="two", dataset="b")
    _, rows = cells(paper_table([one.run_folder("joint", 0), two.run_folder("joint", 1)], "markdown"))
    assert {name: row[0] for name, row in rows.items()} == {
        "joint (data=a)": "0.200",
        "joint (data=b)": "0.900",
    }
    config = one.run_folder("joint", 1) / "config.yaml"
    config.write_text(config.read_text() + "lr: 0.5\n")
    _, rows = cells(paper_table([one.run_folder("joint", seed) for seed in (0, 1)], "markdown"))
    assert list(rows) == ["joint (lr=null)", "joint (lr=0.5)"]


def test_latex_has_equal_rows_and_no_letter_that_means_something_else(make):
    one = make({"joint": FIVE["joint"], "a_b & 50% #1 <x> {y}": FIVE["ogm"]}, dataset="my_data~^")
    text = paper_table([one.folder], "latex")
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows[1:]} == {2}
    assert r"a\_b \& 50\% \#1 $<$x$>$ \{y\}" in text
    assert r"\multicolumn{2}{c}{my\_data\textasciitilde{}\textasciicircum{}}" in text
    assert r"\textbf{0.870 $\pm$ 0.016}" in text
    shown = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert shown.isascii()
    bare = re.sub(r"\\[{}]", "", shown)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not re.search(r"[<>|](?!\$)", bare)


def test_csv_has_the_numbers_alone(make):
    one = make(FIVE)
    found = pd.read_csv(io.StringIO(paper_table([one.folder], "csv"))).set_index("method")
    assert list(found["dataset"]) == ["toys"] * 3
    pd.testing.assert_series_equal(found["mean"], one.table()["mean"], check_names=False)
    assert found["significant"].to_dict() == {"joint": False, "ogm": True, "mla": False}
    assert found.loc["ogm", "p_value_holm"] < 0.05


def test_several_datasets_have_their_columns_and_mean_ranks(make):
    other = {"joint": FIVE["joint"], "mla": FIVE["ogm"], "ogm": [0.70, 0.71, 0.72, 0.70, 0.71]}
    held = [make(FIVE, dataset="one", name="one"), make(other, dataset="two", name="two")]
    text = paper_table([one.folder for one in held], "markdown")
    head, rows = cells(text)
    assert head[-1] == "all: mean rank"
    assert [row[-1] for row in rows.values()] == ["2.5", "2.0", "1.5"]  # 3 2, 1 3, 2 1
    assert "Mean ranks are over 2 datasets, 1 being the best (Friedman: p" in text
    twice = [make(FIVE, dataset="one", name=name) for name in ("left", "right")]
    text = paper_table([one.folder for one in twice], "markdown")
    assert "Mean ranks are left out: found 1 (one)." in text
    head, _ = cells(text)
    assert "left" in head[1]
    assert "right" in head[3]
    assert "rank" not in head[-1]


def test_a_method_below_its_floor_is_marked(make):
    one = make(FIVE)
    one.summary["methods"]["mla"]["floor"] = {"mean": 0.9, "difference": 0.09, "below": 5, "n": 5}
    one.write()
    text = paper_table([one.folder], "markdown")
    assert DAGGER in cells(text)[1]["mla"][0]
    assert f"{DAGGER} does not beat a linear model on its own inputs." in text


def test_the_command_prints_a_table_or_writes_it(make, tmp_path, capsys):
    folder = make(FIVE).folder
    for kind in ("latex", "markdown", "csv"):
        with pytest.raises(SystemExit) as ended:
            main(["report", str(folder), "--table", kind])
        assert ended.value.code == 0
        assert capsys.readouterr().out.rstrip("\n") == paper_table([folder], kind).rstrip("\n")
    assert not (folder / "report.html").exists()
    for words, code in ((["--out", str(tmp_path / "t.tex")], 0), (["--out", str(tmp_path / "t.tex")], 2)):
        with pytest.raises(SystemExit) as ended:
            main(["report", str(folder), "--table", "latex", *words])
        assert ended.value.code == code
    assert (tmp_path / "t.tex").read_text() == paper_table([folder], "latex")
    assert "--overwrite" in capsys.readouterr().err


def test_mistakes_are_named(make, tmp_path, capsys):
    folder = make(FIVE).folder
    with pytest.raises(UnknownNameError, match="table 'html': known: csv, latex, markdown"):
        paper_table([folder], "html")
    with pytest.raises(PathError, match="does not exist"):
        paper_table([tmp_path / "none"], "csv")
    with pytest.raises(SystemExit):
        main(["report", str(folder), "--table", "csv", "--figures", str(tmp_path / "f")])
    assert "give --figures DIR without it" in capsys.readouterr().err
