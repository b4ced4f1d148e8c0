"""What a model hears in the utterances of a split."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from asr.decoding.hypothesis import Transcript

if TYPE_CHECKING:
    from asr.bundle import Bundle
    from asr.corpus import Split


@dataclass(frozen=True)
class Decoded:
    """What came out of the utterances, by position: a transcript, or why there is none."""

    transcripts: dict[int, Transcript]
    failures: dict[int, str]
    seconds: float


def decode(bundle: Bundle, split: Split, notes: Console) -> Decoded:
    """What the model hears in every utterance of a split, with a progress bar on a terminal.

    Where a batch fails its utterances are tried one by one, so that only the faulty one is lost.
    """
    from asr.waveforms import BATCH_S, batches_by_length, waveform_of

    transcripts: dict[int, Transcript] = {}
    failures: dict[int, str] = {}

    def recognise(positions: Sequence[int]) -> list[Transcript]:
        ids = [split.ids[position] for position in positions]
        waveforms = [
            waveform_of(split.waveform(position), id)
            for position, id in zip(positions, ids, strict=True)
        ]
        return bundle.recognise(waveforms, ids)

    durations = split.durations_s.tolist()
    started = time.perf_counter()
    with _progress(notes) as progress:
        task = progress.add_task("decoding", total=sum(durations))
        for batch in batches_by_length(durations, BATCH_S):
            try:
                transcripts.update(zip(batch, recognise(batch), strict=True))
            except Exception:  # noqa: BLE001
                _one_by_one(batch, recognise, transcripts, failures)
            progress.advance(task, sum(durations[position] for position in batch))
    return Decoded(transcripts, failures, time.perf_counter() - started)


def _one_by_one(
    batch: Sequence[int],
    recognise: Callable[[Sequence[int]], list[Transcript]],
    transcripts: dict[int, Transcript],
    failures: dict[int, str],
) -> None:
    for position in batch:
        try:
            (transcripts[position],) = recognise([position])
        except Exception as error:  # noqa: BLE001
            failures[position] = f"{type(error).__name__}: {error}"


def _progress(notes: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} s of audio"),
        TimeRemainingColumn(),
        console=notes,
        transient=True,
        disable=not notes.is_terminal,
    )
