"""What a corpus is made from, and whether that changed since it was made."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import pyarrow as pa

from asr import __version__
from asr.cluster.filters import NO_FILTERS, Filters
from asr.cluster.unfinished import KEY_DIGITS
from asr.corpus import INDEX_NAME, SCHEMA, SHARD_BYTES, read_index
from asr.errors import UserError
from asr.files import DIGEST_BYTES, digest_bytes, digest_file, write_atomically
from asr.text import normalise
from asr.utterance import Listing, Rejection, Utterance

INPUTS_NAME = "inputs.arrow"

# In training and validation an empty text teaches nothing; in the test it counts insertions.
SPLIT_WITH_EMPTY_TEXTS = "test"

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("entry", pa.binary(DIGEST_BYTES)),  # digest of all the recipe says about it
        ("audio", pa.string()),
        ("bytes", pa.int64()),  # -1: not there
        ("changed_ns", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Inputs:
    """What goes into a corpus: utterances with normalised texts, what is left out, settings.

    `stamp` has a row for each of them, with size and time of its file; `lexicon` is the path of a
    pronunciation dictionary, where the recipe found one.
    """

    recipe: str
    normaliser: str
    utterances: list[Utterance]
    rejected: list[Rejection]
    stamp: pa.Table
    lexicon: str | None = None
    filters: Filters = NO_FILTERS

    @property
    def lexicon_digest(self) -> str:
        """Of the dictionary's content; '' where there is none."""
        return digest_file(self.lexicon) if self.lexicon else ""

    @property
    def key(self) -> str:
        """Of all that the parts of the corpus depend on, the version of this program included."""
        stream = pa.BufferOutputStream()
        with pa.ipc.new_stream(stream, _SCHEMA) as writer:
            writer.write_table(self.stamp)
        settings = [__version__, SCHEMA, SHARD_BYTES, self.normaliser, self.filters.settings]
        content = json.dumps(settings).encode() + stream.getvalue().to_pybytes()
        return digest_bytes(content)[:KEY_DIGITS]


def gather_inputs(
    recipe: str, listing: Listing, normaliser: str, filters: Filters = NO_FILTERS
) -> Inputs:
    """Normalises the texts, leaves out what has no use, and takes each file's size and time.

    An id that was there before is left out (`duplicate-id`), and so is an empty text, except for
    the test (`empty-text`).

    Raises:
        UserError: no normaliser has that name, or the recipe gives a split a name that is none.
    """
    utterances: list[Utterance] = []
    rejected = [replace(r, text=normalise(normaliser, r.text)) for r in listing.rejected]
    seen: set[str] = set()
    for raw in listing.utterances:
        if not raw.split.isidentifier() or not raw.split.islower():
            raise UserError(
                f"The recipe {recipe} puts {raw.id} into the split {raw.split!r}; "
                "splits are called like train, validation, test."
            )
        utterance = replace(raw, text=normalise(normaliser, raw.text))
        if utterance.id in seen:
            rejected.append(
                utterance.rejected("duplicate-id", "an utterance before it has the same id")
            )
        elif not utterance.text and utterance.split != SPLIT_WITH_EMPTY_TEXTS:
            rejected.append(
                utterance.rejected("empty-text", f"nothing is left of {raw.text!r} to say")
            )
        else:
            utterances.append(utterance)
        seen.add(utterance.id)
    stamp = _stamp([*utterances, *rejected])
    return Inputs(recipe, normaliser, utterances, rejected, stamp, listing.lexicon, filters)


def write_stamp(folder: Path, inputs: Inputs) -> None:
    """Keeps the stamp beside the corpus that was made from it."""
    with (
        write_atomically(folder / INPUTS_NAME, "wb") as file,
        pa.ipc.new_file(pa.PythonFile(file, mode="w"), _SCHEMA) as writer,
    ):
        writer.write_table(inputs.stamp)


def what_changed(folder: Path, inputs: Inputs) -> str | None:
    """Why `folder` does not hold what `inputs` would give.

    None where it does, '' where no corpus is there.
    """
    if not (folder / INDEX_NAME).exists():
        return ""
    try:
        index = read_index(folder)
        with pa.memory_map(str(folder / INPUTS_NAME)) as source, pa.ipc.open_file(source) as reader:
            stamp = reader.read_all()
    except UserError:
        return "it is of another version or damaged"
    except (OSError, pa.ArrowInvalid):
        return f"its {INPUTS_NAME} is missing or damaged"
    for split in index["splits"].values():
        for shard in split["shards"]:
            path = folder / shard["file"]
            if not path.is_file() or path.stat().st_size != shard["bytes"]:
                return f"{shard['file']} is missing or damaged"
    for name in ("recipe", "normaliser"):
        if index[name] != getattr(inputs, name):
            return f"the {name} changed from {index[name]} to {getattr(inputs, name)}"
    if index.get("lexicon", "") != inputs.lexicon_digest:
        return "the pronunciation dictionary changed"
    if (filters := index.get("filters", {})) != inputs.filters.settings:
        return f"filters changed from {_told(filters)} to {_told(inputs.filters.settings)}"
    return None if stamp.equals(inputs.stamp) else _difference(stamp, inputs.stamp)


def _told(filters: dict[str, float]) -> str:
    """Filters as they are set."""
    return " ".join(f"prepare.{name}={value:g}" for name, value in filters.items()) or "none"


def _stamp(entries: list[Utterance | Rejection]) -> pa.Table:
    states: dict[str, tuple[int, int]] = {}
    for entry in entries:
        if entry.audio not in states:
            states[entry.audio] = _state(entry.audio)
    columns = [
        [entry.id for entry in entries],
        [_digest(entry) for entry in entries],
        [entry.audio for entry in entries],
        [states[entry.audio][0] for entry in entries],
        [states[entry.audio][1] for entry in entries],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=_SCHEMA)


def _state(path: str) -> tuple[int, int]:
    """Size in bytes and time of the last change."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return -1, 0
    return status.st_size, status.st_mtime_ns


def _digest(entry: Utterance | Rejection) -> bytes:
    data = json.dumps([type(entry).__name__, *astuple(entry)]).encode()
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def _difference(old: pa.Table, new: pa.Table) -> str:
    """What a person wants to know of how two stamps differ."""
    before = {row["id"]: row for row in old.to_pylist()}
    after = {row["id"]: row for row in new.to_pylist()}
    added = [id for id in after if id not in before]
    removed = [id for id in before if id not in after]
    kept = [(before[id], row) for id, row in after.items() if id in before]
    edited = [row["id"] for was, row in kept if was["entry"] != row["entry"]]
    files = [row["audio"] for was, row in kept if was != row and was["entry"] == row["entry"]]
    said = [
        f"{len(names)} {what}, first: {names[0]}"
        for names, what in (
            (added, "utterances are new"),
            (removed, "utterances are gone"),
            (edited, "utterances changed"),
            (files, "files changed"),
        )
        if names
    ]
    return "; ".join(said) or "the order of the utterances changed"
