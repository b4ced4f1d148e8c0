"""What the beam search is given of units, words and a language model, as flat arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asr.decoding import states
from asr.decoding.lexicon import Lexicon
from asr.decoding.states import Labels, Ngrams, Trie, mixed
from asr.errors import UserError
from asr.kernels import kernel
from asr.language.ngram import NgramModel
from asr.units.characters import SPACE, CharacterUnits
from asr.units.phones import PhoneUnits
from asr.units.pieces import MARK, SentencePieceUnits
from asr.units.symbols import Units
from asr.units.words import WordUnits

# A text of characters (or labels) c1 c2 … is c1 BASE^(n-1) + c2 BASE^(n-2) + … modulo 2^64.
BASE = 0x9E3779B97F4A7C55  # odd, so that no character is ever lost
NO_INTEGERS = np.zeros(0, np.int32)


def role_of(units: Units, label: int) -> int:
    """What a label does to the word begun: a constant of `asr.decoding.states`."""
    symbol = units.symbols[label]
    if label == states.BLANK:
        return states.BLANK
    if isinstance(units, CharacterUnits):
        if symbol == SPACE:
            return states.SEPARATOR
        return states.WORD if units.is_word(label) else states.LETTER
    if isinstance(units, WordUnits):
        return states.WORD
    if isinstance(units, SentencePieceUnits):
        if symbol == MARK:
            return states.SEPARATOR
        return states.BEGIN if symbol.startswith(MARK) else states.LETTER
    if isinstance(units, PhoneUnits):
        return states.PHONE
    raise UserError(f"decoder=beam knows nothing of units of kind {units.kind!r}: use greedy.")


def text_of(units: Units, label: int) -> str:
    """The characters that a label adds to a word."""
    role = role_of(units, label)
    if role in (states.BLANK, states.SEPARATOR, states.PHONE):
        return ""
    return units.symbols[label].removeprefix(MARK if role == states.BEGIN else "")


def alphabet_of(units: Units) -> frozenset[str] | None:
    """The characters that labels spell; None of phones."""
    if isinstance(units, PhoneUnits):
        return None
    return frozenset("".join(text_of(units, label) for label in range(len(units.symbols))))


def words_heard(units: Units, closed: Sequence[str] | None) -> frozenset[str] | None:
    """The only words that can be heard, `closed` those of a lexicon that has all; None: any."""
    only = None if closed is None else frozenset(closed)
    if not isinstance(units, WordUnits):
        return only
    own = frozenset(units.symbols[1:])
    return own if only is None else own & only


def labels_of(units: Units, ngrams: NgramModel | None, heard: dict[str, int]) -> Labels:
    """Roles and texts of all labels.

    `heard` numbers the characters of hotwords; a language model of letters has words of its own for
    them.
    """
    size = len(units.symbols)
    texts = [text_of(units, label) for label in range(size)]
    phones = isinstance(units, PhoneUnits)
    codes = [[label] for label in range(size)] if phones else [list(map(ord, t)) for t in texts]
    letters = _joined(
        [[ngrams.word_id(letter) for letter in text] for text in texts]
        if ngrams is not None and ngrams.kind == "characters"
        else [[]] * size
    )
    hot = _joined([[heard.get(character, 0) for character in text] for text in texts])
    return Labels(
        role=np.array([role_of(units, label) for label in range(size)], np.int8),
        text=np.array([_hash(code) for code in codes], np.uint64),
        power=np.array([pow(BASE, len(code), 2**64) for code in codes], np.uint64),
        first=np.array([1 << (code[0] & 63) if code else 0 for code in codes], np.uint64),
        letter_begins=letters[0],
        letters=letters[1],
        hot_begins=hot[0],
        hot_letters=hot[1],
    )


def _hash(codes: Sequence[int]) -> int:
    total = 0
    for code in codes:
        total = (total * BASE + code + 1) % 2**64
    return total


def _joined(lists: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Lists end to end, and where each begins."""
    begins = np.zeros(len(lists) + 1, np.int32)
    np.cumsum([len(numbers) for numbers in lists], out=begins[1:])
    return begins, np.array([number for numbers in lists for number in numbers], np.int32)


@dataclass(frozen=True)
class Vocabulary:
    """Words in the order of their numbers, and how they are spelled, as codes end to end.

    Spelling k is that of word `owner[k]`: `codes[begins[k]:begins[k + 1]]`. `by_letters` where they
    are the word's characters, so that two words never have the same.
    """

    words: tuple[str, ...]
    owner: np.ndarray
    codes: np.ndarray
    begins: np.ndarray
    by_letters: bool

    @classmethod
    def of_words(cls, words: Sequence[str]) -> Vocabulary:
        """Spelled by their characters."""
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        codes = np.frombuffer("".join(words).encode("utf-32-le"), np.uint32)
        begins = np.concatenate([[0], np.cumsum(lengths)])
        return cls(tuple(words), np.arange(len(words)), codes.astype(np.uint64), begins, True)

    @classmethod
    def of_lexicon(cls, lexicon: Lexicon, units: Units) -> Vocabulary:
        """Spelled by their characters, or by their phones where the units are phones.

        Raises:
            UserError: a word cannot be spelled.
        """
        words, spellings = lexicon.spelled(units)
        if not isinstance(units, PhoneUnits):
            return cls.of_words(words)
        begins, codes = _joined([labels for _, labels in spellings])
        owner = np.array([word for word, _ in spellings], np.int64)
        return cls(words, owner, codes.astype(np.uint64), begins.astype(np.int64), False)


def words_of(model: NgramModel, units: Units) -> tuple[str, ...]:
    """The words of a language model; of one in capitals as units that have none write them."""
    if model.upper_case and all(symbol == symbol.lower() for symbol in units.symbols):
        return tuple(dict.fromkeys(map(str.lower, model.vocabulary)))
    return model.vocabulary


def trie_of(
    vocabulary: Vocabulary | None,
    closed: bool,
    ngrams: NgramModel | None,
    heard: dict[str, int],
) -> Trie:
    """The beginnings of a vocabulary's words; of None: no word is known.

    `heard` numbers the characters of hotwords where the units are phones; else it is empty.
    """
    if vocabulary is None:
        vocabulary, closed = Vocabulary.of_words(()), False
    owner, codes, begins = vocabulary.owner, vocabulary.codes, vocabulary.begins
    lengths = np.diff(begins)
    of_words = ngrams is not None and ngrams.kind == "words"
    lm_word = np.array(
        [ngrams.word_id(word) if of_words and ngrams else 0 for word in vocabulary.words], np.int32
    )
    hashes = np.zeros(len(codes), np.uint64)  # of each beginning of each spelling
    running = np.zeros(len(lengths), np.uint64)
    for position in range(int(lengths.max(initial=0))):
        going_on = np.flatnonzero(lengths > position)
        place = begins[going_on] + position
        running[going_on] = running[going_on] * np.uint64(BASE) + codes[place] + np.uint64(1)
        hashes[place] = running[going_on]
    keys, node = np.unique(hashes, return_inverse=True)
    ahead = np.full(len(keys), -np.inf, np.float32)
    if of_words and ngrams is not None:
        unigram = ngrams.log_prob[1 + lm_word]
        np.maximum.at(ahead, node, np.repeat(unigram[owner], lengths))
    bits = np.uint64(1) << (codes & np.uint64(63))  # two characters may have one bit
    begun = np.ones(len(codes), bool)
    begun[begins[:-1]] = False
    following = np.zeros(len(keys) + 1, np.uint64)
    np.bitwise_or.at(following, node[np.flatnonzero(begun) - 1], bits[begun])
    following[-1] = np.bitwise_or.reduce(bits[~begun], initial=0)
    last = node[begins[1:] - 1] if len(owner) else NO_INTEGERS
    ending = np.unique(np.stack([last, owner], axis=1), axis=0) if len(owner) else NO_INTEGERS
    ending = ending.reshape(-1, 2)
    word_begins = np.searchsorted(ending[:, 0], np.arange(len(keys) + 1)).astype(np.int32)
    slots = 1 << (2 * len(keys)).bit_length()
    table, nodes = np.zeros(slots, np.uint64), np.zeros(slots, np.int32)
    _fill(table, nodes, keys)
    hot = _joined([[heard.get(c, 0) for c in word] if heard else [] for word in vocabulary.words])
    if len(owner) and vocabulary.by_letters:
        word_text = hashes[begins[1:] - 1]  # an unknown word spelled alike is the same text
    else:
        word_text = np.arange(1, len(vocabulary.words) + 1, dtype=np.uint64)
    return Trie(
        keys=table,
        nodes=nodes,
        following=following,
        word_begins=word_begins,
        words=ending[:, 1].astype(np.int32),
        ahead=ahead,
        word_text=word_text,
        lm_word=lm_word,
        hot_begins=hot[0],
        hot_letters=hot[1],
        closed=closed,
        most=int(np.diff(word_begins).max(initial=0)),
    )


@kernel
def _fill(table: np.ndarray, nodes: np.ndarray, keys: np.ndarray) -> None:
    mask = np.uint64(len(table) - 1)
    for node in range(len(keys)):
        slot = mixed(keys[node]) & mask
        while table[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        table[slot] = keys[node]
        nodes[slot] = node


def ngrams_of(model: NgramModel | None) -> Ngrams:
    """A language model's arrays; None: it is never asked."""
    if model is None:
        none = np.zeros(0, np.float32)
        empty = np.zeros(0, np.int32)
        return Ngrams(empty, empty, none, none, empty, 0, 0, 0, 0, False, False)
    return Ngrams(
        word=model.word,
        first_child=model.first_child,
        log_prob=model.log_prob,
        backoff=model.backoff,
        suffix=model.suffix,
        start=model.start,
        end=model.end_id,
        unknown=model.unknown_id,
        boundary=model.word_id("|") if model.kind == "characters" else 0,
        of_words=model.kind == "words",
        of_letters=model.kind == "characters",
    )
