"""Parts of a corpus: utterances that become shards together, in a worker.

A split is cut into parts by the number of utterances alone, so the same inputs give the same
shards whoever decodes them. A worker writes its part to a folder itself and sends back a few bytes
about each utterance; audio never travels. What it sends back it writes as well: the part need not
be done again where the preparation is stopped.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from asr.audio import MINIMUM_DURATION_S, SAMPLE_RATE_HZ, AudioError, load, to_int16
from asr.cluster.filters import Filters
from asr.corpus import SHARD_BYTES, write_shard
from asr.files import write_atomically
from asr.utterance import Rejection, Utterance

PARTS = 1000  # of a split: few enough to open quickly, many enough to keep a cluster busy
PART_UTTERANCES = (32, 1000)  # at least (a task should outlast its sending), at most (progress)
RECORD_ENDING = ".json"


@dataclass(frozen=True)
class Part:
    """Utterances that become shards together: what is sent to a worker.

    Those in `left_out` are not even opened.
    """

    split: str
    number: int
    folder: str
    utterances: tuple[Utterance, ...]
    filters: Filters
    left_out: tuple[Rejection, ...] = ()

    @property
    def name(self) -> str:
        """How its files begin."""
        return f"{self.split}-part-{self.number:05d}"

    @property
    def record(self) -> Path:
        """Where it is written down that it is whole."""
        return Path(self.folder) / f"{self.name}{RECORD_ENDING}"


@dataclass(frozen=True)
class Packed:
    """An utterance that is in the shards now."""

    samples: int
    digest: bytes


@dataclass(frozen=True)
class PartResult:
    """What became of each utterance of a part; the shards it filled, with their sizes in bytes."""

    outcomes: tuple[Packed | Rejection, ...]
    shards: tuple[tuple[str, int], ...]

    @property
    def audio_s(self) -> float:
        """How much is in the shards."""
        samples = sum(each.samples for each in self.outcomes if isinstance(each, Packed))
        return samples / SAMPLE_RATE_HZ


def cut(utterances: list[Utterance], folder: Path, filters: Filters) -> list[Part]:
    """Parts of each split, in order."""
    splits: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        splits.setdefault(utterance.split, []).append(utterance)
    parts = []
    for split, members in splits.items():
        least, most = PART_UTTERANCES
        size = min(most, max(least, -(-len(members) // PARTS)))
        for number, first in enumerate(range(0, len(members), size)):
            chosen = tuple(members[first : first + size])
            parts.append(Part(split, number, str(folder.resolve()), chosen, filters))
    return parts


def pack_part(part: Part) -> PartResult:
    """Decodes, checks and packs one part: the work of a worker."""
    outcomes: list[Packed | Rejection] = []
    shards: list[tuple[str, int]] = []
    left_out = {rejection.id: rejection for rejection in part.left_out}
    waiting = list(reversed(part.utterances))
    while waiting:
        path = Path(part.folder) / f"{part.name}-{len(shards):05d}.arrow"
        with write_shard(path) as shard:
            while waiting and shard.audio_bytes < SHARD_BYTES:
                utterance = waiting.pop()
                pcm = left_out.get(utterance.id) or decode(utterance, part.filters)
                if isinstance(pcm, Rejection):
                    outcomes.append(pcm)
                    continue
                digest = shard.add(utterance.id, utterance.speaker, utterance.text, pcm)
                outcomes.append(Packed(len(pcm), digest))
        if shard.rows:
            shards.append((path.name, path.stat().st_size))
        else:
            path.unlink()
    result = PartResult(tuple(outcomes), tuple(shards))
    _write_record(part.record, result)
    return result


def decode(utterance: Utterance, filters: Filters) -> npt.NDArray[np.int16] | Rejection:
    """The utterance's samples, or why there are none."""
    try:
        waveform = load(utterance.audio, utterance.start_s, utterance.end_s)
    except AudioError as error:
        return utterance.rejected(error.reason, str(error))
    except MemoryError:  # which is no recording's fault
        raise
    except Exception as error:  # noqa: BLE001 -- whatever a decoder stumbles over, the others go on
        fault = f"{type(error).__name__}: {error}"
        return utterance.rejected("unreadable", f"{utterance.audio} cannot be decoded: {fault}")
    duration_s = len(waveform) / SAMPLE_RATE_HZ
    if duration_s < MINIMUM_DURATION_S:
        return utterance.rejected(
            "too-short",
            f"{utterance.audio}: {duration_s:.3f} s is less than {MINIMUM_DURATION_S} s",
        )
    return filters.judge(utterance, waveform) or to_int16(waveform)


def _write_record(path: Path, result: PartResult) -> None:
    """Says that a part is whole: written last, and flushed after its shards."""
    outcomes = [
        [each.samples, each.digest.hex()] if isinstance(each, Packed) else asdict(each)
        for each in result.outcomes
    ]
    with write_atomically(path) as file:
        json.dump({"shards": result.shards, "outcomes": outcomes}, file)


def read_part(part: Part) -> PartResult | None:
    """What became of a part that has been packed before; None: it is not there, or not whole."""
    try:
        record = json.loads(part.record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    shards = tuple((str(name), int(size)) for name, size in record["shards"])
    for name, size in shards:
        path = Path(part.folder) / name
        if not path.is_file() or path.stat().st_size != size:
            return None
    outcomes = tuple(
        Rejection(**each) if isinstance(each, dict) else Packed(each[0], bytes.fromhex(each[1]))
        for each in record["outcomes"]
    )
    return PartResult(outcomes, shards)
