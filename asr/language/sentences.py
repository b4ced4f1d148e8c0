"""Where the sentences and words of a language model come from: texts, manifests, word lists."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from asr import pronunciations
from asr.errors import UserError
from asr.files import open_unzipped
from asr.language.ngram import END, START
from asr.text import NORMALISERS, normalise

MANIFESTS = (".jsonl", ".jsonl.gz")


def read_sentences(path: str | Path, normaliser: str) -> Iterator[str]:
    """The normalised sentences of a text, one a line, or of a manifest; either may be gzipped.

    A file whose name ends in `.jsonl` (and perhaps `.gz`) is a manifest: JSON objects that have a
    `text`. Lines of which normalisation leaves nothing are no sentences.

    Raises:
        UserError: the file cannot be read, a line is no UTF-8, no line of a manifest, or has a mark
            of a sentence's beginning or end among its words; names file and line.
    """
    manifest = str(path).endswith(MANIFESTS)
    texts = ((where, _text(where, line) if manifest else line) for where, line in _lines(path))
    return normalised(texts, normaliser)


def normalised(texts: Iterable[tuple[str, str]], normaliser: str) -> Iterator[str]:
    """Texts as they are counted, given with where each stands; empty ones are left out.

    Raises:
        UserError: no normaliser has that name, or a text has a mark of a sentence's beginning or
            end among its words.
    """
    normalise(normaliser, "")  # is there one?
    written = NORMALISERS[normaliser]
    for where, text in texts:
        sentence = written(text)
        if "<" in sentence and not {START, END}.isdisjoint(sentence.split()):
            raise UserError(
                f"{where}: {START} and {END} mark where a sentence begins and ends, and are added:"
                " take them out, or leave --normaliser english."
            )
        if sentence:
            yield sentence


def read_vocabulary(path: str | Path, normaliser: str) -> list[str]:
    """The words of a list or a pronunciation dictionary, normalised, in its order, each once.

    A word is what a line begins with. Alternatives `A(2)`, comments (`;;;`, `#`) and symbols
    such as `<sil>` are left out; what normalisation makes two words of is two words.

    Raises:
        UserError: it cannot be read or has no word.
    """
    normalise(normaliser, "")
    words: dict[str, None] = {}
    for line in pronunciations.read(path, "vocabulary"):
        words.update(dict.fromkeys(NORMALISERS[normaliser](line.word).split()))
    if not words:
        raise UserError(f"The vocabulary {path} has no word: give a list of words, one a line.")
    return list(words)


def _text(where: str, line: str) -> str:
    """The text of a manifest's line."""
    if not line.strip():
        return ""
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: this is no line of a manifest: not JSON ({error}).") from None
    text = entry.get("text") if isinstance(entry, dict) else None
    if not isinstance(text, str):
        raise UserError(f"{where}: this is no line of a manifest: it has no `text`.")
    return text


def _lines(path: str | Path) -> Iterator[tuple[str, str]]:
    """The lines of a file, and where each stands."""
    try:
        with open_unzipped(path) as handle:
            for number, line in enumerate(handle, start=1):
                where = f"{path}:{number}"
                try:
                    yield where, line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise UserError(f"{where}: this line is not UTF-8.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"The file {path} cannot be unpacked: {error}.") from None
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None
