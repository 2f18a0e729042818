"""The table at the end of a comparison, at common terminal widths; and lazy imports."""

import io
import subprocess
import sys

import pytest
from rich.console import Console

from equipoise.cli.tables import turned
from equipoise.cli.views.comparison_table import ComparisonTable
from equipoise.report.text.tables import Cell, Table


@pytest.fixture
def printed():
    def at(comparison, width):
        console = Console(width=width, file=io.StringIO(), highlight=False)
        console.print(ComparisonTable(comparison))
        return console.file.getvalue()

    return at


def row(text, name):
    return next(line.split() for line in text.splitlines() if line.startswith(name + " "))


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_no_line_is_too_long_and_no_number_is_cut(make, many, printed, width):
    comparison = make(**many())
    lines = printed(comparison, width).splitlines()
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    for method, values in comparison.summary["methods"].items():
        assert f"{values['mean']:.3f}" in row(text, method)


def test_a_hundred_columns_fit_gain_and_cost(make, many, printed):
    text = printed(make(**many()), 100)
    heads = text.splitlines()[0].split()
    assert " ".join(heads) == "method acc. std n diff. 95 % interval rank fwd bwd s MB"
    cells = row(text, "umt")
    assert cells[-5:] == [cells[-5], "2.00", "1.62", "1.5", "256"]


def test_wide_heads_are_full_words_and_the_best_method_is_first(make, many, printed):
    comparison = make(**many())
    text = printed(comparison, 200)
    for head in ("test accuracy", "forward x joint", "backward x joint", "memory MB"):
        assert head in text.splitlines()[0]
    table = comparison.table()
    assert text.splitlines()[1].split()[0] == table["mean"].idxmax()
    assert "infoReg (experimental)" in text
    assert "infoReg" in table.index
    assert "Wilcoxon p" not in text
    assert "With 3 seeds Wilcoxon's p is left out: it cannot fall below 0.25." in " ".join(text.split())


def test_p_is_shown_from_six_seeds_on(make, printed):
    values = [0.8, 0.81, 0.82, 0.83, 0.84, 0.85]
    methods = {"joint": values, "ogm": [value + 0.001 * n for n, value in enumerate(values, 1)]}
    text = printed(make(methods), 120)
    assert " p " in text.splitlines()[0]
    assert "0.031" in text  # 2^(1 - 6)
    assert "Wilcoxon signed-rank" in text
    assert "left out" not in text


def test_two_seeds_are_not_ranked(make, printed):
    text = printed(make({"joint": [0.8, 0.9], "ogm": [0.9, 0.8]}), 100)
    assert text.count("not ranked") == 2
    ranked = make({"joint": [0.8, 0.9, 0.7], "ogm": [0.9, 0.8, 0.7]}, name="three")
    assert "not ranked" not in printed(ranked, 100)


def test_the_numbers_of_many_modalities_fit_eighty_columns():
    heads = ["modality", "verdict", "validation purity", "gap"]
    cells = [Cell("balanced, and a few words more"), Cell("0.812", 0.812)]
    rows = [
        [Cell(f"accelerometer {place}"), *cells, Cell("\N{MINUS SIGN}0.004", note=f"0.0{place} to 0.345")]
        for place in range(7)
    ]
    console = Console(width=80, file=io.StringIO(), highlight=False)
    for table in turned(Table("", heads, rows, frozenset({1}))):
        console.print(table)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) < 80
    assert sum(line.split()[0] == "modality" for line in lines) == 3
    assert [line.split() for line in lines if line.startswith("gap")][2] == ["gap", "-0.004"]
    assert sum(line.count(" to 0.345") for line in lines) == 7
    assert "balanced" not in console.file.getvalue()


HEAVY = {"altair", "vl_convert", "matplotlib", "statsmodels", "scikit_posthocs", "seaborn"}


@pytest.mark.parametrize("imports", ["equipoise, equipoise.cli", "equipoise.report, equipoise.experiments"])
def test_heavy_packages_are_loaded_only_when_they_are_used(imports):
    code = (
        f"import sys, {imports}\n"
        "if 'equipoise.cli' in sys.modules: equipoise.cli.build_app().help_print([])\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "equipoise" in found.stderr.split()
    assert not HEAVY & set(found.stderr.split())
