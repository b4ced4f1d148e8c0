"""Characters, and whole words among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from asr.units.symbols import BLANK, Units, UnknownSymbolError, indices_of

SPACE = "|"


@dataclass(frozen=True)
class CharacterUnits(Units):
    """Characters, the space as `|`, and whole words of their own where they are frequent.

    A whole word stands without spaces around it: `decode` puts them. So "rubout g m" is
    `rubout g | m` where "rubout" is such a word.
    """

    kind = "characters"
    symbols: tuple[str, ...]
    _indices: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_indices", indices_of(self.symbols))

    @classmethod
    def from_texts(cls, texts: Iterable[str], whole_word_count: int = 0) -> CharacterUnits:
        """Every character of normalised texts, and words that occur at least so often (0: none).

        Words of a single character are characters anyway.
        """
        words = Counter(word for text in texts for word in text.split())
        characters = sorted({character for word in words for character in word} - {SPACE})
        frequent = sorted(
            word
            for word, count in words.items()
            if whole_word_count and count >= whole_word_count and len(word) > 1 and word != BLANK
        )
        return cls((BLANK, SPACE, *characters, *frequent))

    def is_word(self, label: int) -> bool:
        """Whether the label is a word by itself."""
        return label > 0 and len(self.symbols[label]) > 1

    def encode(self, text: str) -> list[int]:
        """Labels of a normalised text.

        Raises:
            UnknownSymbolError: a character is none of the units.
        """
        labels: list[int] = []
        for word in text.split():
            if len(word) > 1 and word in self._indices and word != BLANK:
                labels.append(self._indices[word])
                continue
            if labels and not self.is_word(labels[-1]):
                labels.append(self._indices[SPACE])
            for character in word:
                if character not in self._indices or character == SPACE:
                    raise UnknownSymbolError(character, text)
                labels.append(self._indices[character])
        return labels

    def spell(self, symbols: Sequence[str]) -> Iterator[tuple[str, range]]:
        """Characters join into words between spaces; a whole word needs no space beside it."""
        start = 0  # of the characters that are no word yet
        for position, symbol in enumerate(symbols):
            if symbol != SPACE and len(symbol) == 1:
                continue
            if start < position:
                yield "".join(symbols[start:position]), range(start, position)
            if symbol != SPACE:
                yield symbol, range(position, position + 1)
            start = position + 1
        if start < len(symbols):
            yield "".join(symbols[start:]), range(start, len(symbols))

    def decode(self, labels: Sequence[int]) -> str:
        """The text of labels; spaces never double."""
        pieces: list[str] = []
        for label in labels:
            symbol = self.symbols[label]
            if symbol == SPACE:
                pieces.append(" ")
            elif self.is_word(label):
                pieces.append(f" {symbol} ")
            else:
                pieces.append(symbol)
        return " ".join("".join(pieces).split())
