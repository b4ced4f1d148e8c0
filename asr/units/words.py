"""Words as they stand in the training texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from asr.units.symbols import BLANK, Units, UnknownSymbolError, indices_of


@dataclass(frozen=True)
class WordUnits(Units):
    """Every word a unit: for corpora of few different words, since no other can be heard."""

    kind = "words"
    symbols: tuple[str, ...]
    _indices: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_indices", indices_of(self.symbols))

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> WordUnits:
        """Every word of normalised texts."""
        return cls((BLANK, *sorted({word for text in texts for word in text.split()} - {BLANK})))

    def encode(self, text: str) -> list[int]:
        """One label a word.

        Raises:
            UnknownSymbolError: a word is none of the units.
        """
        labels = []
        for word in text.split():
            if word not in self._indices or word == BLANK:
                raise UnknownSymbolError(word, text)
            labels.append(self._indices[word])
        return labels

    def spell(self, symbols: Sequence[str]) -> Iterator[tuple[str, range]]:
        """Each symbol is a word."""
        for position, symbol in enumerate(symbols):
            yield symbol, range(position, position + 1)
