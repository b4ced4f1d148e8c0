"""Utterances to a prepared corpus: parts are packed by workers that may die, and put together.

Parts that are whole stay when the preparation is stopped, and the next one goes on from there.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from asr.audio import SAMPLE_RATE_HZ
from asr.cluster.durations import draw_durations
from asr.cluster.executor import Executor, Lost, ProcessExecutor, RayExecutor
from asr.cluster.filters import FILTERED, Filters
from asr.cluster.inputs import Inputs, write_stamp
from asr.cluster.nodes import check_nodes
from asr.cluster.parts import Part, PartResult, cut, decode, pack_part, read_part
from asr.cluster.progress import AudioProgress
from asr.cluster.ray import import_ray
from asr.cluster.unfinished import unfinished
from asr.corpus import (
    INDEX_NAME,
    LEXICON_NAME,
    REJECTED_NAME,
    SCHEMA,
    fingerprint,
    read_index,
    write_rejections,
)
from asr.errors import UserError
from asr.files import replace_folder, write_atomically
from asr.utterance import Rejection, Utterance

PICTURE_NAME = "corpus.png"
ATTEMPTS = 2  # at a part, before what is in it is suspected


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
    """What a corpus holds. `rejected` counts what was left out, by reason.

    `found` utterances were whole from before; it took `seconds` to add the others.
    """

    folder: Path
    fingerprint: str
    splits: dict[str, SplitSummary]
    rejected: dict[str, int]
    seconds: float
    found: int = 0

    @property
    def utterances(self) -> int:
        """Of all splits."""
        return sum(split.utterances for split in self.splits.values())

    @property
    def hours(self) -> float:
        """Of all splits."""
        return sum(split.hours for split in self.splits.values())

    @property
    def left_out(self) -> int:
        """Of all splits, for whatever reason."""
        return sum(self.rejected.values())

    @property
    def rejected_share(self) -> float:
        """Of everything that the recipe found. What filters left out was meant to be."""
        filtered = sum(n for reason, n in self.rejected.items() if reason.startswith(FILTERED))
        return (self.left_out - filtered) / max(1, self.left_out + self.utterances)


def prepare_corpus(
    inputs: Inputs, folder: Path, executor: Executor, command: str = ""
) -> PrepareResult:
    """Makes the corpus in `folder`, which is replaced as a whole when everything is there.

    What cannot be used is listed and left out; it never stops the others, not even where it ends
    the process that decodes it.

    Raises:
        UserError: `folder` cannot be written, or the cluster not be reached or not be used.
    """
    began = time.perf_counter()
    with unfinished(folder, inputs.key) as work:
        parts = cut(inputs.utterances, work, inputs.filters)
        results = {part.name: done for part in parts if (done := read_part(part)) is not None}
        found = sum(len(part.utterances) for part in parts if part.name in results)
        missing = [part for part in parts if part.name not in results]
        if missing:
            total = sum(len(part.utterances) for part in missing)
            suspected: list[Part] = []
            with AudioProgress("preparing", total) as progress:

                def packed(part: Part, result: PartResult) -> None:
                    results[part.name] = result
                    progress.advance(len(part.utterances), result.audio_s)

                with executor:
                    if isinstance(executor, RayExecutor) and executor.address:
                        audio = [utterance.audio for utterance in inputs.utterances]
                        check_nodes(import_ray(), audio, None, str(work.resolve()))
                    for part, result in _pack(executor, missing, suspected):
                        packed(part, result)
                for part in suspected:  # Ray has ended: it keeps signals to itself
                    packed(part, _pack_carefully(part))
        with replace_folder(folder) as temporary:
            _assemble(inputs, parts, results, temporary, command)
    return replace(summarise(folder, time.perf_counter() - began), found=found)


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


def _pack(
    executor: Executor, parts: list[Part], suspected: list[Part]
) -> Iterator[tuple[Part, PartResult]]:
    """Each part, packed: again where its worker was lost; it is `suspected` where it was twice."""
    losses: Counter[str] = Counter()
    while parts:
        again: list[Part] = []
        for part, result in executor.map(pack_part, parts):
            if not isinstance(result, Lost):
                yield part, result
                continue
            losses[part.name] += 1
            (again if losses[part.name] < ATTEMPTS else suspected).append(part)
        parts = again


def _pack_carefully(part: Part) -> PartResult:
    """A part packed without what ends the process that decodes it: each is tried by itself.

    Raises:
        UserError: none of them does, and yet together they do.
    """
    crashed = []
    with ProcessExecutor() as child:
        for utterance, fate in child.map(partial(_try, part.filters), part.utterances):
            if isinstance(fate, Lost):
                detail = f"{utterance.audio} cannot be decoded: {fate.why}"
                print(f"asr: {utterance.id} is left out: {detail}", file=sys.stderr)
                crashed.append(utterance.rejected("crashed", detail))
        [(_, result)] = child.map(pack_part, [replace(part, left_out=tuple(crashed))])
    if isinstance(result, Lost):
        first, last = part.utterances[0].id, part.utterances[-1].id
        raise UserError(
            f"Whatever packs the utterances {first} to {last} is lost, though each of them alone"
            f" can be decoded: {result.why}. Does this machine run out of memory?"
        )
    return result


def _try(filters: Filters, utterance: Utterance) -> None:
    """All that is done with an utterance before it is packed."""
    decode(utterance, filters)


def _assemble(
    inputs: Inputs,
    parts: list[Part],
    results: dict[str, PartResult],
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
        result = results[part.name]
        for utterance, outcome in zip(part.utterances, result.outcomes, strict=True):
            if isinstance(outcome, Rejection):
                rejected.append(outcome)
                continue
            rows.append((utterance.id, split, utterance.speaker, utterance.text, outcome.digest))
            lengths.setdefault(split, []).append(outcome.samples)
            speakers.setdefault(split, set()).add(utterance.speaker)
        for old_name, size in result.shards:
            named = shards.setdefault(split, [])
            name = f"{split}-{len(named):05d}.arrow"
            _put(Path(part.folder) / old_name, folder / name)
            named.append({"file": name, "bytes": size})
    index = {
        "schema": SCHEMA,
        "recipe": inputs.recipe,
        "normaliser": inputs.normaliser,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "fingerprint": fingerprint(rows, inputs.normaliser, inputs.lexicon_digest),
        "lexicon": inputs.lexicon_digest,
        "filters": inputs.filters.settings,
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
    draw_durations(
        folder / PICTURE_NAME,
        {split: np.array(lengths[split]) / SAMPLE_RATE_HZ for split in lengths},
    )
    with write_atomically(folder / INDEX_NAME) as handle:
        json.dump(index, handle, indent=2, ensure_ascii=False)
        handle.write("\n")


def _put(part: Path, shard: Path) -> None:
    """The same file under a second name: the first is there until the corpus is whole."""
    try:
        os.link(part, shard)
    except OSError:  # a file system without links; what is lost where this is stopped is made again
        os.rename(part, shard)


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
