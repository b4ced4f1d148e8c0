"""Interpolated modified Kneser-Ney estimates of n-gram probabilities (Chen and Goodman 1999).

What is counted is as in KenLM's lmplz (Heafield et al. 2013). The highest order counts how often an
n-gram occurs, and so do n-grams that begin with `<s>`; of all others it counts after how many
different words they stand.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.kernels import kernel
from asr.language.counting import START_ID, Counts, Int64, Scratch
from asr.language.ngram import Kind, NgramModel
from asr.language.trie import Float32, Trie, child_of, levels

FALLBACK = (0.5, 1.0, 1.5)  # discounts where the counts define none
LN_NEVER = -99.0 * math.log(10.0)  # of what is never said, as it is written in ARPA files


@dataclass(frozen=True)
class Discounts:
    """What is taken from n-grams that were counted once, twice, and three times or more often.

    `reason` says why they are `FALLBACK`; '' where the counts define them.
    """

    values: tuple[float, float, float]
    reason: str = ""


@dataclass(frozen=True)
class Estimate:
    """The model, and the discounts of each order."""

    model: NgramModel
    discounts: tuple[Discounts, ...]


def estimate(
    counts: Counts, scratch: Scratch, prune: Sequence[int] = (0,), kind: Kind = "words"
) -> Estimate:
    """The model of a text's n-grams.

    `prune` has a threshold for each order, the last one for all further orders: n-grams that occur
    no more often are left out, and their probability goes to the shorter n-grams. Single words are
    never left out.
    """
    orders = levels(counts.first_child)
    nodes = len(counts.word)
    suffix = scratch.array(np.int32, nodes)
    _find_suffixes(counts.word, counts.first_child, suffix)
    adjusted = _adjusted(counts, suffix, orders, scratch)
    discounts = tuple(_discounts(adjusted[start:end]) for start, end in orders)
    amounts = np.zeros((len(orders), 4))  # by order and count
    amounts[:, 1:] = [one.values for one in discounts]
    thresholds = [*prune, *itertools.repeat(prune[-1], len(orders))][: len(orders)]
    probability = scratch.array(np.float64, nodes)
    rest = scratch.array(np.float64, nodes)
    _interpolate(
        counts.first_child,
        suffix,
        adjusted,
        counts.count,
        np.array([start for start, _ in orders]),
        amounts,
        np.array(thresholds),
        1.0 / (len(counts.words) - 1),  # of the words, all but <s>
        probability,
        rest,
    )
    kept = np.ones(nodes, bool)
    for (start, end), threshold in zip(orders[1:], thresholds[1:], strict=True):
        kept[start:end] = counts.count[start:end] > threshold
    trie = _trie(counts, kept, probability, rest)
    return Estimate(NgramModel.from_trie(counts.words, trie, kind), discounts)


@kernel
def _find_suffixes(word: Any, first_child: Any, suffix: Any) -> None:
    """The node of each n-gram without its first word; where a text has one, it has the other."""
    for parent in range(1, len(word)):
        for node in range(first_child[parent], first_child[parent + 1]):
            suffix[node] = child_of(word, first_child, suffix[parent], word[node])


def _adjusted(
    counts: Counts, suffix: Any, orders: Sequence[tuple[int, int]], scratch: Scratch
) -> Int64:
    """What each n-gram counts: occurrences, or different words before it."""
    adjusted: Int64 = scratch.array(np.int64, len(counts.word))
    _count_suffixes(suffix, orders[0][1], adjusted)
    start, end = 1 + START_ID, 2 + START_ID
    for _ in orders:  # those that begin with <s> are neighbours in each order
        adjusted[start:end] = counts.count[start:end]
        start, end = int(counts.first_child[start]), int(counts.first_child[end])
    highest = slice(*orders[-1])
    adjusted[highest] = counts.count[highest]
    adjusted[1 + START_ID] = 0  # nobody says it
    return adjusted


@kernel
def _count_suffixes(suffix: Any, first: Any, adjusted: Any) -> None:
    for node in range(first, len(suffix)):
        adjusted[suffix[node]] += 1


def _discounts(adjusted: Int64) -> Discounts:
    """Those of one order (Chen and Goodman 1999, equation 26), from its counts of counts."""
    once, twice, three, four = (int(np.count_nonzero(adjusted == count)) for count in (1, 2, 3, 4))
    for times, found in (("once", once), ("twice", twice), ("three times", three)):
        if not found:
            return Discounts(FALLBACK, f"none counts {times}")
    share = once / (once + 2 * twice)
    values = (
        1 - 2 * share * twice / once,
        2 - 3 * share * three / twice,
        3 - 4 * share * four / three,
    )
    for count, value in enumerate(values, start=1):
        if not 0 < value <= count:
            return Discounts(FALLBACK, f"the counts give {value:.3g} of {count}")
    return Discounts(values)


@kernel
def _interpolate(
    first_child: Any,
    suffix: Any,
    adjusted: Any,
    count: Any,
    starts: Any,
    amounts: Any,
    thresholds: Any,
    uniform: Any,
    probability: Any,
    rest: Any,
) -> None:
    """Fill in each node's probability, and what is left at it for the shorter n-grams.

    Shorter n-grams come first, so that theirs are known. What occurs too rarely to be kept leaves
    all of its count; its own probability is not used.
    """
    order = 0  # of the children, from 0; those of the root are single words
    for parent in range(len(first_child) - 1):
        begin, end = first_child[parent], first_child[parent + 1]
        if begin == end:
            continue
        while order + 1 < len(starts) and begin >= starts[order + 1]:
            order += 1
        total, left = 0.0, 0.0
        for node in range(begin, end):
            seen = adjusted[node]
            total += seen
            kept = count[node] > thresholds[order]
            left += amounts[order, min(seen, 3)] if kept else seen
        rest[parent] = left / total
        for node in range(begin, end):
            seen = adjusted[node]
            shorter = uniform if order == 0 else probability[suffix[node]]
            own = seen - amounts[order, min(seen, 3)]
            probability[node] = own / total + rest[parent] * shorter


def _trie(counts: Counts, kept: NDArray[np.bool_], probability: Any, rest: Any) -> Trie:
    """The n-grams that are kept, with logarithms."""
    before = np.zeros(len(kept) + 1, np.int32)  # how many are kept before each node
    np.cumsum(kept, out=before[1:])
    first_child = before[counts.first_child[np.append(kept, True)]]
    log_prob, backoff = (_logarithms(array[kept]) for array in (probability, rest))
    log_prob[1 + START_ID] = LN_NEVER
    backoff[0] = 0.0  # what is left of single words is the uniform share, which they have
    return Trie(counts.word[kept], first_child, log_prob, backoff)


def _logarithms(numbers: NDArray[np.float64]) -> Float32:
    """Natural logarithms; 0 for a 0, which is the root's probability and what is left at a leaf."""
    logarithms = np.zeros(len(numbers), np.float32)
    np.log(numbers, out=logarithms, where=numbers > 0, casting="same_kind")
    return logarithms
