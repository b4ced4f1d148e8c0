"""Pieces of words that SentencePiece learns from the training texts."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from asr.errors import UserError
from asr.units.symbols import BLANK, Units, UnknownSymbolError, indices_of

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

MODEL = "sentencepiece.model"
MARK = "▁"  # begins a word; alone it is the space before one that has no piece of its own
# What SentencePiece keeps for itself: it learns nothing from texts that hold one of them.
_RESERVED = frozenset({MARK, "▅", "\0"})
_NO_LIMIT = 2**30  # bytes of a text; SentencePiece passes over longer ones in silence


@dataclass(frozen=True)
class SentencePieceUnits(Units):
    """Pieces of a unigram language model (Kudo 2018), as SentencePiece cuts words.

    A label is SentencePiece's own number of the piece. Its number 0, for what it does not know,
    is the blank's: no text has it.
    """

    kind = "sentencepiece"
    model: bytes = field(repr=False)
    symbols: tuple[str, ...] = field(init=False)
    _processor: SentencePieceProcessor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        from sentencepiece import SentencePieceProcessor  # only who has such units waits for it

        processor = SentencePieceProcessor()
        try:
            processor.load_from_serialized_proto(self.model)
        except RuntimeError as error:
            raise ValueError(f"SentencePiece cannot read its model ({error})") from None
        symbols = tuple(processor.id_to_piece(id) for id in range(processor.get_piece_size()))
        indices_of(symbols)
        others = range(1, len(symbols))
        if processor.unk_id() != 0 or any(
            processor.is_control(id) or processor.is_unused(id) or processor.is_byte(id)
            for id in others
        ):
            raise ValueError("a piece other than the first spells nothing")
        if any(MARK in symbol[1:] for symbol in symbols):
            raise ValueError("a piece goes beyond a word")
        object.__setattr__(self, "symbols", symbols)
        object.__setattr__(self, "_processor", processor)

    @classmethod
    def from_texts(cls, texts: Iterable[str], size: int) -> SentencePieceUnits:
        """As many units as `size`, the blank included; the order of the texts is of no account.

        Raises:
            UserError: the texts have more characters, or fewer pieces; says what is possible.
        """
        learnt = sorted(" ".join(text.split()) for text in texts if _RESERVED.isdisjoint(text))
        characters = sorted(set[str]().union(*learnt) - {" "})
        if not characters:
            raise UserError("units.kind=sentencepiece: no training text has a word to learn from.")
        least = 2 + len(characters)  # with the blank and the mark
        if size < least:
            raise UserError(
                f"units.size={size} is too small: the training texts have {len(characters)} "
                f"characters, which takes at least {least} units."
            )
        units = cls(_train([text for text in learnt if text], characters, size))
        if len(units.symbols) < size:
            raise UserError(
                f"units.size={size} is too large: the training texts have pieces for at most "
                f"{len(units.symbols)} units."
            )
        return units

    @classmethod
    def from_file(cls, content: bytes) -> SentencePieceUnits:
        """From what `files` gave.

        Raises:
            ValueError: it is no model of SentencePiece, or none that was learnt here.
        """
        return cls(content)

    def files(self) -> dict[str, bytes]:
        """SentencePiece's model."""
        return {MODEL: self.model}

    def encode(self, text: str) -> list[int]:
        """Labels of the likeliest pieces of a normalised text.

        Raises:
            UnknownSymbolError: a character is in none of the training texts.
        """
        text = " ".join(text.split())
        if MARK in text:
            raise UnknownSymbolError(MARK, text)
        labels: list[int] = self._processor.encode(text)
        if 0 in labels:
            pieces = self._processor.encode(text, out_type=str)
            raise UnknownSymbolError(pieces[labels.index(0)][0], text)
        return labels

    def sounds(self, symbol: str) -> int:
        """The letters without the mark."""
        return len(symbol.removeprefix(MARK))

    def spell(self, symbols: Sequence[str]) -> Iterator[tuple[str, range]]:
        """A word begins at each piece with the mark; a mark alone is no part of the word."""
        start = 0
        for position, symbol in enumerate([*symbols, MARK]):
            if not symbol.startswith(MARK):
                continue
            if start < position:
                yield "".join(symbols[start:position]).removeprefix(MARK), range(start, position)
            start = position + 1 if symbol == MARK else position


def _train(texts: Sequence[str], characters: Sequence[str], size: int) -> bytes:
    """The model of as many pieces, or of fewer where the texts have no more."""
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="unigram",
        vocab_size=size,
        hard_vocab_limit=False,
        # By name: even `character_coverage=1.0`, a float, loses the rarest of 30 million and more.
        required_chars="".join(characters),
        normalization_rule_name="identity",
        max_sentence_length=_NO_LIMIT,
        # The same texts, the same pieces: all of the texts, in their order, in one thread.
        input_sentence_size=0,
        shuffle_input_sentence=False,
        num_threads=1,
        # The blank in the place of what is not known; no marks of beginning, end or padding.
        unk_id=0,
        unk_piece=BLANK,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        minloglevel=2,
    )
    return model.getvalue()
