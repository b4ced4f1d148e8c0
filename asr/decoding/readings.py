"""The best texts of utterances, where their labels are and how sure each word is, by Numba.

All that a search leaves to be done for each label is done here, for many utterances in one call:
such calls run beside each other, since they need Python's lock for nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asr.decoding.alignment import CELLS
from asr.decoding.search import search
from asr.decoding.shares import word_shares
from asr.decoding.states import Hotwords, Labels, Ngrams, Options, Trie
from asr.decoding.trellis import place
from asr.kernels import ZERO, kernel, with_room

LABEL, WORD_BEFORE, START, END = range(4)
PEAK, SHARE = range(2)
UTTERANCE, FIRST, AFTER, LAST_WORD, WHOLE, PLACED = range(6)


@kernel
def readings(
    emissions: np.ndarray,
    lengths: np.ndarray,
    chosen: np.ndarray,
    nbest: int,
    labels: Labels,
    trie: Trie,
    ngrams: Ngrams,
    hotwords: Hotwords,
    options: Options,
) -> Any:
    """The hypotheses of utterances `chosen` [C], those of each together, the best one first.

    Of natural log-probabilities [B, T', V] and lengths [B]; `nbest` of an utterance at most; the
    others as `search` has them. Gives

    - `[N, 4]` for each label of each hypothesis the label, the word of phones that ended before it,
      and of an utterance's best hypothesis its first frame and that after its last;
    - `[N, 2]` of the same its highest posterior, and beside label w the share of word w in all
      hypotheses (`asr.decoding.shares`);
    - `[H, 6]` of hypotheses their utterance, their labels' first and that after the last, last word
      of phones, whether they are whole, and whether their labels have frames;
    - `[H]` their scores, natural log.
    """
    steps, sure = np.empty((1024, 4), np.int32), np.empty((1024, 2), np.float64)
    found, scores = np.empty((len(chosen), 6), np.int64), np.empty((len(chosen), 1), np.float64)
    used = count = ZERO
    for utterance in chosen:
        rows = emissions[utterance][: lengths[utterance]]
        nodes, places, ranks, whole = search(rows, labels, trie, ngrams, hotwords, options)
        order = _best(ranks[:, 1], nbest)
        found, scores = with_room(found, count, len(order)), with_room(scores, count, len(order))
        for rank in range(len(order)):
            node, last_word = places[order[rank]]
            first = used
            used += _length(nodes, node)
            steps = with_room(steps, first, used - first)
            sure = with_room(sure, first, used - first)
            own, own_sure = steps[first:used], sure[first:used]
            for label in range(len(own)):
                own_sure[label, SHARE] = 0.0
            for back in range(used - first - 1, -1, -1):
                own[back, LABEL], own[back, WORD_BEFORE] = nodes[node, 1], nodes[node, 2]
                node = nodes[node, 0]
            placed = False
            if rank == 0:
                if 2 * len(rows) * (len(own) + 1) <= CELLS:
                    placed = place(rows, own[:, LABEL].copy(), own[:, START:], own_sure[:, PEAK])
                shares = word_shares(nodes, places, ranks, order[0], labels)
                for word in range(len(shares)):
                    own_sure[word, SHARE] = shares[word]
            row = found[count]
            row[UTTERANCE], row[FIRST], row[AFTER] = utterance, first, used
            row[LAST_WORD], row[WHOLE], row[PLACED] = last_word, whole, placed
            scores[count, 0] = ranks[order[rank], 1]
            count += 1
    return steps[:used], sure[:used], found[:count], scores[:count, 0]


@kernel
def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """Where the `count` highest of scores [N] are, the highest first, of equal ones the first."""
    order = np.empty(min(count, len(scores)), np.int64)
    taken = np.zeros(len(scores), np.bool_)
    for rank in range(len(order)):
        best = -1
        for position in range(len(scores)):
            if taken[position]:
                continue
            if best < 0 or scores[position] > scores[best] or np.isnan(scores[best]):
                best = position
        order[rank] = best
        taken[best] = True
    return order


@kernel
def _length(nodes: np.ndarray, node: int) -> int:
    """How many nodes lead to a node, itself included."""
    count = 0
    while node >= 0:
        count += 1
        node = nodes[node, 0]
    return count
