"""The charts of a diagnosis contain the given numbers, and names are escaped."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from equipoise.diagnosis import Diagnosis, LearningState
from equipoise.report.charts.confusion import confusion
from equipoise.report.charts.contributions import FIGURES, contributions
from equipoise.report.charts.encoders import SPOTS, QualityPoint, encoder_quality
from equipoise.report.charts.layers import layer_strengths
from equipoise.report.charts.projections import class_style, projections
from equipoise.report.charts.relearning import scores
from equipoise.report.charts.states import states
from equipoise.report.charts.trace import over_epochs
from equipoise.report.text.learning import Reading
from vega import column, data, domain, drawn, layers, rows


def cells(chart):
    return [[(cell.text, cell.value) for cell in row] for row in chart.numbers.rows]


def test_classes_are_distinguishable_up_to_thirty_six():
    assert len({class_style(index) for index in range(36)}) == 36


def test_projections_show_training_and_validation_on_the_same_axes(drawings):
    chart = drawings()[1]
    assert [panel.heading for panel in chart.panels[:2]] == [
        "audio · PCA · training",
        "audio · PCA · validation",
    ]
    one, two = drawn(chart), drawn(chart, 1)
    for axis in "xy":
        assert domain(one, axis) == domain(two, axis)
    assert (len(rows(one, "x", "y", "class")), len(rows(two, "x", "y", "class"))) == (60, 30)
    (names,) = (layer["transform"][0]["from"]["data"]["name"] for layer in one["layer"])
    named = {row["class"]: row["name"] for row in one["datasets"][names]}
    assert [named[c] for c in column(one, "class", "x")[:3]] == ["walk", "run", "jump"]
    assert [key.label for key in chart.legend] == ["walk", "run", "jump"]
    assert [(key.color, key.mark) for key in chart.legend] == [class_style(c) for c in range(3)]
    assert "of the variance" in one["layer"][0]["encoding"]["x"]["title"]
    many = drawings(classes=tuple(f"class {k}" for k in range(31)), n=93)[1]
    assert many.legend == []
    assert "31 classes are named when pointed at" in many.caption
    assert projections([]) is None


def test_only_scores_of_one_ruler_are_joined_by_a_line():
    diagnosis = Reading(0, 4, "diagnosis", "audio", 0.6, 0.5, math.nan, "purity")
    before = Reading(0, 4, "relearning", "audio", 0.9, 0.4, 0.7, "purity")
    joined = scores({"plus": [before, diagnosis]})
    assert [row[4][0] for row in cells(joined)] == ["0.900", "0.600"]
    assert "measured right before" in joined.caption
    for other in (
        replace(before, metric="knn"),
        replace(before, options=frozenset({("assign", "transfer")})),
    ):
        chart = scores({"plus": [other, diagnosis]})
        assert [row[4][0] for row in cells(chart)] == ["0.600"]
        assert "with other options" in chart.caption
        assert [key.label for key in chart.legend][-1] == "re-learning"  # when it took place is still shown


def test_contributions_contain_their_figures_and_intervals(drawings):
    chart = drawings()[2]
    assert [panel.heading for panel in chart.panels] == list(FIGURES.values())
    removed = drawn(chart, 1)
    assert column(removed, "value", "modality") == pytest.approx([0.3, -0.1])
    assert [(row["low"], row["high"]) for row in rows(removed, "low")] == [(-0.2, 0.4), (-0.2, 0.4)]
    assert layers(drawn(chart, 2), "low") == []  # without an interval none is drawn
    low, high = domain(removed, "x")
    assert low < -0.2
    assert high > 0.5
    assert "0.910" in chart.caption
    assert cells(chart)[1][2][1] == pytest.approx(-0.1)
    alone = drawn(chart)
    rules = [layer for layer in layers(alone, "value") if layer["mark"]["type"] == "rule"]
    assert [alone["datasets"][layer["data"]["name"]] for layer in rules] == [
        [{"value": 0.91}],
        [{"value": 0.25}],
    ]


def test_a_contribution_that_was_not_measured_has_no_panel():
    class Held(dict):
        score, baseline, metric, split = 0.5, math.nan, "r2", "test"

    nan = math.nan
    item = SimpleNamespace(
        alone=nan, shapley=0.2, drop_removed=nan, drop_permuted=nan, drop_averaged=nan, intervals={}
    )
    chart = contributions(Held(a=item))
    assert [panel.heading for panel in chart.panels] == ["Shapley value"]
    assert contributions(Held()) is None


def test_a_confusion_matrix_is_in_shares_of_the_true_class():
    chart = confusion([[3, 1, 0], [0, 0, 0], [0, 5, 5]], ["a", "b", "c"], "test")
    spec = drawn(chart)
    found = {(row["row"], row["column"]): row for row in rows(spec, "share")}
    shares = {place: row["share"] for place, row in found.items()}
    assert shares == {(0, 0): 0.75, (0, 1): 0.25, (2, 1): 0.5, (2, 2): 0.5}
    one = found[0, 1]
    assert (one["true class"], one["predicted class"], one["samples"], one["of"]) == ("a", "b", 1, 4)
    assert any(layer["mark"]["type"] == "text" for layer in spec["layer"])
    assert "0.571" in chart.caption
    assert cells(chart)[2][2] == ("5", 5.0)
    encoding = spec["layer"][0]["encoding"]
    assert encoding["y"]["scale"]["domain"] == [0, 1, 2]  # the first class is on top
    assert encoding["y"]["axis"]["labelExpr"] == '["a", "b", "c"][datum.value]'
    assert confusion(np.zeros((2, 2)), ["a", "b"]) is None
    big = drawn(confusion(np.eye(13), [str(k) for k in range(13)]))
    assert [layer["mark"]["type"] for layer in big["layer"]] == ["rect"]


def test_the_trace_has_a_step_at_each_relearning(drawings):
    chart = drawings()[-1]
    epochs = [row[0][1] for row in cells(chart)]
    events = [row[1][0] for row in cells(chart)]
    assert epochs == [0, 4, 4, 8]
    assert events == ["epoch", "before relearning", "after relearning", "epoch"]
    audio, _, gap, accuracy = (drawn(chart, panel) for panel in range(4))
    (moments, *_) = audio["layer"]
    assert (moments["mark"]["type"], data(audio, moments)) == ("rule", [{"epoch": 4}])
    curves = layers(audio, "name", "value")
    assert len(curves) == 2  # no features of the test split were measured
    assert all(curve["mark"]["order"] is False for curve in curves)  # the rows keep their order
    assert column(audio, "value", "name") == pytest.approx([0.5, 0.58, 0.58, 0.66])
    assert [panel.heading for panel in chart.panels] == ["audio", "video", "gap", "accuracy of the model"]
    assert column(gap, "value", "name") == pytest.approx([0, 0.08, 0.08, 0.16])
    first = [data(accuracy, layer)[0]["value"] for layer in layers(accuracy, "name", "value")]
    assert first == [0.6, 0.55]
    assert {"training", "validation", "test", "re-learning"} <= {key.label for key in chart.legend}
    assert over_epochs([]) is None


def test_quality_has_a_panel_per_pair_and_at_most_six():
    names = ["a", "b", "c", "d", "e"]
    points = [QualityPoint("joint", 0, dict.fromkeys(names, 0.5), 0.6)]
    chart = encoder_quality(points, {})
    assert len(chart.panels) == 6
    assert "first 6 of 10 pairs" in chart.caption
    assert encoder_quality([QualityPoint("joint", 0, {"a": 0.5}, 0.6)], {"a": 0.5}) is None


def test_the_area_of_a_spot_is_linear_in_the_accuracy(drawings):
    spec = drawn(drawings()[5])
    (spots,) = layers(spec, "multimodal")
    size = spots["encoding"]["size"]["scale"]
    assert size["domain"] == pytest.approx([0.6, 0.7])
    assert size["range"] == list(SPOTS)  # areas, and a linear scale
    assert "type" not in size
    found = rows(spec, "multimodal")
    assert [row["multimodal"] for row in found] == sorted((r["multimodal"] for r in found), reverse=True)
    assert [(row["first"], row["second"]) for row in found if row["method"] == "joint"] == [
        (0.6, 0.6),
        (0.5, 0.5),
    ]
    alone = [spec["datasets"][layer["data"]["name"]] for layer in spec["layer"][:2]]
    assert alone == [[{"first": 0.55}], [{"second": 0.55}]]


def test_a_method_keeps_its_colour_and_methods_of_equal_colour_differ_in_shape():
    points = [QualityPoint(m, 0, {"a": 0.5, "b": 0.5}, 0.6) for m in ("joint", "x", "y")]
    chart = encoder_quality(points, {}, colors={"joint": "var(--ink)", "x": "var(--c2)", "y": "var(--c2)"})
    assert [key.color for key in chart.legend] == ["var(--ink)", "var(--c2)", "var(--c2)"]
    assert len({(key.color, key.mark) for key in chart.legend}) == 3


def test_layers_and_measures(drawings):
    strengths, measures = drawings()[6], drawings()[3]
    assert column(drawn(strengths), "strength", "layer") == [0.1, 0.4]
    assert drawn(strengths)["layer"][0]["encoding"]["y"]["sort"] is None  # the first layer is on top
    assert layer_strengths({"a": {}}) is None
    assert [panel.heading for panel in measures.panels] == ["purity", "knn"]
    assert cells(measures)[0][-2:] == [("0.200", pytest.approx(0.2)), ("0.100 to 0.250", None)]


def test_the_interval_of_the_gap_starts_at_the_validation_score():
    def state(interval):
        return Diagnosis({"a": LearningState("a", 0.8, 0.6, 0.2, interval, False, "purity", 9, 9)})

    chart = states(state((-0.05, 0.3)))
    (row,) = rows(drawn(chart), "low", "high")
    assert (row["low"], row["high"]) == pytest.approx((0.55, 0.9))
    assert domain(drawn(chart), "x")[0] < 0.55
    assert "interval" in chart.caption
    plain = states(state(None))
    assert layers(drawn(plain), "low") == []
    assert "interval" not in plain.caption
