"""Figures for papers: complete, readable, and reproducible."""

import io
import re
import warnings
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from equipoise.report.charts.chart import Chart, Key, Panel
from equipoise.report.charts.figure import SAMPLES, figure
from equipoise.report.charts.look import layered, source, x_axis, y_axis
from equipoise.report.pages.page import Page, Section
from equipoise.report.render import colors, file_bytes, write_figures
from equipoise.types import RunFolderError, UsageError


@pytest.fixture
def simple():
    dots = source([{"x": 1, "y": 1}, {"x": 2, "y": 2}]).mark_point(filled=True, color="var(--c1)")
    drawing = layered(dots.encode(x_axis("x", "", [0, 3]), y_axis("y", "", [0, 3])), height=110)
    return Chart(
        "simple", "A title", "", [Panel("", "said", drawing)], legend=[Key("dots", "var(--c1)", "disc")]
    )


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_one_file_per_chart_and_format(drawings, tmp_path):
    charts = drawings()[4:7:2]
    written = write_figures(charts, tmp_path / "new" / "figures")
    names = [f"{c.name}.{kind}" for c in charts for kind in ("png", "svg", "pdf")]
    assert [path.name for path in written] == names
    assert sorted(path.name for path in (tmp_path / "new" / "figures").iterdir()) == sorted(names)
    pdf = written[2].read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/TrueType" in pdf or b"/CIDFontType2" in pdf
    assert b"/Type3" not in pdf
    edge = pixels(written[0].read_bytes())[[0, -1]]
    assert (edge == 255).all()  # white: nothing touches the edge


def test_the_same_chart_gives_the_same_bytes(simple, tmp_path):
    one, two = (write_figures([simple], tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_a_page_gives_the_charts_of_its_sections(simple, tmp_path):
    named = [replace(simple, name=name) for name in ("top", "part")]
    page = Page(kind="k", title="t", charts=[named[0]], sections=[Section("s", charts=[named[1]])])
    written = write_figures(page.all_charts, tmp_path, ["svg"])
    assert [path.stem for path in written] == ["top", "part"]


def test_a_figure_contains_title_headings_and_legends(drawings):
    for chart in drawings():
        svg = file_bytes(figure(chart), "svg").decode()
        held = "".join(ET.fromstring(svg).itertext())
        for words in (chart.title, *(p.heading for p in chart.panels), *(key.label for key in chart.legend)):
            assert words.replace("\N{NARROW NO-BREAK SPACE}", " ") in held, (chart.name, words)
        assert "var(" not in svg
        assert all(key.color.removeprefix("var(").removesuffix(")") in colors() for key in chart.legend)


def test_hidden_series_have_neither_legend_entry_nor_curve(simple):
    shown = replace(simple, legend=[Key("a", "var(--c1)"), Key("b", "var(--c2)", hidden=True)])
    held = file_bytes(figure(shown), "svg").decode()
    assert colors()["--c1"] in held
    assert colors()["--c2"] not in held


def test_every_mark_in_a_legend_has_a_sample(simple):
    keys = [Key(mark, "var(--c3)", mark) for mark in SAMPLES]
    held = ET.fromstring(file_bytes(figure(replace(simple, legend=keys)), "svg"))
    green = [path for path in held.iter() if colors()["--c3"] in (path.get("stroke"), path.get("fill"))]
    assert len(green) == len(SAMPLES)
    looks = [tuple(path.get(key) for key in ("d", "fill", "stroke-dasharray", "opacity")) for path in green]
    assert len(set(looks)) == len(SAMPLES) - 2  # a disc is the same as a circle, and a band as a square


def test_a_long_title_is_wrapped_and_many_legend_entries_flow(simple):
    keys = [Key(f"a key with a name {k}", "var(--c1)", "disc") for k in range(14)]
    long = replace(simple, title="many words of a title " * 12, legend=keys)
    plain, tall = (pixels(file_bytes(figure(chart), "png")) for chart in (simple, long))
    assert tall.shape[1] <= 1.05 * plain.shape[1]
    assert tall.shape[0] > 1.4 * plain.shape[0]


def test_names_are_drawn_as_text(drawings, tmp_path):
    odd = "a$b^2$ <b> %{x}\x00"
    for drawn in drawings(modalities=(odd, "b"), classes=("x_1$", odd))[4:6]:
        (path,) = write_figures([drawn], tmp_path, ["svg"])
        assert "a$b^2$ <b> %{x}" in "".join(ET.fromstring(path.read_text()).itertext())


def test_there_are_no_warnings(simple, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_figures([simple], tmp_path, ["png"])


def test_unwritable_files_are_an_error(simple, tmp_path):
    with pytest.raises(UsageError, match="'gif'"):
        write_figures([simple], tmp_path, ["gif"])
    with pytest.raises(UsageError, match="written as simple"):
        write_figures([simple, simple], tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="another folder"):
        write_figures([simple], tmp_path / "file", ["svg"])
    assert write_figures([replace(simple, name="../a b")], tmp_path, ["svg"])[0].parent == tmp_path
    assert not [p for p in tmp_path.iterdir() if re.search("part", p.name)]


@pytest.mark.parametrize(("width", "inches"), [("text", 6.4), ("column", 3.3)])
def test_a_figure_has_the_width_of_its_place(drawings, tmp_path, width, inches):
    for chart in drawings():
        if chart.columns > 1 and width == "text":
            continue  # wider by design
        (path,) = write_figures([chart], tmp_path / width, ["png"], width)
        with Image.open(path) as picture:
            assert 0.4 * inches < picture.width / 300 < 1.1 * inches, chart.name


def test_an_unknown_width_is_an_error(simple, tmp_path):
    with pytest.raises(UsageError, match="unknown width of figures 'page'"):
        write_figures([simple], tmp_path, ["svg"], "page")
