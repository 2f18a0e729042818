"""The charts of a diagnosis hold the numbers that they are given, and take names as names."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from equipoise.diagnosis import Diagnosis, LearningState
from equipoise.report import diagnosis_charts, layer_chart, quality_charts, trace_charts
from equipoise.report.quality_charts import QualityPoint, spot_size
from equipoise.report.state_charts import states


def cells(chart):
    return [[(cell.text, cell.value) for cell in row] for row in chart.numbers.rows]


def traces(chart, panel=0):
    return chart.panels[panel].figure["data"]


def test_classes_look_different_up_to_thirty_six():
    assert len({diagnosis_charts.class_style(index) for index in range(36)}) == 36


def test_projections_put_training_beside_validation_on_the_same_axes(drawings):
    chart = drawings()[1]
    assert [panel.heading for panel in chart.panels[:2]] == [
        "audio · PCA · training",
        "audio · PCA · validation",
    ]
    one, two = (panel.figure["layout"] for panel in chart.panels[:2])
    assert one["xaxis"]["range"] == two["xaxis"]["range"]
    assert (len(traces(chart)[0]["x"]), len(traces(chart, 1)[0]["x"])) == (60, 30)
    assert traces(chart)[0]["customdata"][:3] == ["walk", "run", "jump"]
    assert [key.label for key in chart.legend] == ["walk", "run", "jump"]
    assert "of the variance" in one["xaxis"]["title"]["text"]
    many = drawings(classes=tuple(f"class {k}" for k in range(31)), n=93)[1]
    assert many.legend == []
    assert "31 classes are named when pointed at" in many.caption
    assert diagnosis_charts.projections([]) is None


def test_contributions_hold_their_figures_and_intervals(drawings):
    chart = drawings()[2]
    assert [panel.heading for panel in chart.panels] == list(diagnosis_charts.FIGURES.values())
    bars, *whiskers = traces(chart, 1)
    assert bars["x"] == pytest.approx([0.3, -0.1])
    assert [trace["x"] for trace in whiskers] == [[-0.2, 0.4], [-0.2, 0.4]]
    assert len(traces(chart, 2)) == 1  # no interval is made up
    low, high = chart.panels[1].figure["layout"]["xaxis"]["range"]
    assert low < -0.2
    assert high > 0.5
    assert "91.0" in chart.caption
    assert cells(chart)[1][2][1] == pytest.approx(-0.1)
    rules = [shape["x0"] for shape in chart.panels[0].figure["layout"]["shapes"]]
    assert rules == [0.91, 0.25]


def test_a_contribution_that_was_not_measured_has_no_panel():
    class Held(dict):
        score, baseline, metric, split = 0.5, math.nan, "r2", "test"

    nan = math.nan
    item = SimpleNamespace(
        alone=nan, shapley=0.2, drop_removed=nan, drop_permuted=nan, drop_averaged=nan, intervals={}
    )
    chart = diagnosis_charts.contributions(Held(a=item))
    assert [panel.heading for panel in chart.panels] == ["Shapley value"]
    assert diagnosis_charts.contributions(Held()) is None


def test_a_confusion_matrix_is_in_shares_of_the_true_class():
    chart = quality_charts.confusion([[3, 1, 0], [0, 0, 0], [0, 5, 5]], ["a", "b", "c"], "test")
    (heat,) = traces(chart)
    np.testing.assert_allclose(heat["z"], [[0.75, 0.25, 0], [0, 0, 0], [0, 0.5, 0.5]])
    notes = {(n["x"], n["y"]): n["text"] for n in chart.panels[0].figure["layout"]["annotations"]}
    assert notes == {(0, 0): "75", (1, 0): "25", (1, 2): "50", (2, 2): "50"}
    assert "57.1" in chart.caption
    assert heat["customdata"][0][1] == "a taken for b: 1 of 4"
    assert cells(chart)[2][2] == ("5", 5.0)
    top, bottom = chart.panels[0].figure["layout"]["yaxis"]["range"]
    assert top > bottom  # the first class stands on top
    assert quality_charts.confusion(np.zeros((2, 2)), ["a", "b"]) is None
    big = quality_charts.confusion(np.eye(13), [str(k) for k in range(13)])
    assert big.panels[0].figure["layout"]["annotations"] == []


def test_the_trace_steps_at_a_relearning_in_its_order(drawings):
    chart = drawings()[-1]
    epochs = [row[0][1] for row in cells(chart)]
    events = [row[1][0] for row in cells(chart)]
    assert epochs == [0, 4, 4, 8]
    assert events == ["epoch", "before relearning", "after relearning", "epoch"]
    assert [shape["x0"] for shape in chart.panels[0].figure["layout"]["shapes"]] == [4]
    lines = [trace for trace in traces(chart) if "fill" not in trace]
    assert len(lines) == 2  # no features of the test split were measured
    assert lines[0]["y"] == pytest.approx([0.5, 0.58, 0.58, 0.66])
    assert [panel.heading for panel in chart.panels] == ["audio", "video", "gap", "accuracy of the model"]
    assert traces(chart, 2)[0]["y"] == pytest.approx([0, 0.08, 0.08, 0.16])
    assert [trace["y"][0] for trace in traces(chart, 3)] == [0.6, 0.55]
    assert {"training", "validation", "test", "re-learning"} <= {key.label for key in chart.legend}
    assert trace_charts.over_epochs([]) is None


def test_quality_has_a_panel_a_pair_and_at_most_six():
    names = ["a", "b", "c", "d", "e"]
    points = [QualityPoint("joint", 0, dict.fromkeys(names[:count], 0.5), 0.6) for count in (5,)]
    chart = quality_charts.encoder_quality(points, {})
    assert len(chart.panels) == 6
    assert "first 6 of 10 pairs" in chart.caption
    assert quality_charts.encoder_quality([QualityPoint("joint", 0, {"a": 0.5}, 0.6)], {"a": 0.5}) is None


def test_the_area_of_a_spot_grows_evenly_with_the_accuracy(drawings):
    low, middle, high = (spot_size(value, (0.5, 0.9)) ** 2 for value in (0.5, 0.7, 0.9))
    assert middle == pytest.approx((low + high) / 2)
    chart = drawings()[5]
    spots = traces(chart)[0]
    assert (spots["x"], spots["y"]) == ([0.6, 0.5], [0.6, 0.5])  # large spots first: small ones stay visible
    assert spots["marker"]["size"][0] > spots["marker"]["size"][1]
    assert {s.get("x0") for s in chart.panels[0].figure["layout"]["shapes"]} == {0.55, 0}


def test_layers_and_measures(drawings):
    layers, measures = drawings()[6], drawings()[3]
    assert traces(layers)[0]["x"] == [0.1, 0.4]
    assert layer_chart.layer_strengths({"a": {}}) is None
    assert [panel.heading for panel in measures.panels] == ["purity", "knn"]
    assert cells(measures)[0][-2:] == [("0.100", 0.1), ("0.250", 0.25)]


def test_the_interval_of_the_gap_starts_at_the_validation_score():
    def state(interval):
        return Diagnosis({"a": LearningState("a", 0.8, 0.6, 0.2, interval, False, "purity", 9, 9)})

    chart = states(state((-0.05, 0.3)))
    ends = [trace for trace in traces(chart) if trace["mode"] == "lines+markers"]
    assert ends[0]["x"] == pytest.approx([0.55, 0.9])
    assert chart.panels[0].figure["layout"]["xaxis"]["range"][0] < 0.55
    assert "interval" in chart.caption
    plain = states(state(None))
    assert all(trace["mode"] != "lines+markers" for trace in traces(plain))
    assert "interval" not in plain.caption


def test_hostile_names_are_escaped_wherever_plotly_reads_markup(drawings):
    odd = "<b>%{x}</b>$y$"
    for chart in drawings(modalities=(odd, "b"), classes=(odd, "c")):
        for panel in chart.panels:
            text = repr({k: v for k, v in panel.figure.items() if k != "heading"})
            assert odd not in text
            assert "<b>" not in text
