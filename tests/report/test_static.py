"""Static pictures: everything that is drawn live is drawn there, at the places that the numbers ask for."""

import copy
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from equipoise.report.across import across_page
from equipoise.report.comparison import comparison_page
from equipoise.report.figures import Chart, Key, Panel, axis_title, band, layout, line
from equipoise.report.records import runs_of
from equipoise.report.static import draw, page_svg, plain_style, saved, static_panels
from equipoise.report.static_axes import Brush
from equipoise.report.static_colors import rgba, themed, variables

X = {"title": axis_title("x"), "range": [0, 10], "nticks": 5}
Y = {"title": axis_title("y"), "range": [0, 1], "nticks": 5}


def chart(traces, **more):
    figure = {"data": traces, "layout": layout(200, **{"x": X, "y": Y, **more})}
    return Chart("c", "title", "caption", [Panel("", "said", figure)])


def dots(x, y, **marker):
    return {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": y,
        "marker": {"color": "--c1", "size": 6, **marker},
    }


def wide(drawn):
    """The picture for a wide window, as a tree."""
    (both,) = static_panels(drawn)
    return ET.fromstring(f"<a>{both}</a>")[0]


def positions(drawn):
    """Where the markers lie, in the order of the numbers."""
    return np.array([(float(u.get("x")), float(u.get("y"))) for u in wide(drawn).iter("use")])


def test_markers_lie_where_their_numbers_say():
    x, y = [0.5, 9.0, 3.0, 7.5, 5.0], [0.1, 0.9, 0.35, 0.2, 0.6]
    found = positions(chart([dots(x, y)]))
    assert found.shape == (5, 2)
    for numbers, pixels, sign in ((x, found[:, 0], 1), (y, found[:, 1], -1)):
        slope, start = np.polyfit(numbers, pixels, 1)
        np.testing.assert_allclose(np.multiply(numbers, slope) + start, pixels, atol=0.02)
        assert np.sign(slope) == sign  # up is less in an SVG
    backwards = positions(chart([dots(x, y)], y={**Y, "range": [1, 0]}))[:, 1]
    np.testing.assert_allclose(backwards + found[:, 1], backwards[0] + found[0, 1], atol=0.05)


def _boxes(drawn, color):
    """Width and height of the filled rectangles of a colour."""
    found = []
    for path in wide(drawn).iter("path"):
        if f"fill: var({color})" in path.get("style", "") and path.get("d", "").count("L") == 3:
            numbers = np.array(re.findall(r"-?[\d.]+", path.get("d")), float).reshape(-1, 2)
            found.append(np.ptp(numbers, axis=0))
    return np.array(found)


@pytest.mark.parametrize("orientation", ["v", "h"])
def test_bars_are_as_long_as_their_numbers(orientation):
    lengths, places = [0.2, 0.4, 1.0], [1, 4, 8]
    data = (places, lengths) if orientation == "v" else (lengths, places)
    bars = {"type": "bar", "x": data[0], "y": data[1], "width": 1.0, "marker": {"color": "--c3"}}
    axes = (
        {"x": X, "y": Y}
        if orientation == "v"
        else {"x": {**X, "range": [0, 1]}, "y": {**Y, "range": [0, 10]}}
    )
    found = _boxes(chart([{**bars, "orientation": orientation}], **axes), "--c3")
    along, across = (1, 0) if orientation == "v" else (0, 1)
    np.testing.assert_allclose(found[:, along] / found[2, along], lengths, atol=1e-3)
    np.testing.assert_allclose(found[:, across], found[0, across], atol=0.05)


def test_cells_are_as_opaque_as_their_numbers():
    heat = {"type": "heatmap", "x": [0, 1], "y": [0, 1], "z": [[0.0, 0.25], [0.5, 1.0]], "zmin": 0, "zmax": 1}
    drawn = chart(
        [{**heat, "colorscale": [[0, "--c2/0"], [1, "--c2/1"]]}],
        x={**X, "range": [-1, 2]},
        y={**Y, "range": [2, -1]},
    )
    opacities = re.findall(
        r"fill: var\(--c2\)(?:; opacity: ([\d.]+)|; fill-opacity: ([\d.]+))?", static_panels(drawn)[0]
    )
    values = [float(a or b or 1) for a, b in opacities][:3]
    assert values == [0.25, 0.5, 1.0]


def test_gaps_bands_rules_and_notes_are_drawn():
    traces = [
        line([0, 1, 2, 3, 4], [0.1, 0.2, float("nan"), 0.4, 0.5], "--c2", dash="dot"),
        band([0, 1], [0.1, 0.1], [0.3, 0.3], "--c2/0.16"),
        {**line([0, 1], [0, 1], "--c4"), "visible": False},
    ]
    rule = {
        "type": "line",
        "x0": 5,
        "x1": 5,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": "--c5", "width": 1},
    }
    note = {
        "x": 1,
        "xref": "paper",
        "y": 0.5,
        "xanchor": "right",
        "text": "a &lt;b&gt;<br>c &#36;d$",
        "showarrow": False,
        "font": {"color": "--c6"},
    }
    text = str(static_panels(chart(traces, shapes=[rule], annotations=[note]))[0])
    dotted = r'<path d="([^"]+)"[^>]*style="[^"]*stroke-dasharray[^"]*stroke: var\(--c2\)'
    (curve,) = re.findall(dotted, text[: text.index("narrow")])
    assert curve.count("M") == 2  # the gap
    assert "fill: var(--c2)" in text
    assert "var(--c5)" in text
    assert "var(--c6)" in text
    assert "var(--c4)" not in text
    assert "a &lt;b&gt;" in text
    assert "c $d$" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f["data"][0].update(type="pie"), "type 'pie'"),
        (lambda f: f["data"][0].update(mode="text"), "mode 'text'"),
        (lambda f: f["data"][0].update(stackgroup="a"), "stackgroup"),
        (lambda f: f["data"][0]["marker"].update(symbol="asterisk"), "asterisk"),
        (lambda f: f["data"][0]["marker"].update(color="red"), "'red' is no colour"),
        (lambda f: f["data"][0]["marker"].update(color="--unknown"), "--unknown"),
        (lambda f: f["layout"].update(barmode="stack"), "barmode"),
        (lambda f: f["layout"]["xaxis"].update(type="log"), "type of xaxis"),
        (lambda f: f["layout"]["xaxis"].update(tickformat=".3f"), "ticks as '.3f'"),
        (lambda f: f["layout"].update(shapes=[{"type": "circle"}]), "shape 'circle'"),
        (lambda f: f["layout"].update(annotations=[{"text": "a", "x": 0, "y": 0}]), "without arrows"),
    ],
)
def test_what_is_not_known_is_refused(change, message):
    figure = copy.deepcopy(dict(chart([dots([1], [0.5])]).panels[0].figure))
    change(figure)
    with pytest.raises(ValueError, match=re.escape(message)):
        static_panels(Chart("c", "t", "", [Panel("", "said", figure)]))


def test_an_unknown_mark_of_a_key_is_refused():
    odd = replace(chart([dots([1], [0.5])]), legend=[Key("odd", "--c1", "spiral")])
    with plain_style("x", "path"), pytest.raises(ValueError, match="'spiral'"):
        draw(odd.panels, 300, Brush(), words=odd)


def test_every_chart_of_every_page_is_drawn(make, drawings, usual):
    comparison = make(usual, name="one")
    pages = [
        comparison_page(comparison, runs_of(comparison)),
        across_page([make(usual, dataset=n, name=n) for n in "ab"]),
    ]
    charts = [c for page in pages for c in page.all_charts] + drawings()
    assert {c.name for c in charts} >= {"accuracy", "curves", "learning", "strength", "accuracy-of-0"}
    assert {c.name for c in charts} >= {
        "states",
        "projections",
        "contributions",
        "measures",
        "layers",
        "trace",
    }
    for drawn in charts:
        for panel, svg in zip(drawn.panels, static_panels(drawn), strict=True):
            held = "".join(ET.fromstring(f"<a>{svg}</a>").itertext())
            title = panel.figure["layout"]["xaxis"]["title"]["text"]
            assert title in held.replace("&lt;", "<"), drawn.name


def test_clouds_become_images_and_ids_are_unique(drawings):
    cloud = drawings(n=900)[1]
    pictures = static_panels(cloud)
    assert pictures[0].count("data:image/png;base64,") == 1  # 900 marks
    assert "<use" not in pictures[0]
    everything = "".join(pictures)
    assert not re.search(r"https?://|url\(|<style|<script", everything)
    ids = re.findall(r'\bid="([^"]+)"', everything)
    assert len(ids) == len(set(ids))


def test_colours_are_those_of_the_style_sheet_and_lead_back_to_it():
    assert len(set(variables().values())) == len(variables())
    for name in variables():
        color, opacity = rgba(f"{name}/0.5")
        assert opacity == 0.5
        assert themed(f"fill: {color}") == f"fill: var({name})"
    assert variables()["--c1"] == "#d55e00"
    assert rgba("--paper", paper="#ffffff") == ("#ffffff", 1.0)


def test_pictures_repeat_to_the_byte(drawings):
    assert [static_panels(c) for c in drawings()[:3]] == [static_panels(c) for c in drawings()[:3]]


def test_what_is_clipped_stays_clipped():
    far = chart([line([0, 1], [0.2, 50.0], "--c2")])
    with plain_style("clip", "none"):
        svg = page_svg(saved(draw(far.panels, 300, Brush()), "svg"), "said", "static")
    inner = ET.fromstring(svg).findall(".//svg")
    assert any(child.get("style", "").count("var(--c2)") for own in inner for child in own)
    assert all(float(own.get("width")) < 300 for own in inner)
