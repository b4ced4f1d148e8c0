"""CTC prefix beam search over states of words, compiled by Numba.

A prefix's probability is the sum over all its paths (Graves et al. 2006; Hannun et al. 2014). Two
prefixes are one where nothing that follows can tell them apart: same words so far, same letters of
the word begun, same last label. Masses are kept as probabilities relative to the best, so that a
frame costs one logarithm a state; what a state has of the language model is kept as a logarithm.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asr.decoding.pruning import likely_labels, prune
from asr.decoding.states import (
    BLANK,
    LETTER,
    NONE,
    PHONE,
    SEPARATOR,
    STATE,
    WORD,
    Hotwords,
    Labels,
    Ngrams,
    Options,
    Trie,
    ask,
    begin,
    end,
    ends,
    lend,
    mixed,
)
from asr.kernels import ZERO, inner, kernel, with_room

ONE = ZERO + 1


@inner
def _propose(
    state: Any,
    label: int,
    acoustic: float,
    floor: float,
    found: Any,
    table: Any,
    stamps: Any,
    stamp: int,
    count: int,
) -> Any:
    """Add a state to those of the next frame, or its mass to the same one that is there."""
    if acoustic + state.score + state.ahead < floor:
        return count
    state.last = label
    key = mixed(mixed(state.history ^ mixed(state.part)) ^ np.uint64(label))
    mask = len(table) - 1
    slot = np.int64(key & np.uint64(mask))
    while stamps[slot] == stamp:
        there = found[table[slot]]
        if there.key == key:
            there.label += np.exp(acoustic)
            there.merged = True
            return count
        slot = (slot + 1) & mask
    stamps[slot] = stamp
    table[slot] = count
    state.key = key
    state.blank = 0.0
    state.label = np.exp(acoustic)
    state.acoustic = acoustic
    state.rank = acoustic + state.score + state.ahead
    state.fresh = True
    state.merged = False
    found[count] = state
    return count + 1


@inner
def _extend(
    state: Any,
    new: Any,
    label: int,
    acoustic: float,
    floor: float,
    models: Any,
    found: Any,
    table: Any,
    stamps: Any,
    stamp: int,
    count: int,
) -> Any:
    """Propose all that a label can make of a state; how many states are `found` then."""
    labels, trie, ngrams, hotwords, options = models
    role = labels.role[label]
    if role in (LETTER, PHONE):
        new[0] = state
        new[0].word = NONE
        if begin(new[0], label, labels, trie, ngrams, hotwords, options):
            lend(new[0], trie, ngrams, hotwords, options)
            count = _propose(new[0], label, acoustic, floor, found, table, stamps, stamp, count)
        if role == LETTER or state.part == 0:
            return count
    first, after = (NONE, 0) if state.part == 0 else ends(state, trie)
    for position in range(first, after):
        new[0] = state
        new[0].word = NONE if position == NONE else trie.words[position]
        if state.part != 0:
            end(new[0], new[0].word, trie, ngrams, hotwords, options)
        possible = True
        if role != SEPARATOR:
            possible = begin(new[0], label, labels, trie, ngrams, hotwords, options)
        if possible and role == WORD:
            only, beyond = ends(new[0], trie)
            possible = only < beyond
            if possible:
                word = NONE if only == NONE else trie.words[only]
                end(new[0], word, trie, ngrams, hotwords, options)
        if possible:
            lend(new[0], trie, ngrams, hotwords, options)
            count = _propose(new[0], label, acoustic, floor, found, table, stamps, stamp, count)
    return count


@inner
def _step(
    frame: Any,
    kept: int,
    beam: Any,
    found: Any,
    table: Any,
    stamps: Any,
    stamp: int,
    work: Any,
    models: Any,
) -> Any:
    """The states after a frame, in `found`, not yet pruned; how many."""
    labels, trie, _, _, options = models
    chosen, values, new = work
    count = ZERO
    mask = len(table) - 1
    best, worst = -np.inf, np.inf
    blank = np.exp(frame[BLANK])
    for position in range(kept):
        state = beam[position]
        found[count] = state
        there = found[count]
        there.blank = (state.blank + state.label) * blank
        there.label = state.label * np.exp(frame[state.last]) if state.last != BLANK else 0.0
        there.fresh = False
        there.merged = True
        rank = np.log(there.blank + there.label) + state.score + state.ahead
        best, worst = max(best, rank), min(worst, rank)
        slot = np.int64(state.key & np.uint64(mask))
        while stamps[slot] == stamp:
            slot = (slot + 1) & mask
        stamps[slot] = stamp
        table[slot] = count
        count += 1
    floor = best - options.beam_threshold
    if kept == options.beam:  # so many there are already that are better than what is below
        floor = max(floor, worst)
    likely = likely_labels(frame, options, chosen, values)
    role, first, following = labels.role, labels.first, trie.following
    closed, root = trie.closed, len(trie.following) - 1
    for position in range(kept):
        state = beam[position]
        bits = following[state.trie if state.part != 0 else root] if closed else ~np.uint64(0)
        for index in range(likely):
            label = chosen[index]
            if closed and role[label] == LETTER and bits & first[label] == 0:
                continue  # no word goes on so
            acoustic = state.acoustic
            if label == state.last:
                if state.blank == 0.0:
                    continue
                acoustic = np.log(state.blank)
            acoustic += frame[label]
            if acoustic + state.score + options.most < floor:
                continue
            count = _extend(
                state, new, label, acoustic, floor, models, found, table, stamps, stamp, count
            )
    return count


@kernel
def search(
    emissions: np.ndarray,
    labels: Labels,
    trie: Trie,
    ngrams: Ngrams,
    hotwords: Hotwords,
    options: Options,
) -> Any:
    """Log-probabilities `[T', V]` of one utterance to its hypotheses.

    Gives the nodes of the tree of labels, `[nodes, 3]`: parent, label, and the word that ended
    before the label where phones are decoded; and the hypotheses, not in order: `[N, 2]` their last
    node and last word of phones, `[N, 2]` log probability of their paths and score, whether they
    are whole: the last word of the others is none of the lexicon's.
    """
    models = (labels, trie, ngrams, hotwords, options)
    size = emissions.shape[1]
    room = options.beam * (1 + min(options.tokens, size) * (1 + trie.most))
    slots = 1
    while slots < 2 * room:
        slots *= 2
    beam, found, new = np.empty(options.beam, STATE), np.empty(room, STATE), np.zeros(1, STATE)
    table, stamps = np.empty(slots, np.int32), np.full(slots, -1, np.int32)
    values = np.empty(max(room, size), np.float64)
    work = (np.empty(size, np.int64), values, new)
    nodes = np.empty((1024, 3), np.int32)
    used = ZERO

    beam[0] = new[0]
    beam[0].blank = 1.0
    beam[0].trie, beam[0].node, beam[0].word = NONE, NONE, NONE
    beam[0].lm, beam[0].hot = ngrams.start, hotwords.start
    beam[0].key = mixed(mixed(np.uint64(0) ^ mixed(np.uint64(0))) ^ np.uint64(0))
    kept, scale = ONE, 0.0
    for frame in range(len(emissions)):
        count = _step(emissions[frame], kept, beam, found, table, stamps, frame, work, models)
        kept, divided = prune(count, found, beam, values, options)
        scale += divided
        nodes = with_room(nodes, used, kept)
        for position in range(kept):
            state = beam[position]
            if state.fresh:
                nodes[used, 0], nodes[used, 1], nodes[used, 2] = state.node, state.last, state.word
                state.node = used
                state.fresh = False
                used += 1
    places, scores, whole = _finish(kept, beam, new, models)
    return nodes[:used].copy(), places, scores + scale, whole


@kernel
def _finish(kept: int, beam: Any, new: Any, models: Any) -> Any:
    """Whole hypotheses of the states that are left; where there is none, those cut off."""
    _, trie, ngrams, hotwords, options = models
    room = max(1, kept * max(1, trie.most))
    places = np.empty((room, 2), np.int32)
    scores = np.empty((room, 2), np.float64)
    histories = np.empty(room, np.uint64)
    count = ZERO
    for whole in (True, False):
        for index in range(kept):
            state = beam[index]
            going_on = whole and state.part != 0
            first, after = ends(state, trie) if going_on else (NONE, 0)
            for position in range(first, after):
                new[0] = state
                last = NONE if position == NONE else trie.words[position]
                if going_on:
                    end(new[0], last, trie, ngrams, hotwords, options)
                if ngrams.of_words or ngrams.of_letters:
                    log_prob, _ = ask(ngrams, new[0].lm, ngrams.end)
                    new[0].score += options.alpha * log_prob
                places[count, 0], places[count, 1] = state.node, last
                count = _merge(new[0], scores, histories, count)
        if count:
            return places[:count], scores[:count], whole
    return places[:0], scores[:0], True


@inner
def _merge(state: Any, scores: Any, histories: Any, count: int) -> Any:
    """Add a hypothesis, or its mass to that of the same words; how many there are then."""
    for there in range(count):
        if histories[there] == state.history:
            heavier = max(scores[there, 0], state.acoustic)
            both = np.exp(scores[there, 0] - heavier) + np.exp(state.acoustic - heavier)
            scores[there, 0] = heavier + np.log(both)
            scores[there, 1] = scores[there, 0] + state.score
            return count
    histories[count] = state.history
    scores[count, 0] = state.acoustic
    scores[count, 1] = state.acoustic + state.score
    return count + 1
