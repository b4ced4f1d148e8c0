"""Corpora that lie in no file: utterances as long as LibriSpeech's, of noise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
from bench_sampling import LONGEST_S, made_up

from asr.audio import SAMPLE_RATE_HZ
from asr.corpus import Corpus, Split

FIRST_SYMBOL = 0x4E00  # from here on there are letters enough
LOUDNESS = 1000  # of 32,768
VALIDATION = 8  # utterances


class MadeUpSplit(Split):
    """So many utterances; a waveform is made when it is asked for.

    Args:
        name: begins the ids.
        utterances: how many.
        symbols: different letters of their texts.
        labels_per_s: letters for a second of audio; at least one.
    """

    def __init__(self, name: str, utterances: int, symbols: int, labels_per_s: float) -> None:
        super().__init__([])
        self.name = name
        self.samples, _ = made_up(utterances)
        self.symbols = symbols
        self.labels_per_s = labels_per_s
        size = round(LONGEST_S * SAMPLE_RATE_HZ)
        generator = np.random.default_rng(0)
        self._noise = generator.normal(0, LOUDNESS, size).astype(np.int16)

    @cached_property
    def ids(self) -> list[str]:
        """The split's name and a number."""
        return [f"{self.name}-{number}" for number in range(len(self))]

    @cached_property
    def texts(self) -> list[str]:
        """Letters in their order, from another one on each time: none stands twice in a row."""
        counts = np.maximum(1, self.durations_s * self.labels_per_s).astype(int)
        letters = "".join(chr(FIRST_SYMBOL + number) for number in range(self.symbols))
        cycle = letters * (2 + int(counts.max(initial=0)) // self.symbols)
        firsts = np.arange(len(self)) % self.symbols
        return [cycle[first : first + count] for first, count in zip(firsts, counts, strict=True)]

    @cached_property
    def speakers(self) -> list[str]:
        """Nobody."""
        return [""] * len(self)

    @cached_property
    def digests(self) -> list[bytes]:
        """As different as the ids."""
        return [name.encode() for name in self.ids]

    def waveform(self, index: int) -> npt.NDArray[np.int16]:
        """Noise [S]."""
        return self._noise[: self.samples[index]]


@contextmanager
def in_place_of_a_corpus(utterances: int, symbols: int, labels_per_s: float) -> Iterator[None]:
    """A block in which every prepared corpus that is opened is a made-up one."""
    sizes = {"train": utterances, "validation": VALIDATION}
    splits: dict[str, Split] = {
        name: MadeUpSplit(name, size, symbols, labels_per_s) for name, size in sizes.items()
    }
    corpus = Corpus(Path("made-up"), "custom", "", "made up", splits, [])
    with patch.object(Corpus, "open", lambda folder: corpus):
        yield
