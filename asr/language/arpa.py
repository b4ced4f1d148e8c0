r"""ARPA files: anyone's are read, and ours are written so that anyone reads them.

What stands before `\data\` is no part of the model; fields are parted by tabs or spaces. Its
logarithms are those to base 10.
"""

from __future__ import annotations

import gzip
import itertools
import math
import re
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from asr.errors import UserError
from asr.files import explain_write_errors, open_unzipped, write_atomically
from asr.language.ngram import END, SPACE, START, UNKNOWN, Kind, NgramModel
from asr.language.trie import Entries, Float32, Int32, RepeatedEntryError, build

BLOCK = 1 << 16  # lines that are read or written at a time
LN_10 = math.log(10.0)
NEVER = -99.0  # how a probability of 0 is written
MISSING_UNKNOWN = -100.0  # of unknown words where the file has none, as KenLM has it

Block = tuple[Int32, NDArray[np.float64], NDArray[np.float64]]

_COUNT = re.compile(rb"ngram\s+(\d+)\s*=\s*(\d+)\s*")
_BLANK = np.zeros(256, bool)
_BLANK[list(b" \t\n\r\v\f")] = True  # what bytes.split() parts at


def read_arpa(path: str | Path) -> NgramModel:
    r"""The model of an ARPA file, which may be gzipped.

    `-inf` is read as -99, a missing backoff as 0. Characters are what it is over where `|` is one
    of its words and all others are single characters. A file without an unknown word gets one.

    Raises:
        UserError: it cannot be read, is cut short or is no ARPA file; names file and line.
    """
    try:
        with open_unzipped(path) as handle:
            return _Reader(path, handle).read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"The language model {path} cannot be unpacked: {error}.") from None
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"Cannot read the language model {path}: {reason}.") from None


class _Reader:
    """Reads one file; `_line` is the number of the line that was read last."""

    def __init__(self, path: str | Path, handle: IO[bytes]) -> None:
        self._path = path
        self._handle = handle
        self._line = 0
        self._ids: dict[bytes, int] = {}

    def read(self) -> NgramModel:
        counts = self._read_counts()
        orders: list[Entries] = []
        first_lines: list[int] = []
        for order, count in enumerate(counts, start=1):
            if order > 1:
                self._expect(rb"\%d-grams:" % order, f"more {order - 1}-grams than \\data\\ counts")
            first_lines.append(self._line + 1)
            orders.append(self._read_section(order, count, order == len(counts)))
        self._expect(b"\\end\\", f"more {len(counts)}-grams than \\data\\ counts")
        words, unigrams = self._complete(orders[0])
        try:
            trie = build(len(words), [unigrams, *orders[1:]])
        except RepeatedEntryError as error:
            self._line = first_lines[error.order - 1] + error.row
            raise self._fault(f"this {error.order}-gram stands twice") from None
        except OverflowError as error:
            raise UserError(f"The language model {self._path} is too large: {error}.") from None
        return NgramModel.from_trie(words, trie, _kind(words))

    def _fault(self, what: str) -> UserError:
        return UserError(f"{self._path}:{self._line}: {what}. Is this a whole ARPA file?")

    def _next(self) -> bytes:
        """The next line with something on it, without the blanks around."""
        for line in self._handle:
            self._line += 1
            if line.strip():
                return line.strip()
        raise self._fault("the file is cut short here: it has no \\end\\")

    def _expect(self, mark: bytes, otherwise: str) -> None:
        line = self._next()
        if line == mark:
            return
        if line.startswith(b"\\"):
            found, wanted = line.decode(errors="replace"), mark.decode()
            raise self._fault(f"{wanted} should stand here, not {found}")
        raise self._fault(f"here are {otherwise}, or {mark.decode()} is missing")

    def _read_counts(self) -> list[int]:
        """How many n-grams of each order the file says it has."""
        for line in self._handle:
            self._line += 1
            if line.strip() == b"\\data\\":
                break
        else:
            raise self._fault("no line before this one is \\data\\")
        counts: list[int] = []
        while (line := self._next()) != b"\\1-grams:":
            match = _COUNT.fullmatch(line)
            if not match or int(match[1]) != len(counts) + 1:
                raise self._fault(f"`ngram {len(counts) + 1}=COUNT` or \\1-grams: is missing here")
            counts.append(int(match[2]))
        if not counts:
            raise self._fault("`ngram 1=COUNT` is missing before this line")
        return counts

    def _read_section(self, order: int, count: int, last: bool) -> Entries:
        """The n-grams of one order, as many as were promised."""
        words: list[NDArray[np.int32]] = [np.zeros((0, order), np.int32)]
        log_probs, backoffs = [np.zeros(0)], [np.zeros(0)]
        while count:
            lines = list(itertools.islice(self._handle, min(count, BLOCK)))
            if not lines:
                raise self._fault("the file is cut short here: it has no \\end\\")
            try:
                block = self._read_block(order, lines, last)
            except (TypeError, ValueError, UnicodeDecodeError):
                raise self._first_fault(order, lines, last) from None
            words.append(block[0])
            log_probs.append(block[1])
            backoffs.append(block[2])
            self._line += len(lines)
            count -= len(lines)
        log_prob = np.concatenate(log_probs)
        log_prob[np.isneginf(log_prob)] = NEVER  # so that every sum stays a number
        backoff = np.concatenate(backoffs)
        backoff[np.isneginf(backoff)] = NEVER
        return Entries(
            np.concatenate(words),  # [E, order]
            (log_prob * LN_10).astype(np.float32),
            (backoff * LN_10).astype(np.float32),
        )

    def _read_block(self, order: int, lines: list[bytes], last: bool) -> Block:
        """The n-grams of some lines.

        Raises:
            TypeError, ValueError, UnicodeDecodeError: one of them is at fault.
        """
        data = b"".join(lines)
        first, fields = _fields(data, len(lines))
        has_backoff = fields == order + 2
        if not (has_backoff | (fields == order + 1)).all():
            raise ValueError
        found = np.array(data.split(), dtype=object)
        log_prob = _numbers(found[first])
        backoff = np.zeros(len(lines))
        backoff[has_backoff] = _numbers(found[first[has_backoff] + order + 1])
        if (log_prob > 0).any() or (last and backoff.any()):
            raise ValueError
        if order == 1:
            words = found[first + 1].tolist()
            begin = len(self._ids)
            ids = dict(zip(words, range(begin, begin + len(words)), strict=True))
            if len(ids) < len(words) or not ids.keys().isdisjoint(self._ids):
                raise ValueError
            b" ".join(words).decode()
            self._ids.update(ids)
        columns = [
            np.fromiter(map(self._ids.get, found[first + 1 + place].tolist()), np.int32)
            for place in range(order)
        ]
        return np.stack(columns, axis=1), log_prob, backoff  # [E, order], [E], [E]

    def _first_fault(self, order: int, lines: list[bytes], last: bool) -> UserError:
        """What is wrong with the first line that is not as it should be."""
        for line in lines:
            self._line += 1
            text = line.strip().decode(errors="replace")
            if not text or text.startswith("\\"):
                return self._fault(f"here are fewer {order}-grams than \\data\\ counts")
            if not line.endswith(b"\n"):
                return self._fault("the file is cut short here: it has no \\end\\")
            try:
                self._read_block(order, [line], last)
            except (TypeError, ValueError, UnicodeDecodeError):
                return self._fault(self._what_is_wrong(order, line.split(), last))
        raise AssertionError("lines that were refused together were each accepted")

    def _what_is_wrong(self, order: int, fields: list[bytes], last: bool) -> str:
        """Of a line: too few or many fields, no number, or a word that is not known."""
        wanted = (
            f"a number, {order} words and perhaps a backoff"
            if order > 1
            else ("a number, a word and perhaps a backoff")
        )
        if len(fields) not in (order + 1, order + 2):
            return f"{len(fields)} fields are here, where {wanted} belong"
        for field in (fields[0], *fields[order + 1 :]):
            try:
                _numbers(np.array([field], dtype=object))
            except ValueError:
                return f"{field.decode(errors='replace')!r} is no logarithm"
        if float(fields[0]) > 0:
            return f"the probability 10^{fields[0].decode()} is above 1"
        if last and len(fields) == order + 2 and float(fields[-1]):
            return f"a backoff belongs to no {order}-gram: they are the longest"
        for field in fields[1 : order + 1]:
            try:
                word = field.decode()
            except UnicodeDecodeError:
                return "a word is not UTF-8"
            if order > 1 and field not in self._ids:
                return f"the word {word!r} is none of the 1-grams"
        return f"the word {word!r} stands twice among the 1-grams"

    def _complete(self, unigrams: Entries) -> tuple[list[str], Entries]:
        """The words, with an unknown one where the file has none.

        Raises:
            UserError: a mark of the sentence is missing.
        """
        words = [word.decode() for word in self._ids]
        for mark in (START, END):
            if mark not in words:
                raise UserError(f"The language model {self._path} has no {mark} among its 1-grams.")
        if UNKNOWN in words or UNKNOWN.upper() in words:
            return words, unigrams
        added = np.array([len(words)], np.int32)
        return [*words, UNKNOWN], Entries(
            np.append(unigrams.words, added[:, None], axis=0),  # [W, 1]
            np.append(unigrams.log_prob, np.float32(MISSING_UNKNOWN * LN_10)),
            np.append(unigrams.backoff, np.float32(0)),
        )


def _fields(data: bytes, lines: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which field of all is the first of each line, and how many fields each line has."""
    characters = np.frombuffer(data, np.uint8)
    blank = _BLANK[characters]
    begins = ~blank
    begins[1:] &= blank[:-1]
    ends = np.flatnonzero(characters == ord("\n"))
    if len(ends) < lines:  # the file's last line may end without
        ends = np.append(ends, len(data))
    before = np.searchsorted(np.flatnonzero(begins), ends)
    fields = np.diff(before, prepend=0)
    return before - fields, fields


def _numbers(fields: NDArray[np.object_]) -> NDArray[np.float64]:
    """Finite numbers, or minus infinity.

    Raises:
        ValueError: one of them is neither.
    """
    numbers = np.fromiter(map(float, fields.tolist()), np.float64)
    if not (numbers < np.inf).all():
        raise ValueError("no number")
    return numbers


def _kind(words: list[str]) -> Kind:
    """What the words of a file are."""
    marks = (START, END, UNKNOWN, UNKNOWN.upper())
    if SPACE in words and all(len(word) == 1 or word in marks for word in words):
        return "characters"
    return "words"


def write_arpa(model: NgramModel, path: str | Path) -> None:
    """Writes an ARPA file, gzipped where its name ends in `.gz`; the same model, the same bytes.

    Numbers have nine digits, so that reading gives the very model back.

    Raises:
        UserError: it cannot be written.
    """
    with explain_write_errors(path), write_atomically(path, "wb") as handle:
        if not str(path).endswith(".gz"):
            _write(model, handle)
            return
        with gzip.GzipFile(filename="", mode="wb", fileobj=handle, mtime=0) as zipped:
            _write(model, cast(IO[bytes], zipped))


def _write(model: NgramModel, handle: IO[bytes]) -> None:
    counts = model.counts
    lines = [f"ngram {order}={count}\n" for order, count in enumerate(counts, start=1)]
    handle.write("".join(["\\data\\\n", *lines]).encode())
    words = np.array(model.words, dtype=object)
    node = 1
    for order, count in enumerate(counts, start=1):
        handle.write(f"\n\\{order}-grams:\n".encode())
        longest = order == len(counts)
        line = "%.9g\t" + " ".join(["%s"] * order) + ("\n" if longest else "\t%.9g\n")
        for begin in range(node, node + count, BLOCK):
            nodes = np.arange(begin, min(begin + BLOCK, node + count))
            columns = [_shown(model.log_prob[nodes])]
            if not longest:
                columns.append(_shown(model.backoff[nodes]))
            for _ in range(order):  # from the last word to the first
                columns.insert(1, words[model.word[nodes]].tolist())
                nodes = np.searchsorted(model.first_child, nodes, side="right") - 1  # parents
            text = "".join([line % row for row in zip(*columns, strict=True)])
            handle.write(text.encode())
        node += count
    handle.write(b"\n\\end\\\n")


def _shown(natural: Float32) -> list[float]:
    """Logarithms to base 10, with four or six decimals where these say it exactly."""
    shown = natural.astype(np.float64) / LN_10
    for decimals in (6, 4):
        rounded = np.round(shown, decimals) + 0.0  # no -0
        same = (rounded * LN_10).astype(np.float32) == natural
        shown = np.where(same, rounded, shown)
    return shown.tolist()
