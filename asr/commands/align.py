"""`asr align`: where the words of a known text are in a recording, of an hour as of a second."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from asr import audio
from asr.commands.devices import choose_device
from asr.commands.output import check_writable
from asr.decoding.hypothesis import Hypothesis, Transcript, Word
from asr.description import check_model
from asr.errors import UserError
from asr.files import InputError, explain_write_errors, printable, write_atomically
from asr.formats.ctm import CtmWriter

if TYPE_CHECKING:
    import numpy as np

    from asr.bundle import Bundle
    from asr.decoding.script import Script
    from asr.windows import EmissionsFile

POOR = 0.1  # confidence of a word that does not sound as it is written
MANY_POOR = 0.2  # share of the words, from which on the text is doubted


def align(model: str, recording: str, text: str, output: str | None) -> int:
    """Write where each word of the file `text` is in a recording as CTM, or print it; 0.

    Raises:
        UserError: there is no such model, the recording or the text cannot be used, the text needs
            more time than the recording has, or the output cannot be written.
    """
    check_model(model)  # a wrong model costs no second of loading torch
    if output is not None:
        _check_output(Path(output), [recording, text], Path(model))
    lines = _read_text(Path(text))
    began = time.perf_counter()
    duration_s = _probed(recording)

    from asr.decoding.alignment import AlignmentError
    from asr.decoding.script import Script
    from asr.pipelines import open_model
    from asr.windows import EmissionsFile

    bundle = open_model(model, choose_device())
    script = Script.from_text(lines, bundle.units, bundle.normaliser, printable(text))
    with EmissionsFile(len(bundle.units.symbols)) as emissions:
        heard_s = _fill(emissions, bundle, recording, duration_s)
        try:
            words = script.place(emissions, bundle.units, bundle.seconds_per_frame, bundle.offset_s)
        except AlignmentError as error:
            raise UserError(
                f"{printable(text)} does not fit into {printable(recording)}, which lasts"
                f" {heard_s:.2f} s: {error}. Is it the text of this recording?"
            ) from None
    transcript = _transcript(recording, heard_s, script, words)
    _write(transcript, output)
    _report(words, heard_s, time.perf_counter() - began, output)
    return 0


def _check_output(target: Path, inputs: Iterable[str], model: Path) -> None:
    """Find that the output can be written before any work is done."""
    if os.path.exists(target) and not target.is_file():
        raise UserError(f"{printable(target)} is no ordinary file: give a file to write.")
    if os.path.realpath(target) in map(os.path.realpath, inputs):
        raise UserError(f"{printable(target)} is an input, and would be overwritten: change -o.")
    if Path(os.path.realpath(model)) in Path(os.path.realpath(target)).parents:
        raise UserError(f"{printable(target)} lies in the model's folder: write elsewhere.")
    check_writable(target)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"The text {printable(path)} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(
            f"{printable(path)}:{line}: the text is not UTF-8: save it as plain text."
        ) from None


def _probed(recording: str) -> float:
    try:
        return audio.probe(recording).duration_s
    except InputError as error:
        raise UserError(f"{error}.") from None


def _fill(emissions: EmissionsFile, bundle: Bundle, recording: str, duration_s: float) -> float:
    """Compute a recording's emissions; gives its length in seconds."""
    from asr import windows

    samples = 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal samples
        samples = 0
        for block in audio.blocks(recording):
            samples += len(block)
            yield block

    console = Console(stderr=True)
    with Progress(
        TextColumn("listening"),
        BarColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as progress:
        task = progress.add_task("", total=duration_s)
        try:
            for frames in windows.emissions(bundle.network, bundle.features, blocks):
                emissions.append(frames)
                progress.advance(task, len(frames) * bundle.seconds_per_frame)
        except InputError as error:
            raise UserError(f"{error}.") from None
    return samples / audio.SAMPLE_RATE_HZ


def _transcript(
    recording: str, duration_s: float, script: Script, words: Iterable[Word]
) -> Transcript:
    """The words as a transcript, kept within the recording."""
    inside = tuple(
        Word(
            word.word,
            min(word.start_s, duration_s),
            min(word.end_s, duration_s),
            word.confidence,
        )
        for word in words
    )
    return Transcript(
        printable(recording), duration_s, (Hypothesis(" ".join(script.words), 0.0, inside),)
    )


def _write(transcript: Transcript, output: str | None) -> None:
    if output is None:
        CtmWriter().write(transcript, sys.stdout)
        return
    with explain_write_errors(output):
        Path(output).parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(output) as stream:
        CtmWriter().write(transcript, stream)


def _report(words: tuple[Word, ...], duration_s: float, seconds: float, output: str | None) -> None:
    poor = sum(word.confidence < POOR for word in words)
    if poor > MANY_POOR * len(words):
        print(
            f"asr: {poor} of {len(words)} words do not sound as they are written (confidence below"
            f" {POOR}): is it the text of this recording? A * stands for what is not in the text.",
            file=sys.stderr,
        )
    if output is not None:
        print(
            f"{len(words)} words in {duration_s / 60:.1f} minutes aligned in {seconds:.1f} s;"
            f" written to {printable(output)}.",
            file=sys.stderr,
        )
