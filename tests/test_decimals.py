import math

import numpy as np
import pytest

from equipoise.cli.tables import number
from equipoise.decimals import bracketed, ends, fixed
from equipoise.diagnosis import Diagnosis, LearningState
from equipoise.report.text.wording import between


@pytest.mark.parametrize(
    ("interval", "written"),
    [
        ((-0.0004, 0.02), " [-0.0004, 0.020]"),
        ((0.0004, 0.02), " [0.0004, 0.020]"),
        ((-0.3, -0.00002), " [-0.300, -0.00002]"),
        ((0.0, 0.02), " [0.000, 0.020]"),
        ((-0.0, 1e-17), " [0.000, 0.000]"),  # float rounding, as in 0.3 - 0.1 - 0.2
        ((-6e-9, 6e-8), " [0.000, 0.000]"),  # of scores in single precision
        ((-0.0005, 1234.5), " [-0.001, 1,234.500]"),
        (None, ""),
    ],
)
def test_an_interval_is_never_rounded_across_zero(interval, written):
    assert bracketed(interval) == written


def test_written_ends_lie_on_the_side_of_zero_of_the_ends():
    rng = np.random.default_rng(0)
    values = rng.choice([-1, 1], size=(300, 2)) * 10 ** rng.uniform(-5.9, 1, size=(300, 2))
    for low, high in np.sort(values, axis=1):
        for digits in (1, 2, 3):
            for value, text in zip((low, high), ends(low, high, digits, signed=True), strict=True):
                assert np.sign(float(text)) == np.sign(value)
                assert abs(float(text) - value) <= 0.5 * 10.0**-digits


def test_no_zero_has_a_minus_sign():
    assert fixed(-0.0001) == fixed(-0.0) == "0.000"
    assert (number(-0.0001), number(-0.0001, "+.3f"), number(math.nan)) == ("0.000", "+0.000", "-")
    assert between(-0.0004, 0.02, signed=True) == "\N{MINUS SIGN}0.0004 to +0.020"


def test_a_printed_diagnosis_has_a_gap_with_its_sign_and_interval():
    state = LearningState("audio", 0.5, 0.51, 0.01, (-0.02, 0.0004), False, "purity", 9, 9)
    head, names, _, row = str(Diagnosis({"audio": state})).splitlines()
    assert head == "learning state by purity"
    assert names.split()[:3] == ["train_score", "val_score", "gap"]
    assert row.split()[:6] == ["audio", "0.500", "0.510", "-0.010", "[-0.020,", "0.0004]"]
