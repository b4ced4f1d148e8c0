"""Bootstrap intervals: against all draws counted out, a slow loop, and their promise."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

from asr.scoring.intervals import bootstrap


def exact_interval(errors: list[int], words: list[int]) -> tuple[float, float]:
    """The percentiles over every one of the N^N equally probable resampled corpora."""
    rates = sorted(
        sum(errors[i] for i in drawn) / sum(words[i] for i in drawn)
        for drawn in itertools.product(range(len(errors)), repeat=len(errors))
    )
    return tuple(rates[math.ceil(share * len(rates)) - 1] for share in (0.025, 0.975))  # type: ignore[return-value]


def test_the_interval_is_that_of_all_resampled_corpora_counted_out() -> None:
    errors, words = [0, 3, 1, 9, 2], [10, 11, 12, 13, 14]
    interval = bootstrap(errors, words, [""] * 5, resamples=100_000)
    assert (interval.low, interval.high) == pytest.approx(exact_interval(errors, words), abs=0.012)
    assert (interval.drawn, interval.count) == ("utterances", 5)


def test_speakers_are_drawn_with_all_their_utterances() -> None:
    speakers = ["a", "b", "a", "c", "b", "c", "a"]
    errors, words = [1, 5, 2, 0, 4, 1, 0], [5, 9, 6, 7, 8, 5, 4]
    rng = random.Random(7)
    rates = []
    for _ in range(20_000):
        drawn = [rng.choice("abc") for _ in range(3)]
        rows = [row for speaker in drawn for row in range(7) if speakers[row] == speaker]
        rates.append(sum(errors[row] for row in rows) / sum(words[row] for row in rows))
    rates.sort()
    interval = bootstrap(errors, words, speakers, resamples=20_000)
    assert interval.low == pytest.approx(rates[int(0.025 * 20_000)], abs=0.01)
    assert interval.high == pytest.approx(rates[int(0.975 * 20_000)], abs=0.01)
    assert (interval.drawn, interval.count) == ("speakers", 3)


def test_it_covers_the_true_rate_where_drawing_utterances_would_not() -> None:
    rng = np.random.default_rng(5)
    by_speaker = by_utterance = 0
    trials, speakers, utterances = 200, 40, 10
    for _ in range(trials):
        skill = rng.beta(2, 18, size=speakers)  # true rate 2 / (2 + 18) = 10 %
        errors = rng.binomial(10, np.repeat(skill, utterances)).tolist()
        words = [10] * (speakers * utterances)
        names = [str(number) for number in range(speakers) for _ in range(utterances)]
        drawn = bootstrap(errors, words, names, resamples=400)
        by_speaker += drawn.low <= 0.1 <= drawn.high
        drawn = bootstrap(errors, words, [""] * len(errors), resamples=400)
        by_utterance += drawn.low <= 0.1 <= drawn.high
    assert 0.89 <= by_speaker / trials <= 0.99
    assert by_utterance / trials < 0.85


def test_the_width_is_that_of_the_normal_approximation_for_a_large_corpus() -> None:
    rng = np.random.default_rng(11)
    errors = rng.binomial(10, 0.1, size=2_000)
    interval = bootstrap(errors.tolist(), [10] * 2_000, [""] * 2_000, resamples=2_000)
    spread = errors.std() / 10 / math.sqrt(2_000)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * spread, rel=0.08)


@pytest.mark.parametrize(
    ("speakers", "drawn"),
    [
        (["a", "b", "c"], "speakers"),
        (["a", "b", ""], "utterances"),  # one is unknown
        (["a", "a", "a"], "utterances"),  # one speaker cannot vary
    ],
)
def test_speakers_are_drawn_where_all_are_known_and_there_are_several(
    speakers: list[str], drawn: str
) -> None:
    assert bootstrap([1, 2, 3], [4, 5, 6], speakers).drawn == drawn


def test_the_same_input_gives_the_same_interval() -> None:
    arguments = ([1, 0, 3], [4, 5, 6], ["", "", ""])
    assert bootstrap(*arguments) == bootstrap(*arguments)


def test_large_corpora_are_drawn_in_blocks_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors, words, speakers = [1, 0, 3, 2], [4, 5, 6, 7], [""] * 4
    at_once = bootstrap(errors, words, speakers)
    monkeypatch.setattr("asr.scoring.intervals.BLOCK", 10)
    assert bootstrap(errors, words, speakers) == at_once


@pytest.mark.parametrize(
    ("errors", "words", "low", "high"),
    [
        ([], [], 0.0, 0.0),
        ([0, 0], [3, 4], 0.0, 0.0),
        ([0, 0], [0, 0], 0.0, 0.0),
        ([1, 2], [0, 0], math.inf, math.inf),
        ([2, 0], [0, 8], 0.0, math.inf),  # a resampled corpus may hold the silence alone
    ],
)
def test_edge_cases(errors: list[int], words: list[int], low: float, high: float) -> None:
    interval = bootstrap(errors, words, [""] * len(errors))
    assert (interval.low, interval.high) == (low, high)
