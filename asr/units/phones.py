"""Phones, and the lexicon that says which of them a word is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asr import pronunciations
from asr.errors import UserError
from asr.text import normalise
from asr.units.symbols import BLANK, Units, UnknownSymbolError, indices_of

LEXICON = "lexicon.txt"


@dataclass(frozen=True)
class PhoneUnits(Units):
    """Phones of a pronunciation lexicon: of the outer CTC, or the target of an inner one.

    A word's first pronunciation is used. What is decoded are phones with spaces between them:
    which words they are is for a decoder to say that knows a lexicon.
    """

    kind = "phones"
    rate_name = "per"
    symbols: tuple[str, ...]
    pronunciations: Mapping[str, tuple[str, ...]]
    _indices: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_indices", indices_of(self.symbols))

    @classmethod
    def from_dictionary(cls, path: Path, normaliser: str = "english") -> PhoneUnits:
        """Read a CMU-style dictionary: `WORD  PH PH`, alternatives as `WORD(2)`.

        Words are written as the normaliser of that name writes texts.

        Raises:
            UserError: the file cannot be read, a line holds a word without phones, or a phone has
                the blank's name.
        """
        first: dict[str, tuple[str, ...]] = {}
        for line in pronunciations.read(path, "pronunciation dictionary"):
            where = f"{path}:{line.number}"
            if not line.phones:
                raise UserError(f"{where}: the word {line.word!r} has no phones.")
            if BLANK in line.phones:
                raise UserError(f"{where}: {BLANK} is no name for a phone: CTC's blank.")
            word = normalise(normaliser, line.word)
            # Texts are split at spaces: what holds one, or nothing, is never looked up.
            if not line.alternative and len(word.split()) == 1:
                first.setdefault(word, line.phones)
        return cls.from_pronunciations(first)

    @classmethod
    def from_pronunciations(cls, pronunciations: Mapping[str, tuple[str, ...]]) -> PhoneUnits:
        """All the phones of words, sorted."""
        phones = sorted({phone for phones in pronunciations.values() for phone in phones})
        return cls((BLANK, *phones), pronunciations)

    @classmethod
    def from_file(cls, content: bytes) -> PhoneUnits:
        """From what `files` gave.

        Raises:
            ValueError: it is no lexicon.
        """
        entries = [line.split() for line in content.decode().splitlines()]
        if not all(len(entry) > 1 for entry in entries):
            raise ValueError("a word has no phones")
        return cls.from_pronunciations({word: tuple(phones) for word, *phones in entries})

    def files(self) -> dict[str, bytes]:
        """The lexicon: a word and its phones a line."""
        lines = [f"{word}  {' '.join(phones)}\n" for word, phones in self.pronunciations.items()]
        return {LEXICON: "".join(lines).encode()}

    def encode(self, text: str) -> list[int]:
        """Labels of a text's phones.

        Raises:
            UnknownSymbolError: a word is not in the lexicon.
        """
        labels: list[int] = []
        for word in text.split():
            if word not in self.pronunciations:
                raise UnknownSymbolError(word, text, "is not in the lexicon")
            labels.extend(self._indices[phone] for phone in self.pronunciations[word])
        return labels

    def encode_known(self, text: str) -> list[int]:
        """Labels of a text's phones, or none where a word is not in the lexicon."""
        try:
            return self.encode(text)
        except UnknownSymbolError:
            return []

    def spell(self, symbols: Sequence[str]) -> Iterator[tuple[str, range]]:
        """Each phone stands for itself."""
        for position, symbol in enumerate(symbols):
            yield symbol, range(position, position + 1)

    def sounds(self, symbol: str) -> int:
        """One phone."""
        return 1

    def reference(self, text: str) -> str | None:
        """The phones of a text; None where a word is not in the lexicon."""
        try:
            return self.decode(self.encode(text))
        except UnknownSymbolError:
            return None
