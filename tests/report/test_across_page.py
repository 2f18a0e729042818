"""Reports of several comparisons: the page, the diagram, and the command."""

import re
import xml.etree.ElementTree as ET

import pytest

from equipoise.cli import main
from equipoise.experiments.compare.across import across_datasets
from equipoise.report import write_critical_difference, write_report
from equipoise.report.html import library
from equipoise.types import RunFolderError, UsageError

MISSING = "\N{EN DASH}"
SMALL = {"joint": [0.80, 0.81, 0.82], "ogm": [0.81, 0.84, 0.82], "mla": [0.70, 0.75, 0.71]}


@pytest.fixture
def datasets(make):
    """Write comparisons of small datasets by their names."""
    return lambda *names, **changes: [make(SMALL, dataset=name, name=name, **changes) for name in names]


def folders(comparisons):
    return [comparison.folder for comparison in comparisons]


def test_the_page_contains_the_ranks_and_every_dataset(datasets, read, tmp_path):
    held = datasets("cremad", "htad", own={"mla": {"experimental": True}})
    page = read(write_report(folders(held), tmp_path / "across.html"))
    assert "2 datasets: cremad and htad" in page.text
    ranks = page.rows(0)
    assert list(ranks) == ["ogm", "joint", "mlaexperimental"]
    assert [row["mean rank"][1] for row in ranks.values()] == [1, 2, 3]
    assert ranks["joint"]["cremad"][1] == ranks["joint"]["htad"][1] == 2
    assert "With 2 datasets the tests have little power" in page.text
    for place in (1, 2):
        assert page.rows(place)["ogm"]["rank"][1] == 1
    assert list(page.figures) == ["accuracy-of-0-0", "accuracy-of-1-0"]
    assert len([tag for tag, attributes in page.tags if attributes.get("class") == "diagram"]) == 1


def test_the_page_states_the_results_of_the_tests(datasets, read, tmp_path):
    few = read(write_report(folders(datasets("a", "b")), tmp_path / "few.html"))
    assert "No difference can be claimed. Over 2 datasets and 3 methods, Friedman test: p" in few.text
    assert "which is more than the ranks of so many methods on so few datasets can" in few.text
    enough = datasets(*(f"data{k}" for k in range(6)))
    page = read(write_report(folders(enough), tmp_path / "enough.html"))
    assert "The methods differ." in page.text
    assert f"lie {across_datasets(enough).critical_difference:.1f} or more apart." in page.text
    assert "little power" not in page.text


def test_an_impossible_ranking_is_explained(datasets, make, read, tmp_path):
    two_seeds = {method: values[:2] for method, values in SMALL.items()}
    unranked = make(two_seeds, dataset="short", name="short")
    page = read(write_report(folders([*datasets("long"), unranked]), tmp_path / "across.html"))
    assert "There is no ranking across datasets: the methods are not ranked on short" in page.text
    assert "at least 3 seeds" in page.text
    assert page.rows(1)["ogm"]["rank"] == ("not ranked", None)
    assert page.rows(0)["ogm"]["rank"][1] == 1
    assert not [tag for tag, attributes in page.tags if attributes.get("class") == "diagram"]
    twice = [make(SMALL, dataset="same", name=name) for name in ("x", "y")]
    same = read(write_report(folders(twice), tmp_path / "same.html"))
    assert "expected comparisons of at least 2 datasets" in same.text


def test_unimodal_methods_are_listed_as_excluded(make, many, read, tmp_path):
    held = [make(**many(k), dataset=name, name=name) for k, name in enumerate(("one", "two"))]
    path = write_report(folders(held), tmp_path / "across.html")
    page = read(path)
    assert "unimodal:audio: what it means differs by dataset" in page.text
    assert not any(name.startswith("unimodal:") for name in page.rows(0))
    assert len(page.rows(0)) == 32
    assert path.stat().st_size < 2e6


def test_the_page_loads_nothing_and_is_reproducible(datasets, tmp_path):
    held = datasets("a", "b")
    pages = [write_report(folders(held), tmp_path / name).read_text(encoding="utf-8") for name in ("x", "y")]
    assert pages[0] == pages[1]
    own = pages[0].replace(library(), "")
    assert not re.search(r"https?://(?!vega.github.io/schema/)|\bsrc=|url\((?!#)|@import", own)
    assert own.count("<style>") == 1


def test_names_in_the_diagram_are_escaped(make, read, tmp_path):
    hostile = "</svg><script>alert(1)</script>$x$"
    methods = {**SMALL, hostile: [0.5, 0.6, 0.7]}
    held = [make(methods, dataset=name, name=name) for name in ("a", "b")]
    page = read(write_report(folders(held), tmp_path / "across.html"))
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert hostile in page.text


def test_the_figure_is_self_contained(datasets, tmp_path):
    across = across_datasets(datasets("a", "b"))
    svg, png, pdf = (
        write_critical_difference(across, tmp_path / "new" / f"cd.{kind}").read_bytes()
        for kind in ("svg", "png", "pdf")
    )
    assert ET.fromstring(svg).tag.endswith("svg")
    assert png.startswith(b"\x89PNG")
    assert pdf.startswith(b"%PDF")
    assert write_critical_difference(across, tmp_path / "again.svg").read_bytes() == svg
    with pytest.raises(UsageError, match=r"expected one of \.png, \.svg, \.pdf"):
        write_critical_difference(across, tmp_path / "cd.gif")
    with pytest.raises(RunFolderError, match="cannot write the figure"):
        write_critical_difference(across, tmp_path / "again.svg" / "cd.svg")


def test_write_report_takes_several_comparisons(datasets, read):
    one, two = (comparison.folder for comparison in datasets("a", "b"))
    path = write_report([one, two])
    assert path == one.parent / "across-datasets.html"
    assert "Across datasets" in read(path).text
    assert write_report([one, one]) == one / "report.html"


def test_the_command_takes_several_comparisons(datasets, read, tmp_path, capsys):
    folders = [str(comparison.folder) for comparison in datasets("a", "b")]
    assert ended(*folders) == 0
    assert capsys.readouterr().out.strip().replace("\n", "").endswith("across-datasets.html")
    assert ended(*folders) == 2
    assert "exists" in capsys.readouterr().err
    assert ended(*folders, "--out", str(tmp_path / "mine.html")) == 0
    assert "Across datasets" in read(tmp_path / "mine.html").text
    assert ended(folders[0], f"{folders[1]}/runs/joint-seed0", "--out", str(tmp_path / "z.html")) == 2
    assert "is a comparison among runs" in capsys.readouterr().err


def ended(*words):
    with pytest.raises(SystemExit) as found:
        main(["report", *words])
    return found.value.code
