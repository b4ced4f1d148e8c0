"""Utterances to a prepared corpus: decode, check, resample and pack, in several processes.

A split is cut into parts by the number of utterances alone, so the same inputs give the same
shards whoever decodes them. A worker writes its part to the new corpus's folder itself and sends
back a few bytes about each utterance; audio never travels.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from asr.audio import MINIMUM_DURATION_S, SAMPLE_RATE_HZ, AudioError, load, to_int16
from asr.cluster.executor import Executor
from asr.cluster.inputs import Inputs, write_stamp
from asr.cluster.progress import AudioProgress
from asr.corpus import (
    INDEX_NAME,
    LEXICON_NAME,
    REJECTED_NAME,
    SCHEMA,
    SHARD_BYTES,
    fingerprint,
    read_index,
    write_rejections,
    write_shard,
)
from asr.files import replace_folder, write_atomically
from asr.utterance import Rejection, Utterance

PARTS = 1000  # of a split: few enough to open quickly, many enough to keep a cluster busy
PART_UTTERANCES = (32, 1000)  # at least (a task should outlast its sending), at most (progress)


@dataclass(frozen=True)
class Part:
    """Utterances that become shards together: what is sent to a worker."""

    split: str
    number: int
    folder: str
    utterances: tuple[Utterance, ...]


@dataclass(frozen=True)
class Packed:
    """An utterance that is in the shards now."""

    samples: int
    digest: bytes


@dataclass(frozen=True)
class PartResult:
    """What became of each utterance of a part, and the shards it filled."""

    outcomes: tuple[Packed | Rejection, ...]
    shards: tuple[str, ...]


@dataclass(frozen=True)
class SplitSummary:
    """Counts of one split; durations in seconds. `speakers` is 0 where none are known."""

    utterances: int
    hours: float
    speakers: int
    shortest_s: float
    median_s: float
    longest_s: float


@dataclass(frozen=True)
class PrepareResult:
    """What a corpus holds. `rejected` counts what was left out, by reason."""

    folder: Path
    fingerprint: str
    splits: dict[str, SplitSummary]
    rejected: dict[str, int]
    seconds: float

    @property
    def utterances(self) -> int:
        """Of all splits."""
        return sum(split.utterances for split in self.splits.values())

    @property
    def hours(self) -> float:
        """Of all splits."""
        return sum(split.hours for split in self.splits.values())

    @property
    def rejected_share(self) -> float:
        """Of everything that the recipe found."""
        left_out = sum(self.rejected.values())
        return left_out / max(1, left_out + self.utterances)


def prepare_corpus(
    inputs: Inputs, folder: Path, executor: Executor, command: str = ""
) -> PrepareResult:
    """Makes the corpus in `folder`, which is replaced as a whole when everything is there.

    What cannot be used is listed and left out; it never stops the others.

    Raises:
        UserError: `folder` cannot be written, or the cluster not be reached.
    """
    began = time.perf_counter()
    with replace_folder(folder) as temporary:
        parts = _cut(inputs.utterances, temporary)
        results: dict[tuple[str, int], PartResult] = {}
        with executor, AudioProgress("preparing", len(inputs.utterances)) as progress:
            for part, result in executor.map(pack_part, parts):
                results[part.split, part.number] = result
                samples = sum(o.samples for o in result.outcomes if isinstance(o, Packed))
                progress.advance(len(part.utterances), samples / SAMPLE_RATE_HZ)
        _assemble(inputs, parts, results, temporary, command)
    return summarise(folder, time.perf_counter() - began)


def summarise(folder: Path, seconds: float = 0.0) -> PrepareResult:
    """What the corpus in `folder` holds.

    Raises:
        UserError: there is none that can be read.
    """
    index = read_index(folder)
    fields = SplitSummary.__dataclass_fields__
    splits = {
        name: SplitSummary(**{field: split[field] for field in fields})
        for name, split in index["splits"].items()
    }
    return PrepareResult(folder, index["fingerprint"], splits, index["rejected"], seconds)


def pack_part(part: Part) -> PartResult:
    """Decodes, checks and packs one part: the work of a worker."""
    outcomes: list[Packed | Rejection] = []
    shards: list[str] = []
    waiting = list(reversed(part.utterances))
    while waiting:
        name = f"{part.split}-part-{part.number:05d}-{len(shards):05d}.arrow"
        path = Path(part.folder) / name
        with write_shard(path) as shard:
            while waiting and shard.audio_bytes < SHARD_BYTES:
                utterance = waiting.pop()
                pcm = _decode(utterance)
                if isinstance(pcm, Rejection):
                    outcomes.append(pcm)
                    continue
                digest = shard.add(utterance.id, utterance.speaker, utterance.text, pcm)
                outcomes.append(Packed(len(pcm), digest))
        if shard.rows:
            shards.append(name)
        else:
            path.unlink()
    return PartResult(tuple(outcomes), tuple(shards))


def _decode(utterance: Utterance) -> np.ndarray | Rejection:
    """The utterance's samples, or why there are none."""
    try:
        waveform = load(utterance.audio, utterance.start_s, utterance.end_s)
    except AudioError as error:
        return utterance.rejected(error.reason, str(error))
    except Exception as error:  # noqa: BLE001 -- whatever a decoder stumbles over, the others go on
        fault = f"{type(error).__name__}: {error}"
        return utterance.rejected("unreadable", f"{utterance.audio} cannot be decoded: {fault}")
    duration_s = len(waveform) / SAMPLE_RATE_HZ
    if duration_s < MINIMUM_DURATION_S:
        return utterance.rejected(
            "too-short",
            f"{utterance.audio}: {duration_s:.3f} s is less than {MINIMUM_DURATION_S} s",
        )
    return to_int16(waveform)


def _cut(utterances: list[Utterance], folder: Path) -> list[Part]:
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
            parts.append(Part(split, number, str(folder.resolve()), chosen))
    return parts


def _assemble(
    inputs: Inputs,
    parts: list[Part],
    results: dict[tuple[str, int], PartResult],
    folder: Path,
    command: str,
) -> None:
    """Gives the shards their names and writes what stands beside them."""
    rejected = list(inputs.rejected)
    rows: list[tuple[str, str, str, str, bytes]] = []
    lengths: dict[str, list[int]] = {}
    speakers: dict[str, set[str]] = {}
    shards: dict[str, list[dict[str, object]]] = {}
    for part in parts:
        split = part.split
        result = results[split, part.number]
        for utterance, outcome in zip(part.utterances, result.outcomes, strict=True):
            if isinstance(outcome, Rejection):
                rejected.append(outcome)
                continue
            rows.append((utterance.id, split, utterance.speaker, utterance.text, outcome.digest))
            lengths.setdefault(split, []).append(outcome.samples)
            speakers.setdefault(split, set()).add(utterance.speaker)
        for old_name in result.shards:
            named = shards.setdefault(split, [])
            name = f"{split}-{len(named):05d}.arrow"
            os.rename(folder / old_name, folder / name)
            named.append({"file": name, "bytes": (folder / name).stat().st_size})
    index = {
        "schema": SCHEMA,
        "recipe": inputs.recipe,
        "normaliser": inputs.normaliser,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "fingerprint": fingerprint(rows, inputs.normaliser, inputs.lexicon_digest),
        "lexicon": inputs.lexicon_digest,
        "command": command,
        "splits": {
            split: asdict(_summary(lengths[split], speakers[split])) | {"shards": shards[split]}
            for split in lengths
        },
        "rejected": dict(Counter(rejection.reason for rejection in rejected).most_common()),
    }
    if inputs.lexicon:
        shutil.copyfile(inputs.lexicon, folder / LEXICON_NAME)
    write_rejections(folder / REJECTED_NAME, rejected)
    write_stamp(folder, inputs)
    with write_atomically(folder / INDEX_NAME) as handle:
        json.dump(index, handle, indent=2, ensure_ascii=False)
        handle.write("\n")


def _summary(lengths: list[int], speakers: set[str]) -> SplitSummary:
    durations_s = np.array(lengths) / SAMPLE_RATE_HZ
    return SplitSummary(
        utterances=len(lengths),
        hours=round(float(durations_s.sum()) / 3600, 4),
        speakers=len(speakers - {""}),
        shortest_s=round(float(durations_s.min()), 3),
        median_s=round(float(np.median(durations_s)), 3),
        longest_s=round(float(durations_s.max()), 3),
    )
