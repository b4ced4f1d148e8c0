from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from asr.decoding.hypothesis import Transcript
from asr.formats.timeline import printable, timeline

Make = Callable[..., Transcript]


def times(transcript: Transcript) -> list[tuple[int, int]]:
    return [(word.start_ms, word.end_ms) for word in timeline(transcript).words]


def test_times_that_can_be_written_stay_to_the_millisecond(transcript: Make) -> None:
    content = timeline(transcript(("a", 0.1234, 0.5), ("b", 0.5, 1.9996), duration_s=2.0006))
    assert [(word.start_ms, word.end_ms) for word in content.words] == [(123, 500), (500, 2000)]
    assert content.end_ms == 2000
    assert timeline(transcript(duration_s=1.001)).end_ms == 1001  # 1000.9999… as a product


@pytest.mark.parametrize(
    ("words", "repaired"),
    [
        pytest.param([(0, 3), (2, 4)], [(0, 2000), (2000, 4000)], id="overlap"),
        pytest.param([(0, 9), (1, 2)], [(0, 1000), (1000, 2000)], id="one within another"),
        pytest.param([(1, 1), (1, 2)], [(1000, 1001), (1001, 2000)], id="no length"),
        pytest.param([(3, 4), (1, 2)], [(3000, 3001), (3001, 3002)], id="backwards"),
        pytest.param([(9, 9), (10, 11)], [(9000, 9001), (9999, 10000)], id="beyond the end"),
        pytest.param([(10, 10)] * 2, [(9998, 9999), (9999, 10000)], id="at the end"),
        pytest.param([(-1, 1)], [(0, 1000)], id="before the beginning"),
    ],
)
def test_times_that_cannot_be_written_are_repaired(
    words: Sequence[tuple[float, float]], repaired: list[tuple[int, int]], transcript: Make
) -> None:
    assert times(transcript(*(("a", *word) for word in words), duration_s=10.0)) == repaired


def test_words_of_a_recording_without_a_length_have_a_millisecond_each(transcript: Make) -> None:
    assert times(transcript(("a", 0, 0), ("b", 0, 0))) == [(0, 1), (1, 2)]


def test_a_word_too_long_is_cut_into_even_pieces_that_share_its_time(transcript: Make) -> None:
    words = timeline(transcript(("kl", 0.0, 1.0), ("abcdefghij", 1.0, 2.0)), longest=4).words
    assert [(word.text, word.start_ms, word.end_ms, word.spaced) for word in words] == [
        ("kl", 0, 1000, False),
        ("abc", 1000, 1300, True),
        ("def", 1300, 1600, False),
        ("ghij", 1600, 2000, False),
    ]


@pytest.mark.parametrize(
    ("text", "spaced"),
    [
        ("a bc d", [False, True, True]),
        (" a  bc\td ", [True, True, True]),
        ("abcd", [False, False, False]),
        ("abc d", [False, False, True]),
        ("something else", [True, True, True]),
        ("a bc d e", [True, True, True]),
        ("", [True, True, True]),
    ],
)
def test_words_are_apart_where_the_text_has_them_apart(
    text: str, spaced: list[bool], transcript: Make
) -> None:
    words = [("a", 0, 1), ("bc", 1, 2), ("d", 2, 3)]
    assert [word.spaced for word in timeline(transcript(*words, text=text)).words] == spaced


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc\u2028d", "a b c d"),
        ("a\x00b\x1bc\x85", "abc"),
        ("\udc80x", "\ufffdx"),
        ("👩‍👩‍👧 e\u0301", "👩‍👩‍👧 e\u0301"),
        (" \x00", ""),
    ],
)
def test_text_is_on_one_line_and_can_be_encoded(text: str, shown: str) -> None:
    assert printable(text) == shown
    printable(text).encode()


def test_a_word_without_a_character_that_shows_is_left_out(transcript: Make) -> None:
    assert times(transcript(("\x00", 0, 1), ("a", 1, 2))) == [(1000, 2000)]


def test_all_times_rise_and_stay_within_the_recording(transcripts: list[Transcript]) -> None:
    rng = random.Random(0)
    for transcript in transcripts:
        content = timeline(transcript, rng.choice([None, 10]))
        edges = [edge for word in content.words for edge in (word.start_ms, word.end_ms)]
        assert all(earlier <= later for earlier, later in pairwise([0, *edges, content.end_ms]))
        assert all(word.start_ms < word.end_ms for word in content.words)
        assert content.end_ms <= max(transcript.duration_s * 1000, len(content.words), 1)
        assert "".join(word.text for word in content.words) == "".join(
            word.word for word in transcript.words
        )
