"""The prepared corpus on disk: Arrow shards of int16 audio with their texts, read memory-mapped.

A corpus is a folder of `<split>-00000.arrow …`, `corpus.json` (counts, hours, statistics,
fingerprint), `rejected.jsonl` (what was left out, and why) and `inputs.arrow` (what it was made
from). A shard holds one row an utterance: `id`, `speaker`, `text`, `digest` (of the audio) and
`pcm`, 16 bits at 16 kHz.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from asr.audio import SAMPLE_RATE_HZ
from asr.errors import UserError, nearest
from asr.files import DIGEST_BYTES, write_atomically
from asr.utterance import Rejection

SCHEMA = 1
INDEX_NAME = "corpus.json"
REJECTED_NAME = "rejected.jsonl"
LEXICON_NAME = "lexicon.txt"  # pronunciations, where the publisher has them

SHARD_BYTES = 256 * 2**20  # of audio, at most
BATCH_BYTES = 16 * 2**20  # of audio, held in memory while a shard is written

SHARD_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("speaker", pa.string()),
        ("text", pa.string()),
        ("digest", pa.binary(DIGEST_BYTES)),
        ("pcm", pa.large_list(pa.field("item", pa.int16(), nullable=False))),
    ]
)


class ShardWriter:
    """Adds utterances to a shard; a few megabytes are held in memory at a time."""

    def __init__(self, writer: pa.RecordBatchFileWriter) -> None:
        self._writer = writer
        self._rows: list[tuple[str, str, str, bytes]] = []
        self._audio: list[npt.NDArray[np.int16]] = []
        self._held_bytes = 0
        self.rows = 0
        self.audio_bytes = 0

    def add(self, id: str, speaker: str, text: str, pcm: npt.NDArray[np.int16]) -> bytes:
        """Adds an utterance; returns the digest of its audio."""
        digest = hashlib.blake2b(pcm.data, digest_size=DIGEST_BYTES).digest()
        self._rows.append((id, speaker, text, digest))
        self._audio.append(pcm)
        self._held_bytes += pcm.nbytes
        self.rows += 1
        self.audio_bytes += pcm.nbytes
        if self._held_bytes >= BATCH_BYTES:
            self.flush()
        return digest

    def flush(self) -> None:
        """Writes what is held as one record batch."""
        if not self._rows:
            return
        offsets = np.zeros(len(self._audio) + 1, dtype=np.int64)
        np.cumsum([len(pcm) for pcm in self._audio], out=offsets[1:])
        pcm = pa.LargeListArray.from_arrays(
            pa.array(offsets),
            pa.array(np.concatenate(self._audio)),
            type=SHARD_SCHEMA.field("pcm").type,
        )
        names = [
            pa.array(column, type=field.type)
            for column, field in zip(zip(*self._rows, strict=True), SHARD_SCHEMA, strict=False)
        ]
        self._writer.write_batch(pa.record_batch([*names, pcm], schema=SHARD_SCHEMA))
        self._rows, self._audio, self._held_bytes = [], [], 0


@contextlib.contextmanager
def write_shard(path: Path) -> Iterator[ShardWriter]:
    """A shard that stands under `path` when the block ends well, and not at all otherwise."""
    with (
        write_atomically(path, "wb") as file,
        pa.ipc.new_file(pa.PythonFile(file, mode="w"), SHARD_SCHEMA) as writer,
    ):
        shard = ShardWriter(writer)
        yield shard
        shard.flush()


class Split:
    """The utterances of one split, in the recipe's order. Audio stays on disk until asked for."""

    def __init__(self, batches: Sequence[pa.RecordBatch]) -> None:
        self._table = pa.Table.from_batches(batches, schema=SHARD_SCHEMA)
        self._values = [batch.column("pcm").values.to_numpy() for batch in batches]
        self._offsets = [batch.column("pcm").offsets.to_numpy() for batch in batches]
        rows = [batch.num_rows for batch in batches]
        self._first_rows = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
        self.samples: npt.NDArray[np.int64] = (
            np.concatenate([np.diff(offsets) for offsets in self._offsets])
            if batches
            else np.zeros(0, dtype=np.int64)
        )

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def ids(self) -> list[str]:
        """Each utterance's id."""
        return self._column("id")

    @cached_property
    def texts(self) -> list[str]:
        """What was said, normalised."""
        return self._column("text")

    @cached_property
    def speakers(self) -> list[str]:
        """Who said it; '' where unknown."""
        return self._column("speaker")

    @cached_property
    def digests(self) -> list[bytes]:
        """BLAKE2b of each utterance's samples."""
        found: list[bytes] = self._table.column("digest").to_pylist()
        return found

    @property
    def durations_s(self) -> npt.NDArray[np.float64]:
        """Each utterance's length in seconds."""
        durations: npt.NDArray[np.float64] = self.samples / SAMPLE_RATE_HZ
        return durations

    def waveform(self, index: int) -> npt.NDArray[np.int16]:
        """The audio [S] of one utterance, read-only, without a copy out of the mapped file."""
        if not 0 <= index < len(self):
            raise IndexError(f"utterance {index} of {len(self)}")
        batch = int(np.searchsorted(self._first_rows, index, side="right")) - 1
        row = index - int(self._first_rows[batch])
        start, end = self._offsets[batch][row : row + 2]
        waveform: npt.NDArray[np.int16] = self._values[batch][start:end]
        return waveform

    def _column(self, name: str) -> list[str]:
        values: list[str] = self._table.column(name).to_pylist()
        return values


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus, opened. `fingerprint` depends on its content alone."""

    folder: Path
    recipe: str
    normaliser: str
    fingerprint: str
    splits: dict[str, Split]
    rejected: list[Rejection]

    def split(self, name: str) -> Split:
        """A split by its name.

        Raises:
            UserError: there is none of that name, or nothing in it.
        """
        known = sorted(split for split, utterances in self.splits.items() if len(utterances))
        if name not in known:
            raise UserError(
                f"The corpus {self.folder} has nothing in a split {name!r}."
                f"{nearest(name, known)} It has: {', '.join(known)}."
            )
        return self.splits[name]

    @property
    def lexicon(self) -> Path | None:
        """The pronunciation dictionary, where the recipe found one."""
        path = self.folder / LEXICON_NAME
        return path if path.is_file() else None

    @classmethod
    def open(cls, folder: str | Path) -> Corpus:
        """Maps a corpus into memory.

        Raises:
            UserError: it is missing, incomplete or of another version.
        """
        folder = Path(folder)
        index = read_index(folder)
        again = f"Prepare it again: asr prepare recipe={index['recipe']}"
        splits = {}
        for name, split in index["splits"].items():
            batches: list[pa.RecordBatch] = []
            for shard in split["shards"]:
                path = folder / shard["file"]
                if not path.is_file() or path.stat().st_size != shard["bytes"]:
                    raise UserError(
                        f"The corpus {folder} is incomplete at {shard['file']}. {again}."
                    )
                batches += read_shard(path)
            splits[name] = Split(batches)
        try:
            rejected = read_rejections(folder / REJECTED_NAME)
        except OSError:
            raise UserError(
                f"The corpus {folder} is incomplete at {REJECTED_NAME}. {again}."
            ) from None
        return cls(
            folder, index["recipe"], index["normaliser"], index["fingerprint"], splits, rejected
        )


def read_index(folder: Path) -> dict[str, Any]:
    """The content of `corpus.json`.

    Raises:
        UserError: it is missing, damaged or of another version.
    """
    path = folder / INDEX_NAME
    try:
        index: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"There is no prepared corpus in {folder}. Make it with "
            "asr prepare and the same recipe= and recipe.root=."
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}). Run asr prepare again.") from None
    if not isinstance(index, dict):
        raise UserError(f"{path} is no index of a corpus. Run asr prepare again.")
    if index.get("schema") != SCHEMA:
        raise UserError(
            f"The corpus {folder} is of version {index.get('schema')}, this asr reads version "
            f"{SCHEMA}. Run asr prepare again."
        )
    return index


def read_shard(path: Path) -> list[pa.RecordBatch]:
    """The record batches of a shard, mapped into memory.

    Raises:
        UserError: it is no complete shard.
    """
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            return [reader.get_batch(number) for number in range(reader.num_record_batches)]
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is no complete shard ({error}). Run asr prepare again.") from None


def write_rejections(path: Path, rejected: Iterable[Rejection]) -> None:
    """Writes JSON lines, one for each thing that was left out."""
    with write_atomically(path) as handle:
        for rejection in rejected:
            handle.write(json.dumps(dataclasses.asdict(rejection), ensure_ascii=False) + "\n")


def read_rejections(path: Path) -> list[Rejection]:
    """What `write_rejections` wrote."""
    with path.open(encoding="utf-8") as handle:
        return [Rejection(**json.loads(line)) for line in handle]


def fingerprint(
    rows: Iterable[tuple[str, str, str, str, bytes]], normaliser: str, lexicon: str = ""
) -> str:
    """One name for a corpus's content: neither order, paths, times nor shards are part of it.

    `rows` are the utterances as (id, split, speaker, text, digest of the audio); `lexicon` is the
    digest of the pronunciation dictionary, '' where there is none.
    """
    whole = hashlib.blake2b(digest_size=DIGEST_BYTES)
    whole.update(_packed(str(SCHEMA), str(SAMPLE_RATE_HZ), normaliser, lexicon))
    for *names, digest in sorted(rows):
        whole.update(_packed(*names))
        whole.update(digest)
    return whole.hexdigest()


def _packed(*texts: str) -> bytes:
    """Texts with their lengths, so that no two lists of texts give the same bytes."""

    def pieces() -> Iterator[bytes]:
        for text in texts:
            data = text.encode("utf-8", "surrogatepass")
            yield len(data).to_bytes(8, "little")
            yield data

    return b"".join(pieces())
