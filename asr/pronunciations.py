"""Pronunciation dictionaries and lists of words: the lines of a file, whoever reads it."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asr.errors import UserError
from asr.files import open_unzipped

COMMENTS = (";;;", "#")

_ALTERNATIVE = re.compile(r"\(\d+\)$")  # the second pronunciation of A is A(2)
_SYMBOL = re.compile("<.*>")  # <s>, </s>, <sil>, <unk>: no words that anybody says


@dataclass(frozen=True)
class Line:
    """A word as the file writes it, its phones where there are some, and the line's number.

    `alternative` where it is marked as another pronunciation, as `A(2)`; the mark is no part of
    the word.
    """

    number: int
    word: str
    phones: tuple[str, ...]
    alternative: bool


def read(path: str | Path, what: str) -> Iterator[Line]:
    """The lines of a list of words, or of a CMU-style dictionary, plain or gzipped.

    A line holds a word, then its phones. Lines that begin with `;;;` or `#` are comments; symbols
    such as `<sil>` are left out.

    Args:
        path: of the file, in UTF-8.
        what: it is called in messages.

    Raises:
        UserError: the file cannot be read; names it, and the line that is no UTF-8.
    """
    try:
        with open_unzipped(path) as handle:
            for number, line in enumerate(handle, start=1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                written, *phones = text.split() or [""]
                if text.startswith(COMMENTS) or not written or _SYMBOL.fullmatch(written):
                    continue
                word = _ALTERNATIVE.sub("", written) or written
                yield Line(number, word, tuple(phones), word != written)
    except UnicodeDecodeError:
        raise UserError(f"The {what} {path} cannot be read: line {number} is not UTF-8.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"The {what} {path} cannot be unpacked: {error}.") from None
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"The {what} {path} cannot be read: {reason}.") from None
