"""Text to labels and back: normalisers, and the units a network emits."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from asr.errors import UserError, nearest

BLANK = "<blank>"
SPACE = "|"

_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'"})
_LONE_APOSTROPHE = re.compile(r"(?<!\w)'|'(?!\w)")
_NOT_SPOKEN = re.compile(r"[^\w\s']|_")


def english(text: str) -> str:
    """NFKC, lower case; apostrophes within words stay, other punctuation becomes a space."""
    text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).lower()
    text = _NOT_SPOKEN.sub(" ", text)
    return " ".join(_LONE_APOSTROPHE.sub(" ", text).split())


def unchanged(text: str) -> str:
    """White space collapsed, nothing else."""
    return " ".join(text.split())


NORMALISERS = {"english": english, "none": unchanged}


def normalise(name: str, text: str) -> str:
    """Text as the normaliser of that name writes it.

    Raises:
        UserError: no normaliser has that name.
    """
    if name not in NORMALISERS:
        known = ", ".join(sorted(NORMALISERS))
        raise UserError(
            f"No normaliser is called {name!r}.{nearest(name, NORMALISERS)} Known: {known}."
        )
    return NORMALISERS[name](text)


class UnknownSymbolError(ValueError):
    """A text holds a character that the units do not have. `symbol` is that character."""

    def __init__(self, symbol: str, text: str) -> None:
        super().__init__(f"{symbol!r} in {text!r} is none of the units")
        self.symbol = symbol


class Units(Protocol):
    """What a network emits: `symbols[0]` is the blank, a text is a sequence of the others."""

    symbols: tuple[str, ...]

    def encode(self, text: str) -> list[int]:
        """Labels of a text. Raises `UnknownSymbolError`."""
        ...

    def decode(self, labels: Sequence[int]) -> str:
        """The text of labels, without blanks."""
        ...


@dataclass(frozen=True)
class CharacterUnits:
    """Characters, the space as `|`, and whole words of their own where they are frequent.

    A whole word stands without spaces around it: `decode` puts them. So "rubout g m" is
    `rubout g | m` where "rubout" is such a word.
    """

    symbols: tuple[str, ...]
    _indices: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.symbols or self.symbols[0] != BLANK:
            raise ValueError(f"the first symbol is {BLANK}")
        if len(set(self.symbols)) != len(self.symbols):
            raise ValueError("a symbol stands twice among the units")
        object.__setattr__(self, "_indices", {s: i for i, s in enumerate(self.symbols)})

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
            if whole_word_count and count >= whole_word_count and len(word) > 1
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


@dataclass(frozen=True)
class PhoneUnits:
    """Phones of a pronunciation dictionary: the target of an inner CTC, never decoded to words.

    A word's first pronunciation is used; a word without one gives no phones for the whole text.
    """

    symbols: tuple[str, ...]
    pronunciations: Mapping[str, tuple[str, ...]]

    @classmethod
    def from_dictionary(cls, path: Path) -> PhoneUnits:
        """Read a CMU-style dictionary: `WORD  PH PH`, alternatives as `WORD(2)`, `;;;` comments.

        Raises:
            UserError: the file cannot be read or a line holds a word without phones.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"The pronunciation dictionary {path} cannot be read ({error})."
            ) from None
        pronunciations: dict[str, tuple[str, ...]] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.startswith(";;;"):
                continue
            word, *phones = line.split()
            if not phones:
                raise UserError(f"{path}:{number}: the word {word!r} has no phones.")
            if not word.endswith(")"):
                pronunciations.setdefault(english(word), tuple(phones))
        phones_used = sorted({phone for phones in pronunciations.values() for phone in phones})
        return cls((BLANK, *phones_used), pronunciations)

    def encode(self, text: str) -> list[int]:
        """Labels of a text's phones.

        Raises:
            UnknownSymbolError: a word is not in the dictionary.
        """
        indices = {symbol: index for index, symbol in enumerate(self.symbols)}
        labels: list[int] = []
        for word in text.split():
            if word not in self.pronunciations:
                raise UnknownSymbolError(word, text)
            labels.extend(indices[phone] for phone in self.pronunciations[word])
        return labels

    def encode_known(self, text: str) -> list[int]:
        """Labels of a text's phones, or none where a word is not in the dictionary."""
        try:
            return self.encode(text)
        except UnknownSymbolError:
            return []


def units_to_dict(units: CharacterUnits) -> dict[str, Any]:
    """Units as a bundle keeps them."""
    return {"kind": "characters", "symbols": list(units.symbols)}


def units_from_dict(mapping: Mapping[str, Any]) -> CharacterUnits:
    """Units from what a bundle keeps.

    Raises:
        UserError: the kind is not known or the symbols are no units.
    """
    kind, symbols = mapping.get("kind"), mapping.get("symbols")
    if kind != "characters":
        raise UserError(f"Units of kind {kind!r} are not known: this bundle needs a newer asr.")
    if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
        raise UserError("The units' symbols are not a list of strings: the bundle is damaged.")
    try:
        return CharacterUnits(tuple(symbols))
    except ValueError as error:
        raise UserError(f"The units are damaged: {error}.") from None
