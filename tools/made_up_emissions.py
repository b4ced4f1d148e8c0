"""Emissions that no model made, of a made-up language: peaky, as those of CTC are."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.decoding.lexicon import Entry, Lexicon
from asr.language.counting import Scratch, count_ngrams
from asr.language.kneser_ney import estimate
from asr.language.ngram import NgramModel
from asr.units.characters import SPACE, CharacterUnits
from asr.units.symbols import BLANK

FIRST_SYMBOL = 0x4E00  # from here on there are letters enough
WORDS = 500
SENTENCES = 2000  # that the language model has seen
LABEL_FRAMES = 3  # for a label, the blanks around it among them
MARGIN, SPREAD = 4.5, 2.0  # by how much the right label stands out, natural log


@dataclass(frozen=True)
class Task:
    """What is decoded: log-probabilities [T', V] an utterance, and what was said."""

    name: str
    units: CharacterUnits
    items: tuple[np.ndarray, ...]
    texts: tuple[str, ...]
    words: tuple[str, ...]
    lm: NgramModel

    @property
    def lexicon(self) -> Lexicon:
        """The words, as those of a file."""
        entries = tuple(Entry(word, (), line) for line, word in enumerate(self.words, start=1))
        return Lexicon(f"the words of {self.name}", entries)


def bigrams(texts: Sequence[str], words: Sequence[str]) -> NgramModel:
    """The language model of texts over a vocabulary."""
    with tempfile.TemporaryDirectory(prefix="asr-") as folder:
        scratch = Scratch(Path(folder))
        counts = count_ngrams((text.split() for text in texts), 2, scratch, words)
        return estimate(counts, scratch).model


def made_up(frames: int, symbols: int, utterances: int, seed: int = 1) -> Task:
    """Utterances of so many frames over so many symbols, blank and separator among them.

    500 words of one to eight letters are drawn, all alike. In a sentence, a word comes after the
    one before with a probability that falls with its rank (Zipf), and ranks differ from word to
    word; the language model has seen 2,000 other sentences. A label has one frame, or two (30 %),
    and blanks before and behind. In each frame all labels have normally distributed logits (s =
    1.5), and the right one's is put so much higher that it stands 4.5 above all together, natural
    log, on average; that margin is normally distributed too (s = 2).
    """
    generator = np.random.default_rng(seed)
    letters = [chr(FIRST_SYMBOL + number) for number in range(symbols - 2)]
    units = CharacterUnits((BLANK, SPACE, *letters))
    found: dict[str, None] = {}
    while len(found) < WORDS:
        length = int(generator.integers(1, 9))
        found["".join(generator.choice(letters, length))] = None
    words = tuple(found)
    orders = np.array([generator.permutation(WORDS) for _ in range(WORDS)])
    zipf = 1 / np.arange(1, WORDS + 1)

    def sentence(labels: int) -> str:
        said: list[str] = []
        word = int(generator.integers(WORDS))
        while sum(map(len, said)) + len(said) + len(words[word]) <= labels:
            said.append(words[word])
            word = int(generator.choice(orders[word], p=zipf / zipf.sum()))
        return " ".join(said)

    labels = frames // LABEL_FRAMES
    seen = [sentence(60) for _ in range(SENTENCES)]
    texts = tuple(sentence(labels) for _ in range(utterances))
    items = tuple(_emissions(generator, units, text, frames) for text in texts)
    name = f"made up, T = {frames}, V = {symbols}"
    return Task(name, units, items, texts, words, bigrams(seen, words))


def _emissions(
    generator: np.random.Generator, units: CharacterUnits, text: str, frames: int
) -> np.ndarray:
    labels = units.encode(text)
    durations = generator.choice([1, 2], len(labels), p=[0.7, 0.3])
    blanks = 1 + generator.multinomial(  # behind each label, and before the first
        frames - durations.sum() - len(labels) - 1, np.full(len(labels) + 1, 1 / (len(labels) + 1))
    )
    path = [np.zeros(blanks[0], np.int64)]
    for label, duration, gap in zip(labels, durations, blanks[1:], strict=True):
        path += [np.full(duration, label), np.zeros(gap, np.int64)]
    right = np.concatenate(path)  # [T']
    logits = generator.normal(0, 1.5, (frames, len(units.symbols)))
    margin = generator.normal(MARGIN, SPREAD, frames)
    logits[np.arange(frames), right] = np.logaddexp.reduce(logits, axis=1) + margin
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return log_probs.astype(np.float32)  # [T', V]
