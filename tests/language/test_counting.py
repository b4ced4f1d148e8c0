"""Counts of n-grams: against a counter of tuples, in memory and in runs on disk."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import UserError
from asr.language import counting
from asr.language.counting import Counts, Scratch, count_ngrams

SENTENCES = [line.split() for line in ("a b c", "a b", "c", "b a b a b a b")]
ARRAYS = ("word", "first_child", "count")


def by_hand(sentences: Sequence[Sequence[str]], order: int) -> Counter[tuple[str, ...]]:
    """How often each n-gram occurs, words as they are written."""
    counts: Counter[tuple[str, ...]] = Counter()
    for sentence in sentences:
        marked = ("<s>", *sentence, "</s>")
        for length in range(1, order + 1):
            starts = range(len(marked) - length + 1)
            counts.update(marked[start : start + length] for start in starts)
    return counts


def read_back(counts: Counts) -> dict[tuple[str, ...], int]:
    """The n-grams of a trie, those that occur."""
    ngrams: dict[int, tuple[str, ...]] = {0: ()}
    for parent, (start, end) in enumerate(pairwise(counts.first_child.tolist())):
        assert counts.word[start:end].tolist() == sorted(set(counts.word[start:end].tolist()))
        for node in range(start, end):
            ngrams[node] = (*ngrams[parent], counts.words[counts.word[node]])
    assert sorted(ngrams) == list(range(len(counts.word)))
    return {ngrams[node]: int(counts.count[node]) for node in ngrams if counts.count[node]}


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_counts_are_those_of_a_counter(tmp_path: Path, order: int) -> None:
    counts = count_ngrams(SENTENCES, order, Scratch(tmp_path))
    assert read_back(counts) == by_hand(SENTENCES, order)
    assert counts.words == ("<unk>", "<s>", "</s>", "a", "b", "c")
    assert (counts.sentences, counts.tokens, counts.unknown) == (4, 13, 0)


@settings(max_examples=50, deadline=None)
@given(
    sentences=st.lists(st.lists(st.sampled_from("abcd"), max_size=6), min_size=1, max_size=12),
    order=st.integers(1, 4),
    run=st.integers(1, 9),
)
def test_runs_of_any_size_give_the_counts_of_a_counter(
    tmp_path_factory: pytest.TempPathFactory, sentences: list[list[str]], order: int, run: int
) -> None:
    scratch = Scratch(tmp_path_factory.getbasetemp())
    assert read_back(count_ngrams(sentences, order, scratch, run=run)) == by_hand(sentences, order)


def zipf_text(sentences: int) -> list[list[str]]:
    random = np.random.default_rng(0)
    return [
        [f"w{min(rank, 500)}" for rank in random.zipf(1.3, random.integers(1, 30))]
        for _ in range(sentences)
    ]


def test_runs_on_disk_give_what_memory_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = zipf_text(2000)
    in_memory = count_ngrams(text, 3, Scratch(tmp_path))
    monkeypatch.setattr(counting, "SMALL_BYTES", 64)  # every array in a file
    held: list[int] = []
    sort = counting._sorted_run
    monkeypatch.setattr(
        counting, "_sorted_run", lambda keys, scratch: held.append(len(keys)) or sort(keys, scratch)
    )
    on_disk = count_ngrams(text, 3, Scratch(tmp_path), run=1000)
    assert len(held) > 40
    assert max(held) <= 1000
    for name in ARRAYS:
        assert np.array_equal(getattr(on_disk, name), getattr(in_memory, name))
        base = getattr(on_disk, name).base
        while not isinstance(base, np.memmap):
            base = base.base
    assert os.listdir(tmp_path) == []  # the files have no name


def test_a_full_disk_is_found_before_anything_is_written_to_the_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        Scratch(tmp_path).array(np.int64, 1 << 20)


def test_words_outside_the_vocabulary_are_unknown(tmp_path: Path) -> None:
    counts = count_ngrams(SENTENCES, 2, Scratch(tmp_path), vocabulary=["b", "never", "a", "b"])
    heard = [[word if word in "ab" else "<unk>" for word in sentence] for sentence in SENTENCES]
    assert read_back(counts) == by_hand(heard, 2)
    assert counts.words == ("<unk>", "<s>", "</s>", "b", "never", "a")
    assert (counts.tokens, counts.unknown) == (13, 2)


def test_orders_that_no_sentence_is_long_enough_for_are_left_out(tmp_path: Path) -> None:
    counts = count_ngrams([["a"], ["b"]], 5, Scratch(tmp_path))
    assert read_back(counts) == by_hand([["a"], ["b"]], 3)


def test_no_sentence_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sentence"):
        count_ngrams([], 3, Scratch(tmp_path))


def test_more_ngrams_than_nodes_can_be_numbered_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "MOST_NODES", 20)
    with pytest.raises(UserError, match=r"more than 20 different n-grams.*--order"):
        count_ngrams(SENTENCES, 3, Scratch(tmp_path))
