"""What all units have in common: symbols, the first of them the blank, that spell texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Protocol

BLANK = "<blank>"


class UnknownSymbolError(ValueError):
    """A text holds what the units cannot spell: `symbol`, a character or a word."""

    def __init__(self, symbol: str, text: str, why: str = "is none of the units") -> None:
        super().__init__(f"{symbol!r} in {text!r} {why}")
        self.symbol = symbol


class Units(Protocol):
    """What a network emits: `symbols[0]` is the blank, a text is a sequence of the others.

    `kind` is what the setting `units.kind` calls them. `rate_name` is the error rate that is
    reported and that chooses the best epoch: "wer", of words, or "per", of phones, where it is
    phones that are decoded.
    """

    kind: ClassVar[str]
    rate_name: ClassVar[str] = "wer"
    symbols: tuple[str, ...]

    def encode(self, text: str) -> list[int]:
        """Labels of a normalised text.

        Raises:
            UnknownSymbolError: the units cannot spell it.
        """
        ...

    def spell(self, symbols: Sequence[str]) -> Iterator[tuple[str, range]]:
        """The words that emitted symbols spell, each with the positions of its symbols."""
        ...

    def decode(self, labels: Sequence[int]) -> str:
        """The text of labels, without blanks."""
        return " ".join(word for word, _ in self.spell([self.symbols[label] for label in labels]))

    def sounds(self, symbol: str) -> int:
        """How many letters, or phones, a symbol stands for: how long its sound is, roughly."""
        return len(symbol)

    def reference(self, text: str) -> str | None:
        """What is decoded where a normalised text is heard rightly; None where nobody can say.

        The text itself, or its phones where a lexicon has all its words.
        """
        return text

    def files(self) -> dict[str, bytes]:
        """What a bundle keeps of them in files of their own, by their names."""
        return {}


def indices_of(symbols: Sequence[str]) -> dict[str, int]:
    """The label of each symbol.

    Raises:
        ValueError: the first is not the blank, or a symbol stands twice.
    """
    if not symbols or symbols[0] != BLANK:
        raise ValueError(f"the first symbol is {BLANK}")
    if len(set(symbols)) != len(symbols):
        raise ValueError("a symbol stands twice among the units")
    return {symbol: index for index, symbol in enumerate(symbols)}
