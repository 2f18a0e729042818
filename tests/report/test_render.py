"""Pictures without JavaScript: every mark is at the position of its number, in the page's colours."""

import re
import xml.etree.ElementTree as ET

import altair as alt
import numpy as np
import pytest

from equipoise.files.printable import printable
from equipoise.report.charts.chart import Chart, Panel
from equipoise.report.charts.look import band, curve, layered, row_labels, rules, source, tips, x_axis, y_axis
from equipoise.report.html import static_panels
from equipoise.report.pages.across import across_page
from equipoise.report.pages.comparison import comparison_page
from equipoise.report.records import runs_of
from equipoise.report.render import colors, file_bytes, fixed_svg, shared, specification, static_svg
from vega import column, drawn, variables

X, Y = x_axis("x", "x", [0, 10]), y_axis("y", "y", [0, 1])


def picture(*marks, height=200):
    """The SVG element of these layers, as an element tree."""
    return ET.fromstring(static_svg(specification(layered(*marks, height=height)), 400, "test"))


def panels(chart):
    """The pictures of the panels of a chart."""
    return static_panels(chart, [specification(panel.drawing) for panel in chart.panels])


def dots(x, y, **style):
    rows = [{"x": a, "y": b} for a, b in zip(x, y, strict=True)]
    return source(rows).mark_point(filled=True, color="var(--c1)", **style).encode(X, Y)


def positions(tree):
    """The positions of the marks, in the order of the numbers."""
    return np.array([(float(use.get("x")), float(use.get("y"))) for use in tree.iter("use")])


def test_markers_are_at_the_positions_of_their_numbers():
    x, y = [0.5, 9.0, 3.0, 7.5, 5.0], [0.1, 0.9, 0.35, 0.2, 0.6]
    found = positions(picture(dots(x, y)))
    assert found.shape == (5, 2)
    for numbers, pixels, sign in ((x, found[:, 0], 1), (y, found[:, 1], -1)):
        slope, start = np.polyfit(numbers, pixels, 1)
        np.testing.assert_allclose(np.multiply(numbers, slope) + start, pixels, atol=0.06)
        assert np.sign(slope) == sign  # y decreases upwards in an SVG


def boxes(tree, color):
    """Width and height of the rectangles of a colour."""
    found = []
    for path in tree.iter("path"):
        if path.get("fill") == f"var({color})":
            width, height = re.fullmatch(r"M[-\d.,]+h([\d.]+)v([\d.]+)h-[\d.]+Z", path.get("d")).groups()
            found.append((float(width), float(height)))
    return np.array(found)


@pytest.mark.parametrize("along", [0, 1])
def test_bars_have_the_length_of_their_numbers(along):
    lengths = [0.2, 0.4, 1.0]
    rows = [{"name": name, "length": length} for name, length in zip("abc", lengths, strict=True)]
    length, name = (x_axis, alt.Y) if along == 0 else (y_axis, alt.X)
    bars = source(rows).mark_bar(color="var(--c3)").encode(length("length", "", [0, 1]), name("name:N"))
    found = boxes(picture(bars), "--c3")
    np.testing.assert_allclose(found[:, along] / found[2, along], lengths, atol=1e-3)
    np.testing.assert_allclose(found[:, 1 - along], found[0, 1 - along], atol=0.05)


def test_cells_have_the_opacity_of_their_numbers(drawings):
    svg = panels(drawings()[4])[0]
    shares = column(drawn(drawings()[4]), "share")
    wide = svg[: svg.index("static narrow")]
    found = [float(value) for value in re.findall(r'fill="var\(--ink\)"[^>]* fill-opacity="([\d.]+)"', wide)]
    np.testing.assert_allclose(found, shares, atol=1e-3)


def test_gaps_bands_and_rules_are_drawn():
    rows = [{"x": k, "y": value} for k, value in enumerate((0.1, 0.2, float("nan"), 0.4, 0.5))]
    between = [{"x": k, "y": 0.1, "high": 0.3} for k in (0, 1)]
    tree = picture(
        band(between, X, Y, "high", "var(--c4)"),
        rules([5], X, "x"),
        curve(rows, X, Y, "var(--c2)", "dot", tips(x="d")),
    )
    (line,) = [path for path in tree.iter("path") if path.get("stroke") == "var(--c2)"]
    assert line.get("d").count("M") == 2  # the gap
    assert line.get("stroke-dasharray") == "2,3"
    assert [path.get("fill") for path in tree.iter("path") if path.get("fill") == "var(--c4)"]
    assert len([rule for rule in tree.iter("line") if rule.get("stroke") == "var(--muted)"]) == 1
    assert not list(tree.iter("use"))  # the points that show numbers are not drawn


def test_row_labels_have_the_background_of_the_page():
    y = y_axis("place", "", [-1, 1])
    labels = layered(*row_labels([{"name": "a <b>", "note": "c $d$", "place": 0}], y), height=90)
    text = static_svg(specification(labels), 300, "t")
    assert text.count("a &lt;b&gt;") == text.count("c $d$") == 2
    assert variables(text) >= {"--paper", "--ink", "--muted"}


def test_every_chart_of_every_page_is_drawn(make, drawings, usual):
    comparison = make(usual, name="one")
    pages = [
        comparison_page(comparison, runs_of(comparison)),
        across_page([make(usual, dataset=n, name=n) for n in "ab"]),
    ]
    charts = [c for page in pages for c in page.all_charts] + drawings()
    names = {"accuracy", "curves", "learning", "strength", "accuracy-of-0", "states", "projections"}
    assert {c.name for c in charts} >= names | {"contributions", "measures", "layers", "trace"}
    for chart in charts:
        for place, svg in enumerate(panels(chart)):
            held = "".join(ET.fromstring(f"<a>{svg}</a>").itertext())
            titles = {layer["encoding"].get("x", {}).get("title") for layer in drawn(chart, place)["layer"]}
            assert all(printable(title) in held for title in titles - {None}), chart.name
            assert variables(svg) <= set(colors()), chart.name  # no colour is missing from the style sheet
            assert not re.search(r'(?:fill|stroke)="(?!var\(|none|transparent)', svg), chart.name


def test_scatter_plots_stay_small_and_ids_are_unique(drawings):
    cloud = drawings(n=1000)[1]
    pictures = panels(cloud)
    assert pictures[0].count("<use ") == 2 * 1000
    assert len(pictures[0]) < 50 * 2 * 1000 + 10_000
    everything = "".join(pictures)
    assert not re.search(r"https?://|url\((?!#)|<style|<script", everything)
    ids = re.findall(r'\bid="([^"]+)"', everything)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', everything)) <= set(ids)


def test_only_equal_elements_are_shared():
    svg = '<svg class="a"><path transform="translate(1,2)" d="M0" fill="x"/>' * 2
    svg += '<path transform="translate(3,4)" d="M0" fill="y"/><text>id="z" class="b"</text></svg>'
    found = shared(svg, "n")
    assert found.count("<use ") == 3
    assert found.count("<path ") == 2
    assert '<text>id="z" class="b"</text>' in found  # text is not changed


def test_pictures_are_reproducible_to_the_byte(drawings):
    assert [panels(c) for c in drawings()[:3]] == [panels(c) for c in drawings()[:3]]


def test_marks_outside_an_axis_are_clipped():
    rows = [{"x": 0, "y": 0.2}, {"x": 1, "y": 50.0}]
    tree = picture(curve(rows, X, Y, "var(--c2)", "line", tips(x="d")))
    clips = {f"url(#{path.get('id')})" for path in tree.iter("clipPath")}
    users = [group for group in tree.iter() if group.get("clip-path") in clips]
    assert any(path.get("stroke") == "var(--c2)" for group in users for path in group.iter())


def test_a_colour_missing_from_the_style_sheet_is_an_error():
    odd = source([{"x": 1, "y": 0.5}]).mark_point(color="var(--unknown)").encode(X, Y)
    with pytest.raises(KeyError, match="--unknown"):
        file_bytes(layered(odd, height=90), "svg")
    assert colors()["--c1"] == "#d55e00"


def test_the_user_s_theme_has_no_effect():
    drawing = layered(dots([1], [0.5]), height=90)
    before = specification(drawing), fixed_svg(drawing, "t")
    with alt.theme.enable("dark"):
        assert (specification(drawing), fixed_svg(drawing, "t")) == before


def test_a_lone_panel_is_wider_than_panels_side_by_side():
    panel = Panel("", "said <b>", layered(dots([1], [0.5]), height=90))
    one, two = (Chart("c", "t", "", [panel] * n, n) for n in (1, 2))
    for chart, width in ((one, 860), (two, 500)):
        wide, narrow = re.findall(r'<svg width="(\d+)"', panels(chart)[0])
        assert (int(wide), int(narrow)) == (width, 358)
        assert 'aria-label="said &lt;b&gt;"' in panels(chart)[0]
