"""How often each n-gram stands in a text that may be larger than memory.

Tokens go to a file as numbers. The n-grams of each order are counted as pairs: the place of their
first n - 1 words among all n-grams that are one word shorter, and their last word, packed into one
integer. Runs of such integers are sorted, kept on disk where there are several, and merged.
"""

from __future__ import annotations

import array
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from asr.errors import UserError
from asr.kernels import kernel
from asr.language.ngram import END, START, UNKNOWN
from asr.language.trie import MOST_NODES, Int32

Int64 = NDArray[np.int64]

UNKNOWN_ID, START_ID, END_ID = 0, 1, 2
RUN = 1 << 22  # n-grams that are sorted in memory at a time: about 200 MB
SMALL_BYTES = 1 << 20  # arrays that are not worth a file


@dataclass(frozen=True)
class Scratch:
    """Makes arrays that are files without a name in `folder`, mapped into memory.

    The system writes them out and forgets them where memory is short; they are gone with the array
    or the process, however it ends.
    """

    folder: Path

    def array(self, dtype: DTypeLike, length: int) -> NDArray[Any]:
        """Zeros [length].

        Raises:
            OSError: the disk is full.
        """
        size = np.dtype(dtype).itemsize * length
        if size < SMALL_BYTES:
            return np.zeros(length, dtype)
        with self.file() as file:
            if hasattr(os, "posix_fallocate"):  # so that a full disk is found here, not later
                os.posix_fallocate(file.fileno(), 0, size)
            return np.asarray(np.memmap(file, dtype, "r+", shape=(length,)))

    def file(self) -> Any:
        """A file without a name."""
        return tempfile.TemporaryFile(dir=self.folder)


@dataclass(frozen=True)
class Counts:
    """All n-grams of a text as a trie (see `asr/language/trie.py`), and how often each occurs.

    `unknown` is how many of the `tokens` (ends of sentences not among them) the vocabulary lacks.
    """

    words: tuple[str, ...]
    word: Int32
    first_child: Int32
    count: Int64
    sentences: int
    tokens: int
    unknown: int


class _Growing(dict[str, int]):
    """Numbers words as they come."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


class _Closed(dict[str, int]):
    """Numbers no other words than it has."""

    def __missing__(self, word: str) -> int:
        return UNKNOWN_ID


@dataclass(frozen=True)
class _Run:
    """Different n-grams as sorted integers, and how often each occurs."""

    keys: Int64
    counts: Int64


def count_ngrams(
    sentences: Iterable[Sequence[str]],
    order: int,
    scratch: Scratch,
    vocabulary: Iterable[str] | None = None,
    run: int = RUN,
    always: Iterable[str] = (),
) -> Counts:
    """Count the n-grams of sentences, given as tokens, up to an order.

    Words are numbered as they come, or as in `vocabulary`, without which all others are unknown;
    those of `always` are numbered where nobody said them, unless there is a vocabulary. A sentence
    begins with one `<s>` and ends with one `</s>`. At most `run` n-grams are sorted in
    memory at a time. There may be no n-gram of the highest orders, where all sentences are short.

    Raises:
        UserError: there is no sentence, or there are too many different n-grams.
        OSError: the disk is full.
    """
    marks = {UNKNOWN: UNKNOWN_ID, START: START_ID, END: END_ID}
    ids: dict[str, int] = _Growing(marks)
    if vocabulary is not None:
        for word in vocabulary:
            ids[word]
        ids = _Closed(ids)
    tokens = _number(sentences, ids, scratch)
    for word in always:
        ids[word]
    size = len(ids)
    counts = sum(np.bincount(tokens[part], minlength=size) for part in _parts(len(tokens), run))
    assert isinstance(counts, np.ndarray)
    runs = [_Run(np.arange(size), counts)]
    places = tokens  # of the n-gram that ends at each token, among those of its length
    for length in range(2, order + 1):
        found = _count_pairs(places, tokens, size, scratch, run)
        if not len(found.keys):
            break
        runs.append(found)
        if length < order:
            places = _places(found.keys, places, tokens, size, scratch, run)
    sentence_count = int(counts[END_ID])
    return Counts(
        words=tuple(ids),
        **_trie(runs, size, scratch),
        sentences=sentence_count,
        tokens=len(tokens) - 2 * sentence_count,
        unknown=int(counts[UNKNOWN_ID]),
    )


def _number(sentences: Iterable[Sequence[str]], ids: dict[str, int], scratch: Scratch) -> Int32:
    """All sentences as numbers, one after the other, each between its marks."""
    with scratch.file() as file:
        held = array.array("i")
        number = ids.__getitem__
        for sentence in sentences:
            held.append(START_ID)
            held.extend(map(number, sentence))
            held.append(END_ID)
            if len(held) * held.itemsize > SMALL_BYTES:
                held.tofile(file)
                del held[:]
        held.tofile(file)
        file.flush()
        length = file.tell() // held.itemsize
        if not length:
            raise UserError("There is no sentence to count: give a text with words in it.")
        return np.asarray(np.memmap(file, np.int32, "r", shape=(length,)))


def _parts(length: int, size: int, start: int = 0) -> Iterator[slice]:
    for begin in range(start, length, size):
        yield slice(begin, min(begin + size, length))


def _pairs(places: Int32, tokens: Int32, part: slice, size: int) -> tuple[NDArray[np.bool_], Int64]:
    """Which tokens of a part end an n-gram that lies in one sentence, and these n-grams packed."""
    before = places[part.start - 1 : part.stop - 1]
    last = tokens[part]
    inside = (before >= 0) & (last != START_ID)
    return inside, before[inside].astype(np.int64) * size + last[inside]


def _count_pairs(places: Int32, tokens: Int32, size: int, scratch: Scratch, run: int) -> _Run:
    """The n-grams one word longer than those that `places` tells."""
    runs: list[_Run] = []
    for part in _parts(len(tokens), run, start=1):
        _, keys = _pairs(places, tokens, part, size)
        runs.append(_sorted_run(keys, scratch))
        while len(runs) > 1 and len(runs[-2].keys) < 2 * len(runs[-1].keys):
            runs[-2:] = [_merged(runs[-2], runs[-1], scratch)]
    while len(runs) > 1:
        runs[-2:] = [_merged(runs[-2], runs[-1], scratch)]
    return runs[0]


def _sorted_run(keys: Int64, scratch: Scratch) -> _Run:
    keys.sort()
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    run = _Run(scratch.array(np.int64, len(first)), scratch.array(np.int64, len(first)))
    run.keys[:] = keys[first]
    run.counts[:] = np.diff(first, append=len(keys))
    return run


def _merged(one: _Run, other: _Run, scratch: Scratch) -> _Run:
    length = len(one.keys) + len(other.keys)
    keys, counts = scratch.array(np.int64, length), scratch.array(np.int64, length)
    used = _merge(one.keys, one.counts, other.keys, other.counts, keys, counts)
    return _Run(keys[:used], counts[:used])


@kernel
def _merge(keys_a: Any, counts_a: Any, keys_b: Any, counts_b: Any, keys: Any, counts: Any) -> Any:
    """Two sorted runs as one in `keys` and `counts`; how long it is."""
    a, b, used = 0, 0, 0
    while a < len(keys_a) or b < len(keys_b):
        if b == len(keys_b) or (a < len(keys_a) and keys_a[a] <= keys_b[b]):
            key = keys_a[a]
        else:
            key = keys_b[b]
        total = 0
        if a < len(keys_a) and keys_a[a] == key:
            total += counts_a[a]
            a += 1
        if b < len(keys_b) and keys_b[b] == key:
            total += counts_b[b]
            b += 1
        keys[used] = key
        counts[used] = total
        used += 1
    return used


def _places(
    found: Int64, shorter: Int32, tokens: Int32, size: int, scratch: Scratch, run: int
) -> Int32:
    """For each token the n-gram of those `found` that it ends; -1 where too few are before it."""
    places: Int32 = scratch.array(np.int32, len(tokens))
    places[0] = -1
    for part in _parts(len(tokens), run, start=1):
        inside, keys = _pairs(shorter, tokens, part, size)
        block = np.full(len(inside), -1, np.int32)
        block[inside] = np.searchsorted(found, keys)
        places[part] = block
    return places


def _trie(runs: Sequence[_Run], size: int, scratch: Scratch) -> dict[str, Any]:
    """The arrays of `Counts` from the n-grams of each order."""
    nodes = 1 + sum(len(run.keys) for run in runs)
    if nodes > MOST_NODES:
        raise UserError(
            f"The text has more than {MOST_NODES:,} different n-grams: take a lower --order, a"
            " smaller --vocabulary or less text."
        )
    word = scratch.array(np.int32, nodes)
    first_child = scratch.array(np.int32, nodes + 1)
    count = scratch.array(np.int64, nodes)
    first_child[0] = begin = 1
    shorter = 0  # the first node of the order before
    for run in runs:
        end = begin + len(run.keys)
        for part in _parts(len(run.keys), RUN):
            here = slice(begin + part.start, begin + part.stop)
            word[here] = run.keys[part] % size
            count[here] = run.counts[part]
        if shorter:
            for part in _parts(begin - shorter, RUN):
                key = np.arange(part.start, part.stop) * size  # not below that of any child
                first_child[shorter + part.start : shorter + part.stop] = begin + np.searchsorted(
                    run.keys, key
                )
        shorter, begin = begin, end
    first_child[shorter:] = nodes
    return {"word": word, "first_child": first_child, "count": count}
