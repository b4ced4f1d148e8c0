"""Lexicons: which words may be decoded, and how they are pronounced."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from asr import pronunciations
from asr.errors import UserError
from asr.text import normalise
from asr.units.phones import PhoneUnits
from asr.units.symbols import Units, UnknownSymbolError


@dataclass(frozen=True)
class Entry:
    """A word as texts write it, its phones where the file has them, and the line that says so."""

    word: str
    phones: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Lexicon:
    """The words of a file, each with one pronunciation or several, or none.

    `source` names the file in messages. `left_out` are those of its entries, as the file writes
    them, that are no word of a text, or several.
    """

    source: str
    entries: tuple[Entry, ...]
    left_out: tuple[Entry, ...] = ()

    @classmethod
    def read(cls, path: str | Path, normaliser: str) -> Lexicon:
        """Read a list of words, or a CMU-style dictionary, plain or gzipped.

        Words are written as the normaliser of that name writes texts; what is then no word, or
        several, is left out, and so are symbols such as `<sil>`, which nobody says.

        Raises:
            UserError: the file cannot be read, or holds no word.
        """
        entries: dict[tuple[str, tuple[str, ...]], Entry] = {}
        left_out = []
        for line in pronunciations.read(path, "lexicon"):
            word = normalise(normaliser, line.word)
            if len(word.split()) == 1:
                entry = Entry(word, line.phones, line.number)
                entries.setdefault((entry.word, entry.phones), entry)
            else:
                left_out.append(Entry(line.word, line.phones, line.number))
        if not entries:
            raise UserError(f"The lexicon {path} holds no words: a word a line, then its phones.")
        return cls(str(path), tuple(entries.values()), tuple(left_out))

    @classmethod
    def of_units(cls, units: PhoneUnits) -> Lexicon:
        """That of a model that emits phones."""
        entries = enumerate(units.pronunciations.items(), start=1)
        return cls(
            "the model's lexicon", tuple(Entry(word, phones, n) for n, (word, phones) in entries)
        )

    def spelled(self, units: Units) -> tuple[tuple[str, ...], list[tuple[int, list[int]]]]:
        """The words, and for each of their spellings the word's position and its labels.

        Raises:
            UserError: a word or phone has no units; names the line.
        """
        words: dict[str, int] = {}
        spellings = []
        for entry in self.entries:
            position = words.setdefault(entry.word, len(words))
            try:
                spellings.append((position, self._labels(entry, units)))
            except (UnknownSymbolError, KeyError) as error:
                symbol = error.symbol if isinstance(error, UnknownSymbolError) else error.args[0]
                raise UserError(
                    f"{self.source}:{entry.line}: the model cannot spell {entry.word!r}: "
                    f"{symbol!r} is none of its {units.kind}. Take the line out."
                ) from None
        return tuple(words), spellings

    def _labels(self, entry: Entry, units: Units) -> list[int]:
        if not isinstance(units, PhoneUnits):
            return units.encode(entry.word)
        if not entry.phones:
            raise UserError(
                f"{self.source}:{entry.line}: {entry.word!r} has no phones, and the model emits"
                " phones: give a dictionary with pronunciations."
            )
        indices = {symbol: label for label, symbol in enumerate(units.symbols)}
        return [indices[phone] for phone in entry.phones]
