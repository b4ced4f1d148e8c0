"""CTC prefix beam search over states of words, compiled by Numba.

A prefix's probability is the sum over all its paths (Graves et al. 2006; Hannun et al. 2014). Two
prefixes are one where nothing that follows can tell them apart: same words so far, same letters of
the word begun, same last label. Masses are kept as probabilities relative to the best, so that a
frame costs one logarithm a state; what a state has of the language model is kept as a logarithm.
"""

from __future__ import annotations

from typing import Any

import numpy as np

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
    njit,
)


@njit
def _propose(state, label, acoustic, floor, found, table, stamps, stamp, count):  # type: ignore[no-untyped-def]
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


@njit
def _select(values: np.ndarray, count: int, wanted: int) -> float:
    """The `wanted`-th largest of the first `count` values, which are reordered (Hoare's select)."""
    low, high, target = 0, count - 1, wanted - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if target <= j:
            high = j
        elif target >= i:
            low = i
        else:
            break
    return values[target]


@njit
def _likely(frame: np.ndarray, options: Options, chosen: np.ndarray, scratch: np.ndarray) -> int:
    """Fill in the labels of a frame that are worth a look, the blank left out; how many."""
    least = frame.max() - options.token_threshold
    count = 0
    for label in range(1, len(frame)):
        if frame[label] >= least:
            chosen[count] = label
            scratch[count] = frame[label]
            count += 1
    if count <= options.tokens:
        return count
    least = _select(scratch, count, options.tokens)
    kept = 0
    for wanted_tie in (False, True):  # the larger ones first, then as many equal ones as fit
        for position in range(count):
            value = frame[chosen[position]]
            if kept < options.tokens and (value == least if wanted_tie else value > least):
                scratch[kept] = chosen[position]
                kept += 1
    for position in range(kept):
        chosen[position] = np.int64(scratch[position])
    return kept


@njit
def _extend(state, new, label, acoustic, floor, models, found, table, stamps, stamp, count):  # type: ignore[no-untyped-def]
    """Propose all that a label can make of a state."""
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
    first, after = 0, 0
    if state.part != 0:
        first, after = ends(state, trie)
    position = first
    while True:
        new[0] = state
        new[0].word = NONE
        if state.part != 0:
            if position >= after and position != NONE:
                return count
            new[0].word = NONE if position == NONE else trie.words[position]
            end(new[0], new[0].word, trie, ngrams, hotwords, options)
        possible = True
        if role != SEPARATOR:
            possible = begin(new[0], label, labels, trie, ngrams, hotwords, options)
        if possible and role == WORD:
            only, beyond = ends(new[0], trie)
            possible = only == NONE or only < beyond
            if possible:
                word = NONE if only == NONE else trie.words[only]
                end(new[0], word, trie, ngrams, hotwords, options)
        if possible:
            lend(new[0], trie, ngrams, hotwords, options)
            count = _propose(new[0], label, acoustic, floor, found, table, stamps, stamp, count)
        if state.part == 0 or position == NONE:
            return count
        position += 1


@njit
def _step(frame, kept, beam, found, table, stamps, stamp, work, models):  # type: ignore[no-untyped-def]
    """The states after a frame, in `found`, not yet pruned; how many."""
    labels, trie, ngrams, hotwords, options = models
    chosen, values, new = work
    count = 0
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
    likely = _likely(frame, options, chosen, values)
    for position in range(kept):
        state = beam[position]
        for index in range(likely):
            label = chosen[index]
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


@njit
def _prune(count, found, beam, values, options):  # type: ignore[no-untyped-def]
    """Copy the best states into the beam; how many, and the log of what masses were divided by."""
    best, largest = -np.inf, 0.0
    for position in range(count):
        state = found[position]
        if state.merged:
            state.acoustic = np.log(state.blank + state.label)
            state.rank = state.acoustic + state.score + state.ahead
        best = max(best, state.rank)
    if best == -np.inf:
        return 0, 0.0
    floor = best - options.beam_threshold
    above = 0
    for position in range(count):
        if found[position].rank >= floor:
            values[above] = found[position].rank
            above += 1
    if above > options.beam:
        floor = _select(values, above, options.beam)
    kept = 0
    for tied in (False, True):
        for position in range(count):
            rank = found[position].rank
            if kept < options.beam and (rank == floor if tied else rank > floor):
                beam[kept] = found[position]
                largest = max(largest, beam[kept].blank + beam[kept].label)
                kept += 1
    for position in range(kept):
        beam[position].blank /= largest
        beam[position].label /= largest
        beam[position].acoustic -= np.log(largest)
    return kept, np.log(largest)


@njit
def search(
    emissions: np.ndarray,
    labels: Labels,
    trie: Trie,
    ngrams: Ngrams,
    hotwords: Hotwords,
    options: Options,
) -> Any:
    """Log-probabilities `[T', V]` of one utterance to its hypotheses.

    Gives the nodes of the tree of labels, `[nodes, 3]`: parent, label, and the word that ended before
    the label where phones are decoded; and the hypotheses, not in order: `[N, 2]` their last node and
    last word of phones, `[N, 2]` log probability of their paths and score, whether they are whole: the
    last word of the others is none of the lexicon's.
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
    used = 0

    beam[0] = new[0]
    beam[0].blank = 1.0
    beam[0].trie, beam[0].node, beam[0].word = NONE, NONE, NONE
    beam[0].lm, beam[0].hot = ngrams.start, hotwords.start
    beam[0].key = mixed(mixed(np.uint64(0) ^ mixed(np.uint64(0))) ^ np.uint64(0))
    kept, scale = 1, 0.0
    for frame in range(len(emissions)):
        count = _step(emissions[frame], kept, beam, found, table, stamps, frame, work, models)
        kept, divided = _prune(count, found, beam, values, options)
        scale += divided
        if used + kept > len(nodes):
            more = np.empty((2 * (used + kept), 3), np.int32)
            more[:used] = nodes[:used]
            nodes = more
        for position in range(kept):
            state = beam[position]
            if state.fresh:
                nodes[used, 0], nodes[used, 1], nodes[used, 2] = state.node, state.last, state.word
                state.node = used
                state.fresh = False
                used += 1
    ended = _finish(kept, beam, new, models)
    for position in range(len(ended[1])):
        ended[1][position, 0] += scale
        ended[1][position, 1] += scale
    return nodes[:used].copy(), ended[0], ended[1], ended[2]


@njit
def _finish(kept, beam, new, models):  # type: ignore[no-untyped-def]
    """Whole hypotheses of the states that are left, those of the same words made one."""
    labels, trie, ngrams, hotwords, options = models
    room = max(1, kept * max(1, trie.most))
    places = np.empty((room, 2), np.int32)
    scores = np.empty((room, 2), np.float64)
    whole = np.empty(room, np.bool_)
    histories = np.empty(room, np.uint64)
    count = 0
    for only_whole in (True, False):
        for index in range(kept):
            state = beam[index]
            first, after = (NONE, 0) if state.part == 0 else ends(state, trie)
            position = first
            while position == NONE or position < after or (not only_whole and position == first):
                new[0] = state
                last = NONE
                if state.part != 0 and only_whole:
                    last = NONE if position == NONE else trie.words[position]
                    end(new[0], last, trie, ngrams, hotwords, options)
                elif state.part != 0:
                    position = NONE
                score = new[0].score
                if ngrams.of_words or ngrams.of_letters:
                    log_prob, _ = ask(ngrams, new[0].lm, ngrams.end)
                    score += options.alpha * log_prob
                there = 0
                while there < count and histories[there] != new[0].history:
                    there += 1
                if there < count:
                    heavier = max(scores[there, 0], state.acoustic)
                    both = np.exp(scores[there, 0] - heavier) + np.exp(state.acoustic - heavier)
                    scores[there, 0] = heavier + np.log(both)
                    scores[there, 1] = scores[there, 0] + score
                else:
                    histories[count] = new[0].history
                    places[count, 0], places[count, 1] = state.node, last
                    scores[count, 0] = state.acoustic
                    scores[count, 1] = state.acoustic + score
                    whole[count] = only_whole or state.part == 0
                    count += 1
                if position == NONE:
                    break
                position += 1
        if count:
            break
    return places[:count], scores[:count], whole[:count]
