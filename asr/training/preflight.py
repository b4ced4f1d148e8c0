"""What can be trained on, and what has to be left out: found before the first step."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.augment import Speed, perturbed_samples
from asr.corpus import Split
from asr.files import write_atomically
from asr.text import UnknownSymbolError


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
