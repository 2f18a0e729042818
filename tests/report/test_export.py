"""Figures for papers: whole, readable, and the same on every call."""

import re
import warnings
from dataclasses import replace

import pytest
from matplotlib.image import imread

from equipoise.report.export import write_figures
from equipoise.report.figures import Chart, Key, Panel, layout
from equipoise.report.page import Fold, Page, Section
from equipoise.types import EquipoiseWarning, RunFolderError, UsageError


@pytest.fixture
def simple():
    marker = {"color": "--c1", "size": 8}
    dots = {"type": "scatter", "mode": "markers", "x": [1, 2], "y": [1, 2], "marker": marker}
    figure = {"data": [dots], "layout": layout(160, x={"range": [0, 3]}, y={"range": [0, 3]})}
    return Chart("simple", "A title", "", [Panel("", "said", figure)], legend=[Key("dots", "--c1", "disc")])


def test_one_file_a_chart_and_format(drawings, tmp_path):
    charts = drawings()[4:7:2]
    written = write_figures(charts, tmp_path / "new" / "figures")
    names = [f"{c.name}.{kind}" for c in charts for kind in ("png", "svg", "pdf")]
    assert [path.name for path in written] == names
    assert sorted(path.name for path in (tmp_path / "new" / "figures").iterdir()) == sorted(names)
    pdf = written[2].read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/TrueType" in pdf or b"/CIDFontType2" in pdf
    assert b"/Type3" not in pdf
    picture = imread(written[0])
    edge = picture[[0, -1]].reshape(-1, picture.shape[-1])
    assert (edge == 1).all()  # white, and nothing reaches the edge


def test_the_same_chart_gives_the_same_bytes(simple, tmp_path):
    one, two = (write_figures([simple], tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_a_page_gives_the_charts_of_its_sections_and_folds(simple, tmp_path):
    named = [replace(simple, name=name) for name in ("top", "part", "inner", "deep")]
    section = Section("s", charts=[named[1]], folds=[Fold("f", charts=[named[2]])])
    page = Page("k", "t", charts=[named[0]], sections=[section], folds=[Fold("f", charts=[named[3]])])
    written = write_figures(page, tmp_path, formats=["svg"])
    assert {path.stem for path in written} == {"top", "part", "inner", "deep"}


def test_a_long_title_is_wrapped_and_many_keys_flow(simple, tmp_path):
    keys = [Key(f"a key with a name {k}", "--c1", "disc") for k in range(14)]
    long = replace(simple, title="many words of a title " * 12, legend=keys)
    plain, tall = (
        imread(write_figures([c], tmp_path / n, ["png"])[0]) for c, n in ((simple, "a"), (long, "b"))
    )
    assert tall.shape[1] <= 1.05 * plain.shape[1]
    assert tall.shape[0] > 1.4 * plain.shape[0]


def test_names_are_letters_whatever_they_hold(drawings, tmp_path):
    odd = "a$b^2$ <b> %{x}\x00"
    for drawn in drawings(modalities=(odd, "b"), classes=("x_1$", odd))[4:6]:
        write_figures([drawn], tmp_path, ["svg"])


def test_letters_without_a_glyph_are_told_of_once(simple, tmp_path):
    with pytest.warns(EquipoiseWarning, match="lacks letters") as caught:
        write_figures([replace(simple, title="\u6b65\u884c")], tmp_path, ["png"])
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_figures([simple], tmp_path, ["png"])


def test_what_cannot_be_written_is_said(simple, tmp_path):
    with pytest.raises(UsageError, match="'gif'"):
        write_figures([simple], tmp_path, ["gif"])
    with pytest.raises(UsageError, match="written as simple"):
        write_figures([simple, simple], tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="another folder"):
        write_figures([simple], tmp_path / "file", ["svg"])
    assert write_figures([replace(simple, name="../a b")], tmp_path, ["svg"])[0].parent == tmp_path
    assert not [p for p in tmp_path.iterdir() if re.search("part", p.name)]
