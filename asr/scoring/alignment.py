"""Which word was heard as which: the alignment of a reference and a hypothesis, and its picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import jiwer
from rich.cells import cell_len
from rich.text import Text

ABSENT = "***"  # stands where one side has no word, as in NIST's sclite


class Op(Enum):
    """What happened to a word; the value is the letter under it in the picture."""

    CORRECT = " "
    SUBSTITUTION = "S"
    DELETION = "D"
    INSERTION = "I"


STYLES = {
    Op.CORRECT: "",
    Op.SUBSTITUTION: "magenta",
    Op.DELETION: "red",
    Op.INSERTION: "blue",
}


@dataclass(frozen=True)
class Pair:
    """One column of an alignment: a word of the reference, of the hypothesis, or of both."""

    op: Op
    reference: str | None
    hypothesis: str | None


def align(reference: str, hypothesis: str) -> tuple[Pair, ...]:
    """The words of two texts in pairs, with as few errors as can be (Levenshtein; jiwer's).

    Words are what whitespace separates. Of several alignments with equally few errors it is
    jiwer's choice; NIST's sclite weighs a substitution 4 and the others 3 and may choose another.
    """
    spoken, heard = reference.split(), hypothesis.split()
    chunks = jiwer.process_words(" ".join(spoken), " ".join(heard)).alignments[0]
    pairs: list[Pair] = []
    for chunk in chunks:
        left = spoken[chunk.ref_start_idx : chunk.ref_end_idx]
        right = heard[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "equal":
            pairs += [Pair(Op.CORRECT, word, word) for word in left]
        elif chunk.type == "substitute":
            pairs += [Pair(Op.SUBSTITUTION, *both) for both in zip(left, right, strict=True)]
        elif chunk.type == "delete":
            pairs += [Pair(Op.DELETION, word, None) for word in left]
        else:
            pairs += [Pair(Op.INSERTION, None, word) for word in right]
    return tuple(pairs)


def draw(pairs: tuple[Pair, ...], width: int, nouns: str = "words") -> Text:
    """Reference over hypothesis over S, D, I, word under word, in at most `width` cells.

    A longer alignment goes on in a further block of three lines; of blocks without an error only
    the number of words is told, which are called `nouns`. A word wider than the screen is not cut.
    """
    parts: list[Text] = []
    correct = 0
    for block in _blocks(pairs, width - len("REF: ")):
        if all(pair.op is Op.CORRECT for pair in block):
            correct += len(block)
            continue
        if correct:
            parts.append(Text(f"... {correct} {nouns} correct", style="dim"))
            correct = 0
        parts.append(_draw_block(block))
    if correct or not parts:
        parts.append(Text(f"... {correct} {nouns} correct", style="dim"))
    return Text("\n\n", no_wrap=True).join(parts)


def _draw_block(block: list[Pair]) -> Text:
    rows = [Text("REF: "), Text("HYP: "), Text("     ")]
    for pair in block:
        cells = (pair.reference or ABSENT, pair.hypothesis or ABSENT, pair.op.value)
        for row, cell in zip(rows, cells, strict=True):
            row.append(cell, STYLES[pair.op])
            row.append(" " * (_width(pair) - cell_len(cell) + 1))
    for row in rows:
        row.rstrip()
    return Text("\n").join(rows)


def _width(pair: Pair) -> int:
    return max(cell_len(pair.reference or ABSENT), cell_len(pair.hypothesis or ABSENT))


def _blocks(pairs: tuple[Pair, ...], width: int) -> Iterator[list[Pair]]:
    block: list[Pair] = []
    taken = 0
    for pair in pairs:
        if block and taken + _width(pair) > width:
            yield block
            block, taken = [], 0
        block.append(pair)
        taken += _width(pair) + 1
    yield block
