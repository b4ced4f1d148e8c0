"""Error rates: against hand calculations, jiwer's own sums, brute force and NIST's sclite."""

from __future__ import annotations

import math
import random
import re
import shutil
import subprocess
from pathlib import Path

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.scoring.rates import Counts, Scored, Scores, score, score_one

SCLITE = shutil.which("sclite") or "/usr/lib/sctk/bin/sclite"

texts = st.lists(st.sampled_from(["a", "bc", "dd"]), max_size=6).map(" ".join)


def said(reference: str, hypothesis: str | None) -> Scored:
    return Scored("id", "", reference, hypothesis)


# The table "Edge cases" of docs/evaluation.md, row by row.
EDGE_CASES = [
    # utterances, wer, cer, ser, missing
    ("nothing at all", [], 0.0, 0.0, 0.0, 0),
    ("silence heard as silence", [("", "")], 0.0, 0.0, 0.0, 0),
    ("words heard in silence alone", [("", "a b")], math.inf, math.inf, 1.0, 0),
    ("words heard in silence", [("a b", "a b"), ("", "a")], 0.5, 1 / 3, 0.5, 0),
    ("nothing heard", [("a b", "")], 1.0, 1.0, 1.0, 0),
    ("missing", [("a b", None)], 1.0, 1.0, 1.0, 1),
    ("missing silence", [("a", "a"), ("", None)], 0.0, 0.0, 0.5, 1),
    ("more heard than said", [("a", "b c d")], 3.0, 5.0, 1.0, 0),
    ("white space only", [(" \t", "\n")], 0.0, 0.0, 0.0, 0),
]


@pytest.mark.parametrize(
    ("pairs", "wer", "cer", "ser", "missing"),
    [row[1:] for row in EDGE_CASES],
    ids=[row[0] for row in EDGE_CASES],
)
def test_edge_cases_are_as_documented(
    pairs: list[tuple[str, str | None]], wer: float, cer: float, ser: float, missing: int
) -> None:
    scores = score([said(*pair) for pair in pairs])
    assert (scores.wer, scores.cer, scores.ser, scores.missing) == (wer, cer, ser, missing)


def test_the_rate_that_chooses_counts_words_or_what_stands_for_them() -> None:
    phones = [("R AH B AW T", "R AH P AW"), ("JH IY", "JH IY IY")]
    scores = score([said(*pair) for pair in phones])
    # By hand: B heard as P, T not heard, an IY too many; 3 of 7.
    assert (scores.substitutions, scores.deletions, scores.insertions) == (1, 1, 1)
    assert scores.rate == 3 / 7 == jiwer.wer(*map(list, zip(*phones, strict=True)))
    assert score([said("a b", "a")]).rate == score([said("a b", "a")]).wer == 1 / 2


def test_errors_are_summed_and_rates_are_not_averaged() -> None:
    scores = score([said("a", "b"), said("a b c d e f g h i", "a b c d e f g h i")])
    assert scores.wer == 1 / 10  # the mean of the two rates would be 1/2
    assert scores.ser == 1 / 2


def test_a_missing_utterance_loses_all_its_words() -> None:
    scores = score([said("one two three", None), said("four", "four")])
    assert (scores.words, scores.deletions, scores.missing, scores.wrong) == (4, 3, 1, 1)
    assert scores.word_counts == Counts(correct=1, deletions=3)


def test_the_space_between_words_is_a_character() -> None:
    scores = score_one(said("ab cd", "abcd"))
    assert (scores.character_counts.deletions, scores.cer) == (1, 1 / 5)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=8))
def test_sums_are_those_of_jiwer_over_the_whole_corpus(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = [list(side) for side in zip(*pairs, strict=True)]
    words = jiwer.process_words(references, hypotheses)
    characters = jiwer.process_characters(references, hypotheses)
    scores = score(said(*pair) for pair in pairs)
    for counts, theirs in ((scores.word_counts, words), (scores.character_counts, characters)):
        assert counts.substitutions == theirs.substitutions
        assert counts.deletions == theirs.deletions
        assert counts.insertions == theirs.insertions
        assert counts.correct == theirs.hits
    if scores.words:
        assert scores.wer == pytest.approx(words.wer)
        assert scores.cer == pytest.approx(characters.cer)


def distance(reference: str, hypothesis: str) -> int:
    """Levenshtein distance of two strings by the textbook's table."""
    row = list(range(len(hypothesis) + 1))
    for i, spoken in enumerate(reference, start=1):
        previous, row = row, [i]
        for j, heard in enumerate(hypothesis, start=1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (spoken != heard)))
    return row[-1]


@given(texts, texts)
def test_characters_wrong_are_the_edit_distance(reference: str, hypothesis: str) -> None:
    counts = score_one(said(reference, hypothesis)).character_counts
    assert counts.errors == distance(reference, hypothesis)
    assert counts.reference_length == len(reference)


@given(st.lists(st.tuples(texts, texts), max_size=6), st.integers(0, 6))
def test_the_scores_of_two_parts_add_up_to_those_of_the_whole(
    pairs: list[tuple[str, str]], cut: int
) -> None:
    utterances = [said(*pair) for pair in pairs]
    assert score(utterances[:cut]) + score(utterances[cut:]) == score(utterances)
    assert score([]) == Scores()


@pytest.mark.skipif(not Path(SCLITE).is_file(), reason="needs NIST's sclite (package sctk)")
def test_errors_are_those_that_sclite_counts(tmp_path: Path) -> None:
    rng = random.Random(3)
    vocabulary = [*"abcde", "rubout", "january", "seven", "eleven", "o'clock", "help"]
    utterances = []
    for number in range(200):
        reference = [rng.choice(vocabulary) for _ in range(rng.randint(1, 12))]
        hypothesis = []
        for word in reference:
            draw = rng.random()
            if draw > 0.05:  # else left out
                hypothesis.append(rng.choice(vocabulary) if draw < 0.2 else word)
            if rng.random() < 0.05:
                hypothesis.append(rng.choice(vocabulary))
        heard = None if number % 50 == 0 else " ".join(hypothesis)
        utterances.append(Scored(f"s_{number}", "s", " ".join(reference), heard))
    for side in ("reference", "hypothesis"):
        lines = [f"{getattr(one, side) or ''} ({one.id})\n" for one in utterances]
        (tmp_path / side).write_text("".join(lines))
    command = [SCLITE, "-r", "reference", "trn", "-h", "hypothesis", "trn", "-i", "rm"]
    output = subprocess.run(
        [*command, "-o", "pra", "stdout"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    found = re.findall(r"id: \(s_(\d+)\)\s+Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)", output)
    theirs = {int(number): [int(count) for count in counts] for number, *counts in found}
    assert len(theirs) == len(utterances)
    for number, utterance in enumerate(utterances):
        correct, substitutions, deletions, insertions = theirs[number]
        counts = score_one(utterance).word_counts
        # Of equally short alignments sclite prefers another now and then; the sum is the same.
        assert counts.errors == substitutions + deletions + insertions, utterance
        assert counts.reference_length == correct + substitutions + deletions
    ours = score(utterances)
    same = sum(
        theirs[number][1:] == [scores.substitutions, scores.deletions, scores.insertions]
        for number, scores in enumerate(map(score_one, utterances))
    )
    assert same >= 190
    assert ours.missing == 4
