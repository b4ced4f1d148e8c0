"""From recordings of any length to transcripts, by any model.

A short recording is recognised whole, with others in a batch. A long one is at constant memory: its
emissions are computed in windows (`asr.windows`) and decoded in pieces (`asr.pauses`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from asr import audio, pauses, windows
from asr.decoding.decoder import Decoder
from asr.decoding.hypothesis import Hypothesis, Transcript, Word
from asr.errors import UserError
from asr.units.symbols import Units
from asr.waveforms import (
    WHOLE_S,
    Audio,
    batches_by_length,
    blocks_of,
    duration_s_of,
    short_waveform_of,
)

DIGITS_S = 3  # of a time in seconds


class Model(Protocol):
    """What recognises; `asr.bundle.Bundle` is one."""

    @property
    def network(self) -> windows.Network:
        """Features in, emissions out."""
        ...

    @property
    def features(self) -> windows.Features:
        """Waveforms in, features out."""
        ...

    @property
    def units(self) -> Units:
        """What the network emits."""
        ...

    @property
    def search(self) -> Decoder:
        """Emissions in, hypotheses out."""
        ...

    @property
    def seconds_per_frame(self) -> float:
        """From one frame of emissions to the next."""
        ...

    def recognise(
        self, waveforms: Sequence[np.ndarray], sources: Sequence[str]
    ) -> list[Transcript]:
        """Transcripts of one batch of float waveforms `[S]` at 16 kHz."""
        ...


def transcribe(model: Model, inputs: Sequence[Audio], batch_s: float) -> list[Transcript]:
    """Transcripts of recordings, in their order (`asr.bundle.Bundle.transcribe`).

    Raises:
        UserError: an input cannot be used; names it and says why.
    """
    if isinstance(inputs, str | Path | np.ndarray):
        raise UserError("transcribe takes a list of paths or arrays: put the one into a list.")
    sources = [
        str(item) if isinstance(item, str | Path) else f"array {position}"
        for position, item in enumerate(inputs)
    ]
    durations = [duration_s_of(item, source) for item, source in zip(inputs, sources, strict=True)]
    transcripts: dict[int, Transcript] = {}
    for batch in batches_by_length(durations, batch_s):
        short = {}
        for position in batch:
            waveform = None
            if durations[position] <= WHOLE_S:
                waveform = short_waveform_of(inputs[position], sources[position])
            if waveform is not None:
                short[position] = waveform
            else:
                transcripts[position] = _long(model, inputs[position], sources[position])
        if short:
            heard = model.recognise(list(short.values()), [sources[i] for i in short])
            transcripts.update(zip(short, heard, strict=True))
    return [transcripts[position] for position in range(len(inputs))]


def _long(model: Model, item: Audio, source: str) -> Transcript:
    return recognise_long(model, lambda: blocks_of(item, source), source)


def recognise_long(
    model: Model,
    blocks: Callable[[], Iterable[windows.Floats]],
    source: str,
    channel: int | None = None,
) -> Transcript:
    """The transcript of a recording of any length, at constant memory but for its words.

    Words' times are those of the recording. The score is the sum of the pieces'; alternatives to
    the best hypothesis are given where there is one piece only, in less than a minute.

    Args:
        model: a bundle, or what is like one.
        blocks: gives the recording from its beginning, each time it is called: floats [S] in
            [-1, 1] at 16 kHz, mono, in pieces of any size (`asr.audio.blocks`).
        source: the recording's name.
        channel: which one it is, as the transcript has it.
    """
    samples = 0

    def counted() -> Iterator[windows.Floats]:
        nonlocal samples
        samples = 0
        for block in blocks():
            samples += len(block)
            yield block

    emissions = windows.emissions(model.network, model.features, counted)
    texts: list[str] = []
    words: list[Word] = []
    score = 0.0
    nbest: Sequence[Hypothesis] = ()  # of the latest piece
    for start, frames in pauses.pieces(emissions, model.units, model.seconds_per_frame):
        nbest = _decoded(model, frames)
        texts.append(nbest[0].text)
        score += nbest[0].score
        _add(words, nbest[0].words, start * model.seconds_per_frame)
    if len(texts) > 1:
        nbest = [Hypothesis(" ".join(filter(None, texts)), score, tuple(words))]
    return transcript_of(source, samples / audio.SAMPLE_RATE_HZ, nbest, channel)


def _add(words: list[Word], more: Sequence[Word], start_s: float) -> None:
    """Add a piece's words, which begins at `start_s`; as in it, none reaches into the next."""
    later = [
        replace(
            word,
            start_s=round(word.start_s + start_s, DIGITS_S),
            end_s=round(word.end_s + start_s, DIGITS_S),
        )
        for word in more
    ]
    if words and later:
        words[-1] = replace(words[-1], end_s=min(words[-1].end_s, later[0].start_s))
    words += later


def transcript_of(
    source: str, duration_s: float, nbest: Sequence[Hypothesis], channel: int | None = None
) -> Transcript:
    """With words kept within the recording, which its last frames may reach beyond."""

    def inside(hypothesis: Hypothesis) -> Hypothesis:
        words = (
            replace(
                word,
                start_s=min(max(word.start_s, 0.0), duration_s),
                end_s=min(max(word.end_s, 0.0), duration_s),
            )
            for word in hypothesis.words
        )
        return replace(hypothesis, words=tuple(words))

    return Transcript(source, duration_s, tuple(map(inside, nbest)), channel)


def _decoded(model: Model, frames: windows.Floats) -> list[Hypothesis]:
    """The N-best list of a piece's emissions [n, V]."""
    emissions = torch.from_numpy(np.ascontiguousarray(frames))[None]  # [1, n, V]
    (nbest,) = model.search.decode(emissions, torch.tensor([len(frames)]))
    return nbest
