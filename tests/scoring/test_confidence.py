"""Calibration error and normalised cross entropy against calculations by hand."""

from __future__ import annotations

import math

import pytest

from asr.scoring.alignment import align
from asr.scoring.confidence import reliability, right_words


def test_calibration_error_is_the_gap_of_each_bin_weighed_by_its_words() -> None:
    # Bins: 0.3 and 0.4 together (0.35, half of them right), 0.65 (wrong), 0.95 three times (2/3).
    confidences = [0.32, 0.4, 0.65, 0.95, 0.95, 0.95]
    found = reliability(confidences, [True, False, False, True, True, False])
    gaps = 2 * abs(0.36 - 0.5) + 1 * abs(0.65 - 0.0) + 3 * abs(0.95 - 2 / 3)
    assert found.ece == pytest.approx(gaps / 6)
    filled = {round(one.high, 1): one for one in found.bins if one.words}
    assert {high: one.words for high, one in filled.items()} == {0.4: 2, 0.7: 1, 1.0: 3}
    assert filled[0.4].confidence == pytest.approx(0.36)
    assert filled[1.0].right == pytest.approx(2 / 3)
    assert found.words == 6


@pytest.mark.parametrize(
    ("confidence", "low"),
    [(0.0, 0.0), (0.1, 0.0), (0.1001, 0.1), (0.3, 0.2), (0.7, 0.6), (0.95, 0.9), (1.0, 0.9)],
)
def test_a_confidence_is_in_the_bin_whose_upper_end_it_does_not_pass(
    confidence: float, low: float
) -> None:
    (filled,) = (one for one in reliability([confidence], [True]).bins if one.words)
    assert filled.low == pytest.approx(low)


def test_normalised_cross_entropy_is_the_share_of_uncertainty_that_is_gone() -> None:
    found = reliability([0.9, 0.8, 0.3, 0.6], [True, True, False, True])
    before = -3 * math.log2(3 / 4) - math.log2(1 / 4)
    after = -math.log2(0.9) - math.log2(0.8) - math.log2(1 - 0.3) - math.log2(0.6)
    assert found.nce == pytest.approx((before - after) / before)


def test_to_give_each_word_the_share_of_right_ones_is_worth_nothing_and_to_know_is_worth_all() -> (
    None
):
    right = [True, True, False, True]
    assert reliability([0.75] * 4, right).nce == pytest.approx(0.0)
    assert reliability([1.0, 1.0, 0.0, 1.0], right).nce == pytest.approx(1.0, abs=1e-4)
    assert reliability([0.0, 0.0, 1.0, 0.0], right).nce < -20  # type: ignore[operator]


@pytest.mark.parametrize(
    ("confidences", "right", "ece", "nce"),
    [
        ([], [], None, None),
        ([0.9, 0.9], [True, True], pytest.approx(0.1), None),
        ([0.9, 0.9], [False, False], pytest.approx(0.9), None),
    ],
)
def test_what_no_word_or_words_of_one_kind_cannot_say_is_none(
    confidences: list[float], right: list[bool], ece: object, nce: None
) -> None:
    found = reliability(confidences, right)
    assert (found.ece, found.nce) == (ece, nce)
    assert len(found.bins) == 10


def test_inserted_and_substituted_words_are_wrong_and_deleted_ones_are_none() -> None:
    pairs = align("go to marseille right now", "um go two marseille now")
    assert right_words(pairs) == [False, True, False, True, True]
