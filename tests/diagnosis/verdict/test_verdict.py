import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from equipoise.diagnosis import diagnose
from equipoise.diagnosis.contribution.contributions import Contribution, Contributions
from equipoise.diagnosis.contribution.of_features import contribution_of_features
from equipoise.diagnosis.verdict.rules import STATES, ModalityNumbers, Thresholds, rule_amounts
from equipoise.diagnosis.verdict.verdict import judge, state_of, verdicts
from equipoise.types import UsageError

FINE = ModalityNumbers(
    modality="audio",
    train_score=0.84,
    val_score=0.80,
    gap_interval=(-0.01, 0.09),
    n_val=400,
    chance=0.25,
    refit=0.80,
    without_refit=0.60,
    all_refit=0.88,
    alone=0.82,
    probe=0.81,
    fine_tuned=0.82,
    joint=0.88,
    removed_drop=0.20,
    removed_interval=(0.15, 0.25),
    shapley=0.30,
    shapley_interval=(0.25, 0.35),
)
NOISE = replace(
    FINE,
    refit=0.26,
    alone=0.27,
    probe=0.25,
    fine_tuned=0.26,
    without_refit=0.88,
    removed_drop=0.0,
    removed_interval=(-0.01, 0.01),
    shapley=0.0,
    shapley_interval=(-0.01, 0.01),
)
XOR = replace(
    FINE,
    chance=0.5,
    refit=0.5,
    alone=0.52,
    probe=0.51,
    fine_tuned=0.5,
    without_refit=0.5,
    all_refit=0.52,
    joint=0.99,
)
XOR = replace(XOR, removed_drop=0.5, removed_interval=(0.44, 0.56), train_score=0.55, val_score=0.52)


def text_of(verdict):
    return " ".join((*verdict.reasons, *verdict.remarks, *verdict.advice, *verdict.lacks))


def test_every_state_is_reachable():
    assert judge(FINE).state == "balanced"
    assert judge(replace(FINE, train_score=1.0, gap_interval=(0.15, 0.25))).state == "over-trained"
    assert judge(replace(FINE, refit=0.5, probe=0.52)).state == "under-trained"
    assert judge(NOISE).state == "scarcely informative"


def test_a_modality_informative_only_with_another_is_balanced():
    verdict = judge(XOR)
    assert verdict.state == "balanced"
    assert any("only together" in remark for remark in verdict.remarks)
    # The reason is that the joint model needs it.
    unused = replace(XOR, removed_drop=0.0, removed_interval=(-0.02, 0.02))
    assert judge(unused).state == "scarcely informative"


def test_a_drop_that_a_head_on_the_others_recovers_is_not_a_need():
    leaned_on = replace(NOISE, removed_drop=0.3, removed_interval=(0.25, 0.35))
    assert judge(leaned_on).state == "scarcely informative"


def test_a_copy_is_balanced_and_called_redundant():
    copy = replace(FINE, without_refit=0.87, removed_drop=0.01, removed_interval=(-0.01, 0.03))
    verdict = judge(copy)
    assert verdict.state == "balanced"
    assert any("redundant" in remark for remark in verdict.remarks)
    assert not any("redundant" in remark for remark in judge(FINE).remarks)


def test_memorised_noise_is_scarcely_informative_with_a_remark():
    verdict = judge(replace(NOISE, train_score=0.99, val_score=0.26, gap_interval=(0.68, 0.78)))
    assert verdict.state == "scarcely informative"
    assert any("over-trained" in remark and "0.73" in remark for remark in verdict.remarks)


def test_the_gap_precedes_the_shortfall_which_becomes_a_remark():
    both = replace(FINE, train_score=1.0, gap_interval=(0.15, 0.25), refit=0.5, probe=0.5)
    verdict = judge(both)
    assert verdict.state == "over-trained"
    assert any("under-trained" in remark for remark in verdict.remarks)


@pytest.mark.parametrize("head", ["refit", "all_refit"])
def test_a_joint_model_that_does_not_use_a_trained_encoder_neglects_it(head):
    ignored = replace(FINE, joint=0.60, without_refit=0.60, removed_drop=0.0, removed_interval=(-0.01, 0.01))
    ignored = replace(ignored, all_refit=None, refit=0.8)
    assert judge(replace(ignored, **{head: 0.8})).state == "under-trained"
    assert judge(replace(ignored, **{head: 0.65})).state == "balanced"  # its contribution is small
    assert judge(replace(ignored, **{head: 0.8}, removed_drop=0.2)).state == "balanced"  # it is used
    assert judge(replace(ignored, **{head: 0.8}, joint=0.8)).state == "balanced"  # a new head is not better


def test_a_gap_counts_if_its_interval_excludes_zero():
    wide = replace(FINE, train_score=1.0, gap_interval=(-0.01, 0.4))
    assert judge(wide).state == "balanced"
    assert judge(replace(wide, gap_interval=(0.01, 0.4))).state == "over-trained"


def test_validation_ahead_of_training_is_not_over_training():
    assert judge(replace(FINE, train_score=0.54, val_score=0.81, gap_interval=None)).state == "balanced"


def test_few_validation_samples_make_differences_less_significant():
    behind = replace(FINE, alone=0.93)
    assert judge(behind).state == "under-trained"
    assert judge(replace(behind, n_val=40)).state == "balanced"
    weak = replace(NOISE, alone=0.36)
    assert judge(weak).state != "scarcely informative"
    assert judge(replace(weak, n_val=40)).state == "scarcely informative"


@pytest.mark.parametrize("state", ["over-trained", "scarcely informative", "under-trained"])
def test_the_state_changes_at_the_border_and_reports_it(state):
    limits = Thresholds()
    plain = replace(
        FINE, n_val=None, gap_interval=None, removed_drop=0.0, removed_interval=None, shapley=None
    )
    plain = replace(plain, shapley_interval=None, without_refit=0.88)

    def near(step):
        if state == "over-trained":
            return replace(plain, train_score=plain.val_score + limits.gap + step)
        if state == "under-trained":
            return replace(plain, alone=plain.probe + limits.shortfall + step)
        floor = plain.chance + limits.information * (1 - plain.chance)
        return replace(plain, **dict.fromkeys(("refit", "probe", "alone", "fine_tuned"), floor - step))

    inside, outside = judge(near(1e-3)), judge(near(-1e-3))
    assert (inside.state, outside.state) == (state, "balanced")
    for verdict, other in ((inside, "balanced"), (outside, state)):
        assert not verdict.certain
        assert verdict.margin == pytest.approx(1e-3)
        assert any("Close to the border" in r and other in r and "0.001" in r for r in verdict.remarks)
    far = judge(near(0.05))
    assert far.certain
    assert not any("border" in remark for remark in far.remarks)


def test_a_larger_gap_never_removes_over_training():
    rng = np.random.default_rng(0)
    for _ in range(40):
        shown = {name: float(rng.uniform(0.2, 1)) for name in ("refit", "alone", "without_refit", "joint")}
        base = replace(FINE, removed_drop=float(rng.uniform(-0.1, 0.5)), removed_interval=None, **shown)
        base = replace(base, val_score=0.2)
        seen = [
            state_of(
                replace(base, train_score=0.2 + gap, gap_interval=(gap - 0.05, gap + 0.05)), Thresholds()
            )
            for gap in np.linspace(-0.2, 0.8, 21)
        ]
        first = seen.index("over-trained") if "over-trained" in seen else len(seen)
        assert set(seen[first:]) <= {"over-trained"}
        assert len(set(seen[:first])) <= 1


def test_the_margin_is_the_smallest_score_change_that_changes_the_state():
    # The state never changes while the scores of one kind change by less than the margin.
    rng = np.random.default_rng(1)
    flips = 0
    for _ in range(100):
        gap = float(rng.uniform(0, 0.3))
        numbers = replace(
            FINE, n_val=None, train_score=0.8 + gap, gap_interval=None, alone=float(rng.uniform(0.7, 1))
        )
        verdict = judge(numbers)
        for step in (0.99, 1.01):
            for sign in (-1, 1):
                moved = replace(numbers, train_score=numbers.train_score + sign * step * verdict.margin)
                if step < 1:
                    assert judge(moved).state == verdict.state
                else:
                    flips += judge(moved).state != verdict.state
    assert flips > 0


def test_the_reason_is_one_sentence_with_the_deciding_figure():
    over = judge(replace(FINE, train_score=1.0, gap_interval=(0.15, 0.25)))
    assert over.reasons == ("The gap is 0.200 [0.150, 0.250], above 0.15.",)
    assert f"{math.tanh(3 * 0.2):.2f}" in text_of(over)
    doubtful = judge(replace(FINE, train_score=1.0, gap_interval=(-0.0004, 0.4)))
    assert doubtful.reasons == (
        "The gap is 0.200 [-0.0004, 0.400], above 0.15, but the interval includes zero.",
    )
    under = judge(replace(FINE, refit=0.5, probe=0.52))
    assert under.reasons == ("Trained alone or further, it scores 0.300 more than its encoder as it is.",)
    assert judge(NOISE).reasons == ("The best head or model on this modality scores 0.020 above chance.",)
    neglected = replace(FINE, joint=0.6, without_refit=0.6, removed_drop=0.0, removed_interval=(-0.01, 0.01))
    assert judge(neglected).reasons == (
        "A new head that uses it scores 0.280 more than the joint model, which neglects it.",
    )
    below = replace(NOISE, **dict.fromkeys(("refit", "probe", "alone", "fine_tuned"), 0.234))
    assert judge(below).reasons == ("The best head or model on this modality scores 0.016 below chance.",)
    without_gap = replace(FINE, train_score=None, gap_interval=None)
    assert judge(without_gap).reasons == ("The drop without it is 0.200 [0.150, 0.250].",)
    assert judge(replace(without_gap, removed_drop=None)).reasons == ("No rule applies.",)


# The case of a user: a drop and a Shapley value below zero, and a new head that tells the four classes.
IDLE = replace(
    FINE,
    refit=0.51,
    alone=None,
    fine_tuned=None,
    probe=None,
    without_refit=0.9,
    all_refit=0.9,
    removed_drop=-0.012,
    removed_interval=(-0.03, 0.004),
    shapley=-0.006,
    shapley_interval=(-0.02, 0.01),
)


def test_a_modality_that_the_joint_model_does_not_use_is_unused():
    found = judge(IDLE)
    assert found.state == "unused (redundant)"
    assert found.reasons == (
        "The drop without it is -0.012 [-0.030, 0.004], while its features beat chance.",
    )
    assert found.advice[0].startswith("Leave it out")
    assert json.loads(json.dumps(found.to_dict()))["state"] == "unused (redundant)"
    assert judge(replace(IDLE, removed_interval=None, shapley_interval=None)).state == "unused (redundant)"
    assert judge(replace(IDLE, removed_interval=(0.0, 0.0))).state == "unused (redundant)"
    # A small but certain use, a replaceable one (a Shapley value), unknown use, and features without signal.
    assert judge(replace(IDLE, removed_drop=0.03, removed_interval=(0.01, 0.05))).state == "balanced"
    assert judge(replace(IDLE, shapley=0.3, shapley_interval=(0.25, 0.35))).state == "balanced"
    assert judge(replace(IDLE, shapley=None, shapley_interval=None)).state == "balanced"
    assert judge(replace(IDLE, refit=0.27)).state == "scarcely informative"
    # What a new head gains from, the joint model neglects.
    assert judge(replace(IDLE, without_refit=0.7, joint=0.7)).state == "under-trained"


def test_an_encoder_below_a_linear_head_on_its_inputs_is_too_weak():
    weak = replace(FINE, inputs=0.95, alone=None, fine_tuned=None)
    found = judge(weak)
    assert found.state == "encoder too weak"
    assert found.reasons == ("A linear head on its inputs scores 0.140 more than its encoder.",)
    assert "--encoder" in found.advice[0]
    assert not any("--method" in line for line in found.advice)
    assert judge(replace(weak, alone=0.84)).state == "encoder too weak"  # nor does a unimodal run beat it
    assert judge(replace(weak, alone=0.94)).state == "under-trained"  # the encoder can, if trained alone
    assert judge(replace(weak, inputs=0.9)).state == "balanced"
    assert judge(replace(weak, n_val=40)).state == "balanced"  # within two standard errors
    over = judge(replace(weak, train_score=1.0, gap_interval=(0.15, 0.25)))
    assert over.state == "over-trained"
    assert any("too weak" in remark for remark in over.remarks)


def test_a_unimodal_run_clearly_below_its_floor_has_too_weak_an_encoder():
    run = replace(FINE, inputs=0.87, alone=None, fine_tuned=None)
    assert judge(run).state == "balanced"  # its encoder is not clearly behind the inputs
    found = judge(replace(run, floor_lead=0.07, floor_lead_error=0.03))
    assert found.state == "encoder too weak"
    assert found.reasons == ("A linear model on its inputs scores 0.070 more than this run.",)
    assert found.numbers["floor_lead"] == 0.07
    assert judge(replace(run, floor_lead=0.05, floor_lead_error=0.03)).state == "balanced"


def test_advice_names_existing_methods():
    from equipoise.methods import METHODS

    for numbers in (
        replace(FINE, train_score=1.0, gap_interval=(0.1, 0.3)),
        replace(FINE, refit=0.4, probe=0.4),
    ):
        named = [word.strip(",.") for line in judge(numbers).advice for word in line.split() if "-" in word]
        named = [word for word in named if not word.startswith("--")]
        assert named
        for name in named:
            assert name in METHODS, name


def test_missing_numbers_are_reported_and_not_judged():
    bare = ModalityNumbers(modality="text", train_score=0.8, val_score=0.78, gap_interval=(-0.02, 0.06))
    verdict = judge(bare)
    assert verdict.state == "balanced"
    said = " ".join(verdict.lacks)
    for what in ("how informative", "could have learnt more", "joint model uses it"):
        assert what in said
    assert "over-training" not in said
    assert judge(FINE).lacks == ()
    assert "interval" in " ".join(judge(replace(bare, gap_interval=None)).lacks)
    without_gap = judge(replace(FINE, train_score=None, val_score=None, gap_interval=None))
    assert any("over-training" in line for line in without_gap.lacks)


def test_scarce_features_of_an_encoder_without_reference_are_reported_as_ambiguous():
    unknown = replace(NOISE, alone=None, fine_tuned=None)
    assert any("may look the same" in remark for remark in judge(unknown).remarks)
    assert not any("may look the same" in remark for remark in judge(NOISE).remarks)


def test_any_subset_of_numbers_gives_a_verdict_or_one_clear_error():
    names = list(FINE.known())
    rng = np.random.default_rng(2)
    seen = set()
    for _ in range(100):
        kept = {name: getattr(FINE, name) for name in names if rng.random() < 0.4}
        numbers = ModalityNumbers(modality="audio", **kept)
        if not rule_amounts(numbers, Thresholds()):
            with pytest.raises(UsageError, match="nothing is known of 'audio'"):
                judge(numbers)
            seen.add("error")
        else:
            verdict = judge(numbers)
            assert verdict.state in STATES
            assert set(verdict.numbers) == set(kept)
            seen.add("verdict")
    assert seen == {"error", "verdict"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"refit": math.nan},
        {"gap_interval": (0.3, 0.1)},
        {"chance": 1.0},
        {"removed_interval": (0.1, math.inf)},
    ],
)
def test_invalid_numbers_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        replace(FINE, **wrong)


def test_invalid_thresholds_are_refused():
    with pytest.raises(UsageError, match="gap"):
        Thresholds(gap=-0.1)


def test_custom_thresholds():
    over = replace(FINE, train_score=1.0, gap_interval=(0.15, 0.25))
    assert state_of(over, Thresholds(gap=0.3)) == "balanced"
    assert judge(over, Thresholds(gap=0.3)).state == "balanced"


def test_json():
    for numbers in (FINE, NOISE, XOR, replace(FINE, train_score=1.0)):
        verdict = judge(numbers)
        read = json.loads(json.dumps(verdict.to_dict()))
        for name in ("reasons", "advice", "remarks", "lacks"):
            assert tuple(read.pop(name)) == getattr(verdict, name)
        known = {k: tuple(v) if isinstance(v, list) else v for k, v in read.pop("numbers").items()}
        assert known == verdict.numbers
        assert read == {name: getattr(verdict, name) for name in ("modality", "state", "margin", "certain")}


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(3)
    y = np.arange(400) % 4
    means = 4 * np.eye(4)

    def drawn(target, clear):
        return (means[target] if clear else 0) + rng.normal(size=(len(target), 4))

    noise = drawn(y, clear=False)
    # Training features pulled toward their class mean, like those of an over-trained encoder.
    pulled = 0.2 * drawn(y[:200], clear=False) + means[y[:200]]
    over = np.concatenate([pulled, 0.25 * means[y[200:]] + drawn(y[200:], clear=False)])
    whole = {"clear": drawn(y, clear=True), "noise": noise, "over": over}
    train = {name: x[:200] for name, x in whole.items()}
    val = {name: x[200:] for name, x in whole.items()}
    return train, y[:200], val, y[200:]


def judged(train, y, val, y_val):
    diagnosis = diagnose(train, y, val, y_val, preset="robust", n_init=2, bootstrap=50)
    return verdicts(diagnosis, contribution_of_features(train, y, val, y_val))


@pytest.fixture(scope="module")
def found(features):
    return judged(*features)


def test_given_features_are_judged(found):
    assert {name: verdict.state for name, verdict in found.items()} == {
        "clear": "balanced",
        "noise": "scarcely informative",
        "over": "over-trained",
    }
    assert any("trained alone" in line for line in found["clear"].lacks)


def test_order_of_modalities_changes_no_verdict(features, found):
    train, y, val, y_val = features
    order = ["over", "clear", "noise"]
    turned = judged({m: train[m] for m in order}, y, {m: val[m] for m in order}, y_val)
    assert list(turned) == order
    for name in order:
        assert turned[name].state == found[name].state
        assert turned[name].margin == pytest.approx(found[name].margin, abs=1e-9)


def test_numbers_are_taken_from_the_right_sources():
    state = SimpleNamespace(
        modality="a", metric="purity", train_score=0.9, val_score=0.6, interval=(0.2, 0.4), n_val=100
    )
    own = Contribution("a", 0.88, 0.51, 0.52, 0.53, 0.54, 0.31, {"drop_averaged": (0.3, 0.4)})
    whole = Contributions(
        {"a": own}, 0.88, 0.2, 0.25, "accuracy", "validation", "mean", 300, True,
        refitted={"a": 0.7}, without={"a": 0.5}, refitted_all=0.87,
    )  # fmt: skip
    quality = {"a": SimpleNamespace(probe=0.71, fine_tuned=None, alone=0.72, chance=0.24)}
    numbers = verdicts({"a": state}, whole, quality)["a"].numbers
    assert dict(numbers) == {
        "train_score": 0.9, "val_score": 0.6, "gap_interval": (0.2, 0.4), "n_val": 300, "chance": 0.25,
        "refit": 0.7, "without_refit": 0.5, "all_refit": 0.87, "alone": 0.72, "probe": 0.71, "joint": 0.88,
        "removed_drop": pytest.approx(0.34), "removed_interval": (0.3, 0.4), "shapley": 0.31,
    }  # fmt: skip


def test_chance_is_the_score_of_a_constant_prediction_on_the_scored_samples():
    own = Contribution("a", 0.88, 0.51, 0.52, 0.53, 0.54, 0.31)
    whole = Contributions({"a": own}, 0.8, 0.2, 0.3, "accuracy", "validation", "mean", 10, True)
    state = SimpleNamespace(
        modality="a", metric="purity", train_score=0.9, val_score=0.9, interval=None, n_val=5
    )
    for confusion, chance in ((((4, 3), (1, 2)), 0.7), (None, 0.3), (((3, 0, 0),) * 3 + ((0, 0, 1),), 0.3)):
        shown = replace(whole, confusion=confusion)
        assert verdicts({"a": state}, shown)["a"].numbers["chance"] == chance


def test_the_gap_of_a_measure_that_is_not_a_share_is_dropped():
    state = SimpleNamespace(
        modality="a", metric="silhouette", train_score=0.9, val_score=0.1, interval=(0.7, 0.9), n_val=100
    )
    quality = {"a": SimpleNamespace(probe=0.71, fine_tuned=None, alone=0.72, chance=0.25)}
    verdict = verdicts({"a": state}, None, quality)["a"]
    assert verdict.state == "balanced"
    assert any("over-training" in line for line in verdict.lacks)


def test_an_encoder_that_has_learnt_nothing_of_its_inputs_is_too_weak() -> None:
    untouched = replace(NOISE, alone=None, fine_tuned=None)
    assert judge(untouched).state == "scarcely informative"
    found = judge(replace(untouched, inputs=0.60))
    assert found.state == "encoder too weak"
    assert found.reasons == ("A linear head on its inputs scores 0.340 more than its encoder.",)
    # The head is a lower bound, not what training could reach: that is still unknown.
    assert any("trained alone" in line for line in found.lacks)
    assert judge(replace(FINE, inputs=0.5)).state == "balanced"
