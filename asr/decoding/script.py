"""A text that is known to be spoken: its words, their labels, and where other speech may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from asr.decoding.alignment import Emissions, align
from asr.decoding.hypothesis import Word
from asr.decoding.words import timed_units, words_of
from asr.errors import UserError
from asr.text import normalise
from asr.units.symbols import Units, UnknownSymbolError

GAP = "*"


@dataclass(frozen=True)
class Script:
    """Words, the labels [U] of all of them, and where in `labels` each word's stand.

    Before the labels numbered in `gaps` there may be speech that is in no word; U is behind the
    last.
    """

    words: tuple[str, ...]
    labels: tuple[int, ...]
    places: tuple[range, ...]
    gaps: frozenset[int]

    @classmethod
    def from_text(cls, text: str, units: Units, normaliser: str, source: str) -> Script:
        """Read a text; a `*` that stands alone is a gap.

        Args:
            text: lines of any length.
            units: what the words are spelled with.
            normaliser: name of the one that the units' texts were written with.
            source: what errors call the text.

        Raises:
            UserError: the text has no words, or the units cannot spell one; names it and its line.
        """
        words: list[str] = []
        open_before: set[int] = set()  # words before which there is a gap
        known: set[str] = set()
        for number, line in enumerate(text.splitlines(), start=1):
            for piece, written in enumerate(_pieces(line)):
                if piece:
                    open_before.add(len(words))
                for word in normalise(normaliser, written).split():
                    if word not in known:
                        _check(word, units, f"{source}:{number}")
                        known.add(word)
                    words.append(word)
        if not words:
            raise UserError(f"{source} holds no words: write what is said in the recording.")
        labels = units.encode(" ".join(words))
        places = _places(words, labels, units)
        return cls(tuple(words), tuple(labels), places, _gaps(open_before, places, len(labels)))

    def place(
        self, emissions: Emissions, units: Units, seconds_per_frame: float, offset_s: float
    ) -> tuple[Word, ...]:
        """The words in time, of emissions [T', V]; `offset_s` is where the first frame begins.

        Raises:
            AlignmentError: the emissions are too short for the words.
        """
        spans = align(emissions, self.labels, self.gaps)
        emitted = timed_units(units, self.labels, spans, seconds_per_frame, offset_s)
        return words_of(units, emitted, zip(self.words, self.places, strict=True))


def _pieces(line: str) -> list[str]:
    """What stands between the gaps of a line: one piece more than gaps."""
    pieces: list[list[str]] = [[]]
    for token in line.split():
        if token == GAP:
            pieces.append([])
        else:
            pieces[-1].append(token)
    return [" ".join(piece) for piece in pieces]


def _check(word: str, units: Units, where: str) -> None:
    try:
        units.encode(word)
    except UnknownSymbolError as error:
        what = "it " if error.symbol == word else f"{error.symbol!r} "
        why = str(error).rpartition(f"{word!r} ")[2]
        raise UserError(
            f"{where}: this model cannot spell {word!r}: {what}{why}."
            f" Write it as it is said, or {GAP} in its place."
        ) from None


def _places(words: Sequence[str], labels: Sequence[int], units: Units) -> tuple[range, ...]:
    """Where in the labels each word's stand; separators are nobody's."""
    if units.rate_name == "per":  # no phone says where its word ends
        ends = list(accumulate(len(units.encode(word)) for word in words))
        return tuple(range(start, end) for start, end in zip([0, *ends], ends, strict=False))
    spelled = list(units.spell([units.symbols[label] for label in labels]))
    return tuple(place for _, (_, place) in zip(words, spelled, strict=True))


def _gaps(open_before: set[int], places: Sequence[range], labels: int) -> frozenset[int]:
    """Gaps before words as gaps before labels: on both sides of a separator where there is one."""
    bounds = [0, *(end for place in places for end in (place.start, place.stop)), labels]
    return frozenset(
        gap for word in open_before for gap in range(bounds[2 * word], bounds[2 * word + 1] + 1)
    )
