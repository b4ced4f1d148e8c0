"""The kinds of units: made for a corpus, and as a bundle keeps them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from asr.errors import UserError, nearest
from asr.files import digest_bytes
from asr.units.characters import CharacterUnits
from asr.units.phones import LEXICON, PhoneUnits
from asr.units.pieces import MODEL, SentencePieceUnits
from asr.units.symbols import Units
from asr.units.words import WordUnits

# Those that bundle.yaml lists, and those that a file beside it holds.
LISTED: dict[str, type[CharacterUnits | WordUnits]] = {
    units.kind: units for units in (CharacterUnits, WordUnits)
}
FILED: dict[str, tuple[str, type[PhoneUnits | SentencePieceUnits]]] = {
    PhoneUnits.kind: (LEXICON, PhoneUnits),
    SentencePieceUnits.kind: (MODEL, SentencePieceUnits),
}


def units_from(
    kind: str,
    texts: Sequence[str],
    *,
    whole_word_count: int,
    size: int,
    lexicon: Path | None,
    normaliser: str,
) -> Units:
    """Units of that kind for a corpus's normalised training texts.

    `whole_word_count` is for characters, `size` for SentencePiece, `lexicon` for phones.

    Raises:
        UserError: the kind is not known, the texts have not so many pieces, or the corpus has no
            lexicon or a damaged one.
    """
    if kind == CharacterUnits.kind:
        return CharacterUnits.from_texts(texts, whole_word_count)
    if kind == SentencePieceUnits.kind:
        return SentencePieceUnits.from_texts(texts, size)
    if kind == WordUnits.kind:
        return WordUnits.from_texts(texts)
    if kind == PhoneUnits.kind:
        if lexicon is None:
            raise UserError("units.kind=phones: the corpus has no lexicon. Choose other units.")
        return PhoneUnits.from_dictionary(lexicon, normaliser)
    raise UserError(f"No units are called {kind!r}.{nearest(kind, {**LISTED, **FILED})}")


def units_to_dict(units: Units) -> dict[str, Any]:
    """Units as bundle.yaml keeps them: their symbols, or the digest of the file that says them."""
    if units.kind in LISTED:
        return {"kind": units.kind, "symbols": list(units.symbols)}
    files = {name: digest_bytes(content) for name, content in units.files().items()}
    return {"kind": units.kind, "files": files}


def units_from_dict(mapping: Mapping[str, Any], read: Callable[[str, str], bytes]) -> Units:
    """Units from what bundle.yaml keeps; `read` gives a file of the bundle by name and digest.

    Raises:
        UserError: the kind is not known, or what is kept are no units.
    """
    kind = str(mapping.get("kind"))
    try:
        if kind in LISTED:
            return LISTED[kind](_symbols(mapping.get("symbols")))
        if kind in FILED:
            name, units = FILED[kind]
            return units.from_file(read(name, _digest(mapping.get("files"), name)))
    except ValueError as error:
        raise UserError(f"The units are damaged: {error}.") from None
    raise UserError(f"Units of kind {kind!r} are not known: this bundle needs a newer asr.")


def _symbols(listed: Any) -> tuple[str, ...]:
    if not isinstance(listed, list) or not all(isinstance(symbol, str) for symbol in listed):
        raise UserError("The units' symbols are not a list of strings: the bundle is damaged.")
    return tuple(listed)


def _digest(files: Any, name: str) -> str:
    if not isinstance(files, dict) or not isinstance(files.get(name), str):
        raise UserError(f"The units' files have no digest of {name}: the bundle is damaged.")
    return str(files[name])
