"""n-grams of all orders as one trie in flat arrays: put together, and asked for a child.

Node 0 is the empty context, node 1 + w the word w; then bigrams sorted by (first word, second
word), then trigrams sorted by (the bigram's node, third word), and so on. The children of node i,
which continue its n-gram by a word, are nodes `first_child[i]` to `first_child[i + 1] - 1`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.kernels import inner, kernel

Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]

MOST_NODES = 2**31 - 1  # a state is one int32


@dataclass(frozen=True)
class Entries:
    """n-grams of one order: words [E, n], natural logarithms [E] of probability and backoff."""

    words: Int32
    log_prob: Float32
    backoff: Float32


class RepeatedEntryError(ValueError):
    """An n-gram stands twice: its `order`, and the `row` of the second one among its entries."""

    def __init__(self, order: int, row: int) -> None:
        super().__init__(f"row {row} of the {order}-grams stands there already")
        self.order = order
        self.row = row


@dataclass(frozen=True)
class Trie:
    """Arrays over all nodes; `first_child` has one more. `log_prob` is NaN where none was given."""

    word: Int32
    first_child: Int32
    log_prob: Float32
    backoff: Float32


@inner
def child_of(word: Any, first_child: Any, node: Any, word_id: Any) -> Any:
    """The child of a node by a word; 0 where there is none (the root is nobody's child)."""
    if node == 0:
        return 1 + word_id
    low, end = first_child[node], first_child[node + 1]
    high = end
    while low < high:
        middle = (low + high) // 2
        if word[middle] < word_id:
            low = middle + 1
        else:
            high = middle
    if low < end and word[low] == word_id:
        return low
    return 0


@kernel
def link(word: Any, first_child: Any, log_prob: Any, backoff: Any, suffix: Any) -> None:
    """Fill in `suffix`, and the `log_prob` of nodes that have none: what backing off gives.

    The suffix of a node is its n-gram's longest proper suffix that is a context: that has children
    or a backoff. Parents come before their children, so that a node's shorter contexts are done.
    """
    for parent in range(1, len(word)):
        for node in range(first_child[parent], first_child[parent + 1]):
            context, spent = suffix[parent], backoff[parent]
            shorter = child_of(word, first_child, context, word[node])
            while shorter == 0:
                spent += backoff[context]
                context = suffix[context]
                shorter = child_of(word, first_child, context, word[node])
            if np.isnan(log_prob[node]):
                log_prob[node] = spent + log_prob[shorter]
            if first_child[shorter] == first_child[shorter + 1] and backoff[shorter] == 0:
                shorter = suffix[shorter]
            suffix[node] = shorter


def levels(first_child: Int32) -> list[tuple[int, int]]:
    """The first node of each order, and the one after its last."""
    levels = []
    start, end = 1, int(first_child[1])
    while start < end:
        levels.append((start, end))
        start, end = int(first_child[start]), int(first_child[end])
    return levels


def build(vocabulary: int, orders: Sequence[Entries]) -> Trie:
    """The trie of n-grams given order by order, in any order of rows but the unigrams, by word id.

    What is missing before the last word of an n-gram becomes a node without a probability.

    Raises:
        RepeatedEntryError: an n-gram stands twice.
        OverflowError: there are more n-grams than nodes can be numbered.
    """
    unigrams = orders[0]
    # Of each row of an order its first words, as the place among all n-grams of their length.
    places = [entries.words[:, 0].astype(np.int64) for entries in orders]
    words = [np.zeros(1, np.int32), np.arange(vocabulary, dtype=np.int32)]
    log_probs = [np.zeros(1, np.float32), unigrams.log_prob]
    backoffs = [np.zeros(1, np.float32), unigrams.backoff]
    first_children = [np.array([1])]
    before, shorter = 1 + vocabulary, vocabulary  # nodes so far, and those one word shorter
    for order in range(2, len(orders) + 1):
        keys = [
            places[longer] * vocabulary + orders[longer].words[:, order - 1]
            for longer in range(order - 1, len(orders))
        ]
        found = np.sort(np.concatenate(keys))  # np.unique hashes first, which takes far longer
        found = found[np.flatnonzero(np.diff(found, prepend=-1))]
        for longer, key in enumerate(keys, start=order - 1):
            places[longer] = np.searchsorted(found, key)
        rows = places[order - 1]
        _check_distinct(order, rows, len(found))
        log_prob = np.full(len(found), np.nan, np.float32)
        backoff = np.zeros(len(found), np.float32)
        log_prob[rows] = orders[order - 1].log_prob
        backoff[rows] = orders[order - 1].backoff
        words.append((found % vocabulary).astype(np.int32))
        log_probs.append(log_prob)
        backoffs.append(backoff)
        first_children.append(before + np.searchsorted(found, np.arange(shorter) * vocabulary))
        before, shorter = before + len(found), len(found)
        if before > MOST_NODES:
            raise OverflowError(f"there are more than {MOST_NODES:,} n-grams")
    first_children.append(np.full(shorter + 1, before))
    return Trie(
        np.concatenate(words),
        np.concatenate(first_children).astype(np.int32),
        np.concatenate(log_probs),
        np.concatenate(backoffs),
    )


def _check_distinct(order: int, places: NDArray[np.int64], count: int) -> None:
    """No two rows have one place."""
    first = np.full(count, len(places), np.int64)
    np.minimum.at(first, places, np.arange(len(places)))
    repeated = np.flatnonzero(first[places] != np.arange(len(places)))
    if len(repeated):
        raise RepeatedEntryError(order, int(repeated[0]))
