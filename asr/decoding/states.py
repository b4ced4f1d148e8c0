"""The states of the beam search: what a label makes of one, and what that scores.

A state is all that what follows depends on: the words so far, the letters of the word begun, the
last label. Everything here is compiled by Numba; states are rows of an array that are changed in
place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from asr.kernels import inner
from asr.language.ngram import advance

# What a label does to the word that has been begun: goes on with it, ends it, is a word by itself,
# ends it and begins the next, or is a phone, which may do either.
LETTER, SEPARATOR, WORD, BEGIN, PHONE = range(1, 6)
BLANK, NONE, OUTSIDE = 0, -1, -2  # OUTSIDE: of the lexicon
BOUNDARY = 1  # between words, among the characters of hotwords


class Labels(NamedTuple):
    """What each label is: its role, its text as a rolling hash, the power to append it by."""

    role: np.ndarray  # int8 [V]
    text: np.ndarray  # uint64 [V]
    power: np.ndarray  # uint64 [V]
    first: np.ndarray  # uint64 [V]: the bit of its first character
    letter_begins: np.ndarray  # int32 [V + 1] into letters
    letters: np.ndarray  # int32: words of a language model of letters
    hot_begins: np.ndarray  # int32 [V + 1] into hot_letters
    hot_letters: np.ndarray  # int32: characters of hotwords


class Trie(NamedTuple):
    """Beginnings of words: an open-addressing table from their hashes to nodes.

    `closed` where nothing but its words may be decoded.
    """

    keys: np.ndarray  # uint64 [slots], 0 where free
    nodes: np.ndarray  # int32 [slots]
    following: np.ndarray  # uint64 [nodes + 1]: bits of characters that go on; last: that begin
    word_begins: np.ndarray  # int32 [nodes + 1] into words
    words: np.ndarray  # int32: the words that end at a node
    ahead: np.ndarray  # float32 [nodes]: the best unigram among the words that go on
    word_text: np.ndarray  # uint64 [words]: tells histories apart
    lm_word: np.ndarray  # int32 [words]
    hot_begins: np.ndarray  # int32 [words + 1] into hot_letters, filled where phones are decoded
    hot_letters: np.ndarray
    closed: bool
    most: int  # words at a node


class Ngrams(NamedTuple):
    """A language model (see `asr.language.ngram`), and how it is asked."""

    word: np.ndarray
    first_child: np.ndarray
    log_prob: np.ndarray
    backoff: np.ndarray
    suffix: np.ndarray
    start: int
    end: int  # </s>
    unknown: int
    boundary: int  # of letters: the token between words
    of_words: bool
    of_letters: bool


class Hotwords(NamedTuple):
    """An automaton over characters: `given` for a phrase heard whole, `lent` for a beginning."""

    following: np.ndarray  # int32 [states, characters]
    given: np.ndarray  # float64 [states]
    lent: np.ndarray  # float64 [states]
    start: int


class Options(NamedTuple):
    """How wide to search, and what counts how much."""

    beam: int
    beam_threshold: float
    tokens: int
    token_threshold: float
    alpha: float
    beta: float
    unknown_score: float
    most: float  # that a label may add to a score


STATE = np.dtype(
    [
        ("key", np.uint64),
        ("history", np.uint64),  # of the words that have ended
        ("part", np.uint64),  # the letters of the word begun; 0: none
        ("blank", np.float64),  # mass of the paths that end in a blank
        ("label", np.float64),  # and of those that end in the last label
        ("acoustic", np.float64),  # log of both
        ("score", np.float64),  # of language model, length and hotwords
        ("ahead", np.float64),  # lent until the word ends
        ("rank", np.float64),
        ("trie", np.int32),
        ("lm", np.int32),
        ("hot", np.int32),
        ("last", np.int32),
        ("node", np.int32),
        ("word", np.int32),  # that ended with the last label, where phones are decoded
        ("fresh", np.bool_),  # no node of its own yet: `node` is its parent's
        ("merged", np.bool_),
    ],
    align=True,
)


@inner
def mixed(value: np.uint64) -> np.uint64:
    """Splitmix64: each bit of the value decides about each of the result."""
    value = np.uint64(value + np.uint64(0x9E3779B97F4A7C15))
    value = np.uint64((value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9))
    value = np.uint64((value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB))
    return np.uint64(value ^ (value >> np.uint64(31)))


@inner
def _find(trie: Trie, text: np.uint64) -> int:
    """The node of a beginning; OUTSIDE where no word begins so."""
    mask = np.uint64(len(trie.keys) - 1)
    slot = mixed(text) & mask
    while trie.keys[slot] != 0:
        if trie.keys[slot] == text:
            return trie.nodes[slot]
        slot = (slot + np.uint64(1)) & mask
    return OUTSIDE


@inner
def ask(ngrams: Ngrams, state: int, word: int) -> tuple[float, int]:
    """The natural log probability of a word after a state of the language model, and the next."""
    return advance(
        ngrams.word,
        ngrams.first_child,
        ngrams.log_prob,
        ngrams.backoff,
        ngrams.suffix,
        state,
        word,
    )


@inner
def _hear(hotwords: Hotwords, hot: int, letters: np.ndarray) -> tuple[float, int]:
    given = 0.0
    for letter in letters:
        hot = hotwords.following[hot, letter]
        given += hotwords.given[hot]
    return given, hot


@inner
def begin(
    state: Any,
    label: int,
    labels: Labels,
    trie: Trie,
    ngrams: Ngrams,
    hotwords: Hotwords,
    options: Options,
) -> Any:
    """Append a label's text to the word begun, or begin one; whether that can become a word."""
    first = state.part == 0 and state.history != 0
    state.part = state.part * labels.power[label] + labels.text[label]
    if state.trie != OUTSIDE:
        state.trie = _find(trie, state.part)
    if state.trie == OUTSIDE and trie.closed:
        return False
    if ngrams.of_letters:
        for letter in labels.letters[labels.letter_begins[label] : labels.letter_begins[label + 1]]:
            if first:
                log_prob, state.lm = ask(ngrams, state.lm, ngrams.boundary)
                state.score += options.alpha * log_prob + options.beta
                first = False
            log_prob, state.lm = ask(ngrams, state.lm, letter)
            state.score += options.alpha * log_prob + options.beta
    if len(hotwords.given):
        heard = labels.hot_letters[labels.hot_begins[label] : labels.hot_begins[label + 1]]
        given, state.hot = _hear(hotwords, state.hot, heard)
        state.score += given
    return True


@inner
def end(
    state: Any, word: int, trie: Trie, ngrams: Ngrams, hotwords: Hotwords, options: Options
) -> Any:
    """End the word begun, as that word of the lexicon, or NONE of them."""
    text = state.part if word == NONE else trie.word_text[word]
    state.history = mixed(state.history ^ mixed(text))
    state.part = 0
    state.trie = NONE
    if word == NONE:
        state.score += options.unknown_score
    if not ngrams.of_letters:
        state.score += options.beta
    if ngrams.of_words:
        lm_word = ngrams.unknown if word == NONE else trie.lm_word[word]
        log_prob, state.lm = ask(ngrams, state.lm, lm_word)
        state.score += options.alpha * log_prob
    if len(hotwords.given):
        if word != NONE:
            heard = trie.hot_letters[trie.hot_begins[word] : trie.hot_begins[word + 1]]
            given, state.hot = _hear(hotwords, state.hot, heard)
            state.score += given
        state.hot = hotwords.following[state.hot, BOUNDARY]
        state.score += hotwords.given[state.hot]


@inner
def ends(state: Any, trie: Trie) -> Any:
    """Which words the one begun may be: from and to in `trie.words`; (-1, 0): an unknown one."""
    if state.trie >= 0:
        begin, end = trie.word_begins[state.trie], trie.word_begins[state.trie + 1]
        if begin < end or trie.closed:
            return begin, end
    elif trie.closed:
        return 0, 0
    return NONE, 0


@inner
def lend(state: Any, trie: Trie, ngrams: Ngrams, hotwords: Hotwords, options: Options) -> Any:
    """What the word begun may come to: its best unigram, and hotwords half heard."""
    state.ahead = 0.0
    if ngrams.of_words and state.part != 0:
        if state.trie >= 0:
            state.ahead = options.alpha * trie.ahead[state.trie]
        else:
            unigram = ngrams.log_prob[1 + ngrams.unknown]
            state.ahead = options.alpha * unigram + options.unknown_score
    if len(hotwords.given):
        state.ahead += hotwords.lent[state.hot]
