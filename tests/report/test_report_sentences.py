import math
from dataclasses import replace

import pytest

from equipoise.diagnosis.verdict.rules import ModalityNumbers
from equipoise.diagnosis.verdict.verdict import judge
from equipoise.report import write_comparison_report
from equipoise.report.text.learning import Reading
from equipoise.report.text.sentences import over_training

JOINT = [0.80, 0.81, 0.82]


@pytest.fixture
def summary(make, read, tmp_path):
    """Write the report of a comparison and return its text."""
    return lambda accuracies, **changes: (
        read(write_comparison_report(make(accuracies, **changes), tmp_path / "report.html")).text
    )


def test_claims_help_if_the_interval_is_above_zero(summary):
    text = summary({"joint": JOINT, "diagnose-relearn": [0.85, 0.861, 0.869]})
    assert "Yes: re-learning helped here." in text
    assert "the difference is +0.050 (95 % interval" in text
    assert "No difference can be claimed" not in text
    assert "paired t-test: p" in text


def test_claims_nothing_if_the_interval_includes_zero(summary, usual):
    text = summary(usual)
    assert "No difference can be claimed." in text
    assert "the interval includes zero" in text
    assert "helped here" not in text


def test_equal_differences_are_not_reported_as_one_seed(summary):
    text = summary({"joint": JOINT, "diagnose-relearn": [0.82, 0.83, 0.84]})
    assert "differences that are equal on every seed give no interval" in text
    assert "No difference can be claimed." in text


def test_reports_a_loss(summary):
    text = summary({"joint": JOINT, "diagnose-relearn": [0.75, 0.761, 0.769]})
    assert "No: re-learning did harm here." in text
    assert "the difference is -0.050 " in text


@pytest.mark.parametrize(
    ("seeds", "reason"), [(1, "one seed gives no interval"), (2, "needs at least 3 seeds")]
)
def test_claims_nothing_for_few_seeds_even_with_a_large_difference(summary, seeds, reason):
    text = summary({"joint": [0.5, 0.501][:seeds], "diagnose-relearn": [0.9, 0.902][:seeds]})
    assert "No difference can be claimed." in text
    assert reason in text
    assert "not ranked" in text
    assert "a ranking needs at least 3 seeds" in text


def test_names_every_over_trained_modality(summary, usual):
    text = summary(usual, gaps={"audio": 0.2, "video": 0.1})
    assert "audio was over-trained. The gap, training minus validation purity, at the last" in text
    assert "audio 0.200 (95 % interval 0.200 to 0.200), video 0.100 (95 % interval" in text
    assert "audio and video were over-trained." in summary(usual, gaps={"audio": 0.3, "video": 0.2}, name="b")


def test_names_no_modality_whose_interval_includes_zero(summary, usual):
    unsure = {"gaps": {"audio": 0.3, "video": 0.1}, "strengths": {"audio": 0.5, "video": 0.4}}
    text = summary(usual, **unsure, wobble={"audio": 0.15})
    # Student's t with 2 degrees of freedom: 0.3 -+ 4.303 * 0.15 / sqrt(3).
    assert "audio 0.300 (95 % interval -0.073 to 0.673)" in text
    assert "No modality stands out." in text
    assert "Encoders were pulled back; none stands out." in text
    assert "was over-trained" not in text
    sure = summary(usual, **unsure, wobble={"audio": 0.01}, name="sure")
    assert "audio was over-trained." in sure
    assert "audio was pulled back most." in sure


def test_one_seed_has_its_own_interval_or_names_nothing(summary):
    text = summary({"joint": [0.8], "diagnose-relearn": [0.8]}, gaps={"audio": 0.3})
    assert "audio 0.300 (no interval)" in text
    assert "No modality stands out." in text


@pytest.mark.parametrize("gap", [-0.1, 0.1, 0.2, 0.4])
@pytest.mark.parametrize("spread", [0.0, 0.02, 0.1])
def test_over_training_is_decided_as_in_the_verdicts(gap, spread):
    gaps = [gap - spread, gap, gap + spread]
    read = [
        Reading(seed, 3, "diagnosis", "audio", 0.5 + own, 0.5, math.nan, "purity")
        for seed, own in enumerate(gaps)
    ]
    half = 4.302653 * spread / math.sqrt(3)
    numbers = {"train_score": 0.5 + gap, "val_score": 0.5, "gap_interval": (gap - half, gap + half)}
    verdict = judge(ModalityNumbers(modality="audio", **numbers)).state
    named = over_training(read, "joint").verdict == "audio was over-trained."
    assert named == (verdict == "over-trained")
    shares_no_scale = [replace(reading, metric="silhouette") for reading in read]
    assert over_training(shares_no_scale, "joint").verdict != "audio was over-trained."


def test_negative_gaps_are_not_over_training(summary, usual):
    text = summary(usual, gaps={"audio": -0.2, "video": -0.1})
    assert "No modality was over-trained." in text
    assert "video -0.100 (95 % interval -0.100 to -0.100), audio -0.200" in text


def test_reports_the_effect_of_re_learning(summary, usual):
    text = summary(usual, gaps={"audio": 0.2, "video": 0.1}, strengths={"audio": 0.5, "video": 0.25})
    assert "audio was pulled back most. After epochs 4 and 8" in text
    assert "mean strength: audio 0.50, video 0.25" in text
    assert "the gap of audio narrowed from 0.250 to 0.200 and the gap of video narrowed from 0.150" in text


@pytest.mark.parametrize("ruler", [{"matched_size": True}, {"metric": "nearest-class-mean"}])
def test_does_not_compare_gaps_of_different_measures(summary, usual, ruler):
    text = summary(usual, ruler=ruler)
    assert "measured them with other options" in text
    assert "narrowed" not in text


def test_compares_gaps_that_were_computed_with_other_care(summary, usual):
    assert "narrowed" in summary(usual, ruler={"n_init": 20, "sign": "positive", "bootstrap": 0})


def test_without_diagnoses_gaps_are_not_mentioned(summary, usual):
    text = summary(usual, diagnosed=False)
    assert "Not measured." in text
    assert "how the gaps changed is unknown" in text


def test_without_the_compared_methods(summary):
    only_joint = summary({"joint": JOINT}, name="a")
    assert "diagnose-relearn is not among the methods" in only_joint
    only_treated = summary({"diagnose-relearn": JOINT}, name="b")
    assert "joint is not among the methods" in only_treated
    assert "pulled back most" in only_treated
    unimodal = summary({"unimodal:audio": JOINT, "unimodal:video": JOINT}, name="c")
    assert "Joint training is not among the methods" in unimodal


def test_claims_nothing_for_runs_that_are_not_comparable(make, read, tmp_path):
    comparison = make(
        {"joint": JOINT, "diagnose-relearn": [0.9, 0.91, 0.92]}, result={"init_fingerprint": "x"}
    )
    folder = comparison.folder / "runs" / "joint-seed1" / "result.json"
    folder.write_text(folder.read_text().replace('"split_fingerprint": "s"', '"split_fingerprint": "other"'))
    comparison.summary["not_ranked_because"] = ["the runs of seed 1 differ in splits"]
    comparison.summary["ranked"] = False
    page = read(write_comparison_report(comparison, tmp_path / "r.html"))
    assert "No difference can be claimed." in page.text
    assert "The runs are not comparable: the runs of seed 1 differ in splits." in page.text
    assert page.rows()["diagnose-relearn"]["difference to joint"] == ("\N{EN DASH}", None)


def test_failed_runs_are_named_and_excluded(summary, usual):
    reason = "failed: the loss is <nan> at step 3"
    text = summary(usual, failed={("diagnose-relearn", 1): reason})
    assert "1 run did not come to an end" in text
    assert f"diagnose-relearn, seed 1: {reason}" in text
    assert "Paired over 2 seeds" in text


def test_all_runs_failed(summary):
    text = summary({"joint": [0.5]}, failed={("joint", 0): "failed: no memory"})
    assert "No run came to its end." in text
    assert "failed: no memory" in text


def test_values_that_are_not_numbers_are_skipped(summary, usual):
    text = summary(usual, gaps={"audio": math.nan, "video": 0.1})
    assert "video 0.100 (95 % interval" in text
    assert "nan" not in text.lower()
