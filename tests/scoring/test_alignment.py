"""Alignment of words: against hand calculations, brute force and NIST's sclite."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from asr.scoring.alignment import Op, Pair, align, draw

texts = st.lists(st.sampled_from(["a", "b", "c"]), max_size=6).map(" ".join)


def fewest_errors(reference: list[str], hypothesis: list[str]) -> int:
    """The Levenshtein distance, straight from its definition."""

    @cache
    def between(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        same = reference[i - 1] == hypothesis[j - 1]
        return min(between(i - 1, j - 1) + (not same), between(i - 1, j) + 1, between(i, j - 1) + 1)

    return between(len(reference), len(hypothesis))


@given(texts, texts)
def test_an_alignment_holds_both_texts_and_has_as_few_errors_as_brute_force(
    reference: str, hypothesis: str
) -> None:
    pairs = align(reference, hypothesis)
    assert [pair.reference for pair in pairs if pair.reference] == reference.split()
    assert [pair.hypothesis for pair in pairs if pair.hypothesis] == hypothesis.split()
    for pair in pairs:
        assert (pair.op is Op.CORRECT) == (pair.reference == pair.hypothesis)
        assert (pair.op is Op.DELETION) == (pair.hypothesis is None)
        assert (pair.op is Op.INSERTION) == (pair.reference is None)
    errors = sum(pair.op is not Op.CORRECT for pair in pairs)
    assert errors == fewest_errors(reference.split(), hypothesis.split())


def test_each_kind_of_error_is_told_apart() -> None:
    assert align("one two three four", "one too three four more") == (
        Pair(Op.CORRECT, "one", "one"),
        Pair(Op.SUBSTITUTION, "two", "too"),
        Pair(Op.CORRECT, "three", "three"),
        Pair(Op.CORRECT, "four", "four"),
        Pair(Op.INSERTION, None, "more"),
    )
    assert align("go on", "on")[0] == Pair(Op.DELETION, "go", None)


def test_white_space_of_any_kind_and_amount_only_separates() -> None:
    assert align(" one\ttwo\u00a0 three\n", "one two three") == align(
        "one two three", "one two three"
    )


def test_the_picture_stands_word_under_word() -> None:
    picture = draw(align("go to marseille now", "go two marseille right now"), width=60)
    assert picture.plain.splitlines() == [
        "REF: go to  marseille ***   now",
        "HYP: go two marseille right now",
        "        S             I",
    ]


def test_a_long_alignment_goes_on_below_and_correct_blocks_are_only_counted() -> None:
    words = " ".join(f"w{number:02d}" for number in range(40))
    picture = draw(align(words, words.replace("w20", "x")), width=45)  # ten words a line
    assert picture.plain.splitlines() == [
        "... 20 words correct",
        "",
        "REF: w20 w21 w22 w23 w24 w25 w26 w27 w28 w29",
        "HYP: x   w21 w22 w23 w24 w25 w26 w27 w28 w29",
        "     S",
        "",
        "... 10 words correct",
    ]


def test_words_in_wide_characters_keep_the_columns_straight() -> None:
    lines = draw(align("東京 to b", "東 to c"), width=60).plain.splitlines()
    assert cell_len(lines[0][: lines[0].index("to")]) == cell_len(lines[1][: lines[1].index("to")])


@given(texts, texts, st.integers(20, 60))
@settings(max_examples=50)
def test_no_line_of_the_picture_is_wider_than_asked(
    reference: str, hypothesis: str, width: int
) -> None:
    picture = draw(align(reference, hypothesis), width)
    assert all(cell_len(line) <= width for line in picture.plain.splitlines())


@pytest.mark.parametrize("text", ["", "a b"])
def test_without_an_error_there_is_only_the_number_of_words(text: str) -> None:
    assert draw(align(text, text), 80).plain == f"... {len(text.split())} words correct"
