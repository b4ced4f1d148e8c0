"""What can be trained on, and what has to be left out: found before the first step."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.augment import Speed, perturbed_samples
from asr.corpus import Split
from asr.files import write_atomically
from asr.units.symbols import UnknownSymbolError


@dataclass(frozen=True)
class Excluded:
    """A training utterance that is left out, and why."""

    id: str
    reason: str
    detail: str


def frames_needed(labels: Sequence[int]) -> int:
    """Frames that CTC needs to align labels: one each, and a blank between two that are equal."""
    return len(labels) + sum(first == second for first, second in itertools.pairwise(labels))


@dataclass(frozen=True)
class FrameCount:
    """How many frames of emissions so many samples give."""

    window_samples: int
    hop_samples: int
    strides: tuple[int, ...]

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """[N] -> [N]."""
        frames = np.maximum(0, 1 + (samples - self.window_samples) // self.hop_samples)
        for stride in self.strides:
            frames = -(-frames // stride)
        return np.asarray(frames)


def check(
    split: Split,
    labels: Sequence[Sequence[int] | UnknownSymbolError],
    frame_count: FrameCount,
    speed: Speed,
    max_duration_s: float,
) -> tuple[list[int], list[Excluded]]:
    """Which utterances of a split can be trained on, and what is left out.

    An utterance is left out where its text is empty or holds an unknown character, where it is
    longer than `max_duration_s`, and where CTC cannot align it at the fastest speed: fewer frames
    than labels and blanks between repeats. With `labels` aligned to the split.
    """
    fastest = np.full(len(split), speed.fastest)
    frames = frame_count(perturbed_samples(np.asarray(split.samples), fastest))
    durations_s = split.durations_s
    rows: list[int] = []
    excluded: list[Excluded] = []
    for row, encoded in enumerate(labels):
        name = split.ids[row]
        duration_s = float(durations_s[row])
        if isinstance(encoded, UnknownSymbolError):
            excluded.append(Excluded(name, "unknown-symbol", str(encoded)))
        elif not encoded:
            excluded.append(Excluded(name, "empty-text", "nothing is left of its transcript"))
        elif duration_s > max_duration_s:
            detail = f"{duration_s:.1f} s are more than data.max_duration_s={max_duration_s:g}"
            excluded.append(Excluded(name, "too-long", detail))
        elif frames[row] < frames_needed(encoded):
            detail = (
                f"{frames[row]} frames at speed {speed.fastest:g} are fewer than the "
                f"{frames_needed(encoded)} that CTC needs for {split.texts[row]!r}"
            )
            excluded.append(Excluded(name, "too-short-for-text", detail))
        else:
            rows.append(row)
    return rows, excluded


def spare_frames(
    split: Split,
    rows: Sequence[int],
    encode: Callable[[str], Sequence[int]],
    frame_count: FrameCount,
    speed: Speed,
) -> np.ndarray:
    """Frames that utterances of a split have at the fastest speed beyond those CTC needs [N]."""
    samples = np.asarray(split.samples)[rows]
    frames = frame_count(perturbed_samples(samples, np.full(len(rows), speed.fastest)))
    needed = [frames_needed(encode(split.texts[row])) for row in rows]
    return frames - np.array(needed, dtype=np.int64)


@dataclass(frozen=True)
class Unknown:
    """A character or word that none of the units spells, how often a split has it, and an example.

    `id` is of the first utterance that has it.
    """

    symbol: str
    count: int
    id: str


def unknown_symbols(
    split: Split, rows: Iterable[int], encode: Callable[[str], Sequence[int]]
) -> list[Unknown]:
    """All of those in rows of a split, the most frequent first."""
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for row in rows:
        for symbol, count in _unknown_in(split.texts[row], encode):
            counts[symbol] += count
            first.setdefault(symbol, split.ids[row])
    return [Unknown(symbol, count, first[symbol]) for symbol, count in counts.most_common()]


def _unknown_in(text: str, encode: Callable[[str], Sequence[int]]) -> Iterator[tuple[str, int]]:
    """One after the other: encoding ends at the first, and goes on where that is taken out."""
    while True:
        try:
            encode(text)
        except UnknownSymbolError as error:
            symbol, words = error.symbol, text.split()
        else:
            return
        if symbol in words:
            yield symbol, words.count(symbol)
            text = " ".join(word for word in words if word != symbol)
        else:
            yield symbol, text.count(symbol)
            text = text.replace(symbol, "")


@dataclass(frozen=True)
class Shared:
    """Training utterances that another split has too, by what (`audio` or `id`), and an example.

    `ids` are of one of them: in training, and there.
    """

    split: str
    by: str
    count: int
    ids: tuple[str, str]


_COMPARED: dict[str, Callable[[Split], Sequence[str | bytes]]] = {
    "audio": lambda split: split.digests,
    "id": lambda split: split.ids,
}


def shared_utterances(
    training: Sequence[tuple[Split, Sequence[int]]], others: Mapping[str, Split]
) -> list[Shared]:
    """What rows of splits have in common with other splits: the same audio, or the same id."""
    found = []
    for name, other in others.items():
        for by, values_of in _COMPARED.items():
            there = {value: row for row, value in enumerate(values_of(other))}
            pairs: list[tuple[str, str]] = []
            for split, rows in training:
                values = values_of(split)
                both = [row for row in rows if values[row] in there]
                pairs += [(split.ids[row], other.ids[there[values[row]]]) for row in both]
            if pairs:
                found.append(Shared(name, by, len(pairs), pairs[0]))
    return found


def write_excluded(path: Path, excluded: Sequence[Excluded]) -> None:
    """One JSON object a line."""
    with write_atomically(path) as stream:
        for item in excluded:
            stream.write(json.dumps(vars(item), ensure_ascii=False) + "\n")


def summary(excluded: Sequence[Excluded]) -> str:
    """'31 left out (31 too-short-for-text)'."""
    reasons = Counter(item.reason for item in excluded)
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return f"{len(excluded)} left out ({listed})" if excluded else "none left out"
