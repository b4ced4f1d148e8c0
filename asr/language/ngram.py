"""The n-gram model: one trie of flat arrays, and a state that is one node of it.

A model backs off (Katz 1987): where an n-gram is not in it, the weight of its context is paid and
the first word of the context forgotten. `asr/language/trie.py` has the order of the nodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from asr.errors import UserError
from asr.kernels import inner, kernel
from asr.language.trie import Float32, Int32, Trie, child_of, levels, link

Kind = Literal["words", "characters"]

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
SPACE = "|"  # among characters


@inner
def advance(
    word: Any, first_child: Any, log_prob: Any, backoff: Any, suffix: Any, state: Any, word_id: Any
) -> Any:
    """Natural log-probability of a word after a state, and the state after it.

    States with one and the same future are one and the same node: where nothing follows an n-gram
    and it has no backoff, its longest suffix that is a context stands for it.
    """
    spent = 0.0
    node = child_of(word, first_child, state, word_id)
    while node == 0:
        spent += backoff[state]
        state = suffix[state]
        node = child_of(word, first_child, state, word_id)
    spent += log_prob[node]
    if first_child[node] == first_child[node + 1] and backoff[node] == 0:
        node = suffix[node]
    return spent, np.int32(node)


@kernel
def _follow(
    word: Any, first_child: Any, log_prob: Any, backoff: Any, suffix: Any, state: Any, ids: Any
) -> Any:
    """The log-probabilities of words one after the other."""
    steps = np.empty(len(ids))
    for position, word_id in enumerate(ids):
        steps[position], state = advance(
            word, first_child, log_prob, backoff, suffix, state, word_id
        )
    return steps


@dataclass(frozen=True, eq=False)
class NgramModel:
    """A compiled model of `order` n over words or characters.

    Arrays over the N nodes: `word` (the last of the n-gram), `log_prob`, `backoff` (natural
    logarithms), `suffix` (node of the longest proper suffix that is a context, 0 at least), and
    `first_child` [N + 1]. `text` has the words one after the other in UTF-8, `ends` [W] where each
    of them ends. A state is a node: the longest context, as an int32.
    """

    kind: Kind
    order: int
    start_id: int
    end_id: int
    unknown_id: int
    text: NDArray[np.uint8]
    ends: NDArray[np.int64]
    word: Int32
    first_child: Int32
    log_prob: Float32
    backoff: Float32
    suffix: Int32

    @classmethod
    def from_trie(cls, words: Sequence[str], trie: Trie, kind: Kind) -> NgramModel:
        """Links a trie; `words` have their three marks among them."""
        suffix = np.zeros(len(trie.word), np.int32)
        link(trie.word, trie.first_child, trie.log_prob, trie.backoff, suffix)
        ids = {word: word_id for word_id, word in enumerate(words)}
        unknown = ids[UNKNOWN] if UNKNOWN in ids else ids[UNKNOWN.upper()]
        encoded = [word.encode() for word in words]
        text = np.frombuffer(b"".join(encoded), np.uint8)
        ends = np.cumsum([len(one) for one in encoded], dtype=np.int64)
        arrays = (trie.word, trie.first_child, trie.log_prob, trie.backoff, suffix)
        return cls(
            kind, len(levels(trie.first_child)), ids[START], ids[END], unknown, text, ends, *arrays
        )

    @classmethod
    def load(cls, path: str | Path) -> NgramModel:
        """An ARPA file, which may be gzipped, or a compiled model: the content says which.

        Of a compiled model every index is checked, which reads all of it.

        Raises:
            UserError: it cannot be read, or is neither.
        """
        from asr.language import arpa, compiled

        if not compiled.is_compiled(path):
            return arpa.read_arpa(path)
        model = compiled.open_model(path)
        fault = model.fault()
        if fault:
            raise UserError(f"{path} is damaged: {fault}. Make it again with asr lm.")
        return model

    @classmethod
    def open(cls, path: str | Path) -> NgramModel:
        """Maps a compiled model whose content is known to be good, at once whatever its size.

        Sizes and places of all arrays are checked against the file, what stands in them is not: an
        index that leads out of them would be followed. For a file whose digest has been compared;
        `load` is for any other.

        Raises:
            UserError: it is missing, cut off, of another version, or no such file.
        """
        from asr.language import compiled

        return compiled.open_model(path)

    def save(self, path: str | Path) -> None:
        """Writes the compiled model; the same model gives the same bytes."""
        from asr.language import compiled

        compiled.save_model(self, path)

    @property
    def arrays(self) -> tuple[Int32, Int32, Float32, Float32, Int32]:
        """What `advance` takes first."""
        return self.word, self.first_child, self.log_prob, self.backoff, self.suffix

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The text of each word id."""
        text, start, words = bytes(self.text), 0, []
        for end in self.ends.tolist():
            words.append(text[start:end].decode())
            start = end
        return tuple(words)

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """How many n-grams of each order there are."""
        return tuple(end - start for start, end in levels(self.first_child))

    @cached_property
    def start(self) -> int:
        """The state at the beginning of a sentence."""
        return int(advance(*self.arrays, np.int32(0), self.start_id)[1])

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: word_id for word_id, word in enumerate(self.words)}

    @cached_property
    def upper_case(self) -> bool:
        """Whether its words have capital letters only, as those of many older models do."""
        words = self.vocabulary
        return any(map(str.isupper, words)) and all(word == word.upper() for word in words)

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Its words but for the three marks."""
        marks = {self.start_id, self.end_id, self.unknown_id}
        return tuple(word for word_id, word in enumerate(self.words) if word_id not in marks)

    def word_id(self, text: str) -> int:
        """The id of a word, or that of the unknown one.

        Where all words of the model are in capitals, the case of `text` does not matter.
        """
        if text in self._ids:
            return self._ids[text]
        if self.upper_case:
            return self._ids.get(text.upper(), self.unknown_id)
        return self.unknown_id

    def tokens(self, text: str) -> list[str]:
        """What a normalised text consists of: its words, or its characters with `|` for a space."""
        return tokens(text, self.kind)

    def log_probs(self, sentence: Sequence[str]) -> NDArray[np.float64]:
        """Natural log-probabilities [tokens + 1] of a sentence's tokens and its end."""
        ids = np.array([*map(self.word_id, sentence), self.end_id], np.int64)
        steps: NDArray[np.float64] = _follow(*self.arrays, np.int32(self.start), ids)
        return steps

    def score(self, sentence: Sequence[str]) -> float:
        """Natural log-probability of a sentence's tokens and its end, after its beginning."""
        return float(self.log_probs(sentence).sum())

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> float:
        """Of all tokens, the unknown ones too, and the ends of sentences.

        Raises:
            ValueError: there is no sentence.
        """
        log_prob, count = 0.0, 0
        for sentence in sentences:
            log_prob += self.score(sentence)
            count += len(sentence) + 1
        if not count:
            raise ValueError("no sentence, no perplexity")
        return math.exp(-log_prob / count)

    def fault(self) -> str:
        """What could lead outside the arrays or around in circles, or '' where nothing can.

        Children come after their parent and suffixes before their node, so that every walk ends.
        """
        nodes, words = len(self.word), len(self.ends)
        node = np.arange(nodes, dtype=np.int32)
        first = self.first_child
        if not (np.diff(self.ends, prepend=0) >= 0).all() or self.ends[-1] != len(self.text):
            return "its words do not fit their text"
        if first[0] != 1 or first[1] != 1 + words or first[-1] != nodes:
            return "its n-grams are not counted rightly"
        if not ((np.diff(first) >= 0).all() and (first[:-1] > node).all()):
            return "an n-gram comes before its context"
        if not ((self.word >= 0) & (self.word < words)).all():
            return "a word has no number of a word"
        begins = np.zeros(nodes + 1, bool)
        begins[first] = True
        if not (begins[1:-1] | (np.diff(self.word) > 0)).all():
            return "the words after a context are not sorted"
        if self.suffix[0] != 0 or not ((self.suffix >= 0) & (self.suffix <= node)).all():
            return "a suffix leads astray"
        if (self.suffix[1:] == node[1:]).any():
            return "an n-gram is its own suffix"
        if not np.isfinite(self.log_prob).all() or not np.isfinite(self.backoff).all():
            return "a probability is no number"
        if self.order != len(levels(first)):
            return "its order is not that of its n-grams"
        try:
            if len(set(self.words)) < words:
                return "a word stands twice"
        except UnicodeDecodeError:
            return "a word is not UTF-8"
        return ""


def tokens(text: str, kind: Kind) -> list[str]:
    """A normalised text's words, or its characters with `|` for a space."""
    return text.split() if kind == "words" else list(SPACE.join(text.split()))
