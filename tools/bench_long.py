"""What long recordings cost in errors and in memory.

    python tools/bench_long.py joined runs/an4/base/model PATH/an4
    python tools/bench_long.py memory runs/an4/base/model PATH/an4

`joined` joins AN4's test recordings several times over in shuffled order, and compares how they are
recognised in windows and pieces with how they are alone, and in one pass. What is other than in one
pass within a second of a seam of windows, or of a cut between pieces, is counted by itself: words
that are substituted, missing, or added (doubled, say). `memory` transcribes a recording of hours,
as WAV and as Opus, in a process of its own, whose memory it draws over time in `--picture`.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from arguments import at_least
from bench_alignment import Floats, Spoken, an4
from hardware import hardware
from rich.console import Console
from rich.table import Table

from asr import audio, pauses, recognition, windows
from asr.bundle import Bundle, load
from asr.decoding.hypothesis import Word
from asr.scoring.alignment import Op, align
from asr.text import normalise

NEAR_S = 1.0  # of a seam
EVERY_S = 0.5  # memory is looked at
COLOURS = {"wav": "#0072b2", "opus": "#d55e00"}


@dataclass(frozen=True)
class Errors:
    """Of words: substituted, missing, and too many."""

    substituted: int
    missing: int
    added: int
    words: int

    @property
    def rate(self) -> float:
        """Errors per word of the reference."""
        return (self.substituted + self.missing + self.added) / self.words

    def __add__(self, other: Errors) -> Errors:
        return Errors(
            self.substituted + other.substituted,
            self.missing + other.missing,
            self.added + other.added,
            self.words + other.words,
        )


def errors(reference: str, hypothesis: str) -> Errors:
    """How the words of a hypothesis differ from those of a reference."""
    ops = [pair.op for pair in align(reference, hypothesis)]
    substituted, missing, added = map(ops.count, (Op.SUBSTITUTION, Op.DELETION, Op.INSERTION))
    return Errors(substituted, missing, added, len(reference.split()))


def boundaries_s(bundle: Bundle, waveform: Floats) -> tuple[list[float], list[float]]:
    """When windows are joined, and when pieces are cut."""
    parts = list(windows.emissions(bundle.network, bundle.features, lambda: [waveform]))
    seams = np.cumsum([len(part) for part in parts])[:-1] * bundle.seconds_per_frame
    pieces = pauses.pieces(parts, bundle.units, bundle.seconds_per_frame)
    cuts = [start * bundle.seconds_per_frame for start, _ in pieces][1:]
    return seams.tolist(), cuts


def apart_near(expected: Sequence[Word], found: Sequence[Word], times_s: Sequence[float]) -> Errors:
    """How the words near some times differ; `expected` are those of one pass."""
    total = Errors(0, 0, 0, 0)
    for time_s in times_s:
        texts = [
            " ".join(
                word.word
                for word in words
                if abs((word.start_s + word.end_s) / 2 - time_s) <= NEAR_S
            )
            for words in (expected, found)
        ]
        total += errors(*texts)
    return total


def joined(bundle: Bundle, options: argparse.Namespace) -> list[Table]:
    """All recordings several times over in shuffled order: alone, in windows, in one pass."""
    spoken = an4(options.root, "test")
    references = [normalise(bundle.normaliser, " ".join(one.words)) for one in spoken]
    alone = [one.text for one in bundle.transcribe([one.waveform for one in spoken])]
    order = list(range(len(spoken))) * options.times
    random.Random(options.seed).shuffle(order)
    waveform = np.concatenate([spoken[one].waveform for one in order])
    reference = " ".join(references[one] for one in order)

    began = time.process_time()
    found = recognition.recognise_long(bundle, lambda: [waveform], "joined")
    seconds = time.process_time() - began
    ((best, *_),) = bundle.search.decode(*bundle.emissions([waveform]))
    one_pass = recognition.transcript_of("whole", found.duration_s, [best])

    by_itself = Errors(0, 0, 0, 0)
    for one in order:
        by_itself += errors(references[one], alone[one])
    table = Table("", "WER", "substituted", "missing", "added", "other than in one pass")
    rows = {
        "each alone": (by_itself, " ".join(alone[one] for one in order)),
        "joined, in windows": (errors(reference, found.text), found.text),
        "joined, in one pass": (errors(reference, one_pass.text), one_pass.text),
    }
    for name, (counts, text) in rows.items():
        figures = (counts.substituted, counts.missing, counts.added)
        other = f"{errors(one_pass.text, text).rate:.2%}"
        table.add_row(name, f"{counts.rate:.2%}", *map(str, figures), other)
    length = f"{found.duration_s / 60:.1f} minutes, {by_itself.words} words"
    table.title = f"{length}, {seconds:.0f} s of the processor"

    seams, cuts = boundaries_s(bundle, waveform)
    near = Table(f"within {NEAR_S:g} s", "places", "words", "substituted", "missing", "added")
    for name, times_s in (("of a seam of windows", seams), ("of a cut between pieces", cuts)):
        counts = apart_near(one_pass.words, found.words, times_s)
        table_row = (len(times_s), counts.words, counts.substituted, counts.missing, counts.added)
        near.add_row(name, *map(str, table_row))
    near.caption = "other than in one pass"
    return [table, near]


def memory(options: argparse.Namespace) -> list[Table]:
    """A recording of hours in a process of its own for each format: what it took, and when."""
    spoken = an4(options.root, "test")
    table = Table("", "MiB on disk", "words", "seconds", "MiB after 10 %", "at most", "at the end")
    curves: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for ending in ("wav", "opus"):
            path = Path(folder) / f"long.{ending}"
            write_long(spoken, 3600 * options.hours, path)
            done = subprocess.run(
                [sys.executable, __file__, "child", options.model, str(path)],
                check=True,
                capture_output=True,
                text=True,
            )
            result = json.loads(done.stdout)
            curve = curves[ending] = result["memory"]
            figures = [mib for seconds, mib in curve if seconds >= curve[-1][0] / 10]
            size = path.stat().st_size / 2**20
            row = (size, result["words"], curve[-1][0], figures[0], max(figures), figures[-1])
            table.add_row(ending, *(f"{value:,.0f}" for value in row))
            path.unlink()
    draw(curves, options.hours, options.picture)
    return [table]


def write_long(spoken: Sequence[Spoken], duration_s: float, path: Path) -> None:
    """Recordings one after the other, again and again, for so long."""
    subtype = "OPUS" if path.suffix == ".opus" else "PCM_16"
    kind = "OGG" if path.suffix == ".opus" else "WAV"
    with soundfile.SoundFile(path, "w", audio.SAMPLE_RATE_HZ, 1, subtype, format=kind) as sound:
        written = number = 0
        while written < duration_s * audio.SAMPLE_RATE_HZ:
            waveform = spoken[number % len(spoken)].waveform
            sound.write(waveform)
            number += 1
            written += len(waveform)


def child(options: argparse.Namespace) -> None:
    """Transcribe one file; print its words and [seconds, MiB] again and again as JSON."""
    bundle = load(options.model)
    began, curve, done = time.monotonic(), [], threading.Event()

    def watch() -> None:
        while True:
            statm = Path("/proc/self/statm").read_text(encoding="ascii")
            mib = int(statm.split()[1]) * 4096 / 2**20
            curve.append((round(time.monotonic() - began, 2), round(mib, 1)))
            if done.wait(EVERY_S):
                return

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        (transcript,) = bundle.transcribe([options.root])
    finally:
        done.set()
        watching.join()
    print(json.dumps({"words": len(transcript.words), "memory": curve}))


def draw(curves: dict[str, list[tuple[float, float]]], hours: float, path: Path) -> None:
    """Memory over the share of the recording's time that has passed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        seconds, mib = zip(*curve, strict=True)
        axes.plot(seconds, mib, color=COLOURS[name], label=name)
    axes.set(xlabel="seconds", ylabel="resident memory, MiB", ylim=(0, None), xlim=(0, None))
    axes.set_title(f"{hours:g} hours transcribed", fontsize=10)
    axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("joined", "memory", "child"))
    parser.add_argument("model", help="a trained model's folder")
    parser.add_argument("root", type=Path, help="of AN4")
    parser.add_argument("--times", type=at_least(1), default=4, help="of joined")
    parser.add_argument("--seed", type=int, default=0, help="of joined: the order")
    parser.add_argument("--hours", type=float, default=4.0, help="of memory")
    parser.add_argument(
        "--picture", type=Path, default=Path("docs/images/long_recording.png"), help="of memory"
    )
    parser.add_argument("--threads", type=at_least(1), default=1, help="of the CPU")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.what == "child":
        child(options)
        return 0
    tables = memory(options) if options.what == "memory" else joined(load(options.model), options)
    console = Console(highlight=False)
    for table in tables:
        console.print(table)
    print(hardware(torch.device("cpu")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
