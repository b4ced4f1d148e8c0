"""The compiled model on disk: one file that is mapped into memory as it stands.

Magic, lengths, a header in JSON that says where each array is, and the arrays, each on a multiple
of 64 bytes. Numbers are little-endian.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from asr.errors import UserError
from asr.files import explain_write_errors, write_atomically

if TYPE_CHECKING:
    from asr.language.ngram import NgramModel

MAGIC = b"asr-lm\r\n"
SCHEMA = 1
HEADER_BYTES = 1 << 16  # at most
ALIGNMENT = 64
_FRONT = struct.Struct("<8sII")  # magic, schema, length of the header

_DTYPES = {
    "text": "|u1",
    "ends": "<i8",
    "word": "<i4",
    "first_child": "<i4",
    "log_prob": "<f4",
    "backoff": "<f4",
    "suffix": "<i4",
}
_NUMBERS = ("order", "start_id", "end_id", "unknown_id")


def is_compiled(path: str | Path) -> bool:
    """Whether a file begins like a compiled model.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with open(path, "rb") as handle:
            return handle.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise UserError(f"Cannot read the language model {path}: {error.strerror}.") from None


def save_model(model: NgramModel, path: str | Path) -> None:
    """Writes a compiled model; the same model gives the same bytes.

    Raises:
        UserError: it cannot be written.
    """
    arrays = {name: np.ascontiguousarray(getattr(model, name), _DTYPES[name]) for name in _DTYPES}
    places, offset = {}, 0
    for name, array in arrays.items():
        places[name] = {"offset": offset, "length": len(array)}
        offset = _aligned(offset + array.nbytes)
    header = {"kind": model.kind, "arrays": places}
    header |= {name: getattr(model, name) for name in _NUMBERS}
    encoded = json.dumps(header, sort_keys=True).encode()
    encoded += b" " * (_aligned(_FRONT.size + len(encoded)) - _FRONT.size - len(encoded))
    with explain_write_errors(path), write_atomically(path, "wb") as handle:
        handle.write(_FRONT.pack(MAGIC, SCHEMA, len(encoded)) + encoded)
        for array in arrays.values():
            handle.write(array.data)
            handle.write(bytes(_aligned(array.nbytes) - array.nbytes))


def open_model(path: str | Path) -> NgramModel:
    """Maps a compiled model; `NgramModel.open` says what is checked.

    Raises:
        UserError: it is missing, cut off, of another version, or no such file.
    """
    from asr.language.ngram import NgramModel

    header, begin, size = _read_header(path)
    arrays: dict[str, Any]
    numbers: dict[str, Any]
    try:
        arrays = {name: _map(path, header, name, begin, size) for name in _DTYPES}
        numbers = {name: int(header[name]) for name in _NUMBERS}
        kind = header["kind"]
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    nodes, words = len(arrays["word"]), len(arrays["ends"])
    if any(len(arrays[name]) != nodes for name in ("log_prob", "backoff", "suffix")):
        raise _damaged(path, "its arrays do not belong together")
    if len(arrays["first_child"]) != nodes + 1 or not 0 < words < nodes:
        raise _damaged(path, "its arrays do not belong together")
    marks = (numbers["start_id"], numbers["end_id"], numbers["unknown_id"])
    if kind not in ("words", "characters") or not all(0 <= mark < words for mark in marks):
        raise _damaged(path, "its header holds what cannot be")
    return NgramModel(kind=kind, **numbers, **arrays)


def _read_header(path: str | Path) -> tuple[Any, int, int]:
    """The header, where the arrays begin, and the file's size."""
    try:
        with open(path, "rb") as handle:
            front = handle.read(_FRONT.size)
            size = os.fstat(handle.fileno()).st_size
            if len(front) < _FRONT.size or not front.startswith(MAGIC):
                raise UserError(f"{path} is no compiled language model: make one with asr lm.")
            _, schema, length = _FRONT.unpack(front)
            if schema != SCHEMA:
                raise UserError(
                    f"{path} is a compiled language model of version {schema}, this is {SCHEMA}:"
                    " make it again with asr lm."
                )
            encoded = handle.read(min(length, HEADER_BYTES))
    except OSError as error:
        raise UserError(f"Cannot read the language model {path}: {error.strerror}.") from None
    try:
        header = json.loads(encoded)
    except (RecursionError, ValueError):
        raise _damaged(path, "its header cannot be read") from None
    if not isinstance(header, dict):
        raise _damaged(path, "its header cannot be read")
    return header, _FRONT.size + length, size


def _map(path: str | Path, header: Any, name: str, begin: int, size: int) -> NDArray[Any]:
    """One array of the file, if all of it is there."""
    dtype = np.dtype(_DTYPES[name])
    offset = begin + int(header["arrays"][name]["offset"])
    length = int(header["arrays"][name]["length"])
    if offset < begin or length < 1 or offset % ALIGNMENT:
        raise ValueError(f"its array {name!r} has no place")
    if offset + length * dtype.itemsize > size:
        raise ValueError(f"it is cut off in its array {name!r}")
    # Plain arrays: compiled functions know them better than np.memmap, which they are views of. And
    # such as could be written, in memory alone: those that cannot are another type to Numba.
    return np.asarray(np.memmap(path, dtype, "c", offset, (length,)))


def _damaged(path: str | Path, fault: str) -> UserError:
    return UserError(f"The language model {path} is damaged: {fault}. Make it again with asr lm.")


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
