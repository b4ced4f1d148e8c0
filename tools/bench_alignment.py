"""What word times are worth: against known ones, and in long recordings against short ones.

    python tools/bench_alignment.py digits runs/an4/base/model PATH/fsdd
    python tools/bench_alignment.py synth runs/synth/base/model downloads/synth
    python tools/bench_alignment.py joined runs/an4/base/model PATH/an4
    python tools/bench_alignment.py gaps runs/an4/base/model PATH/an4
    python tools/bench_alignment.py hour runs/an4/base/model PATH/an4

`digits` cuts the silence off recordings of FSDD and joins six of a speaker with pauses that are
known; `synth` takes the times that eSpeak NG reports. Both show the training part, on which the
constants of `asr.decoding.words` were chosen (`--grid` shows others), and the test part. `joined`
compares each word of AN4's test recordings, joined in shuffled order, with where it is when its
recording is aligned alone. `gaps` leaves words out of the texts, with a `*` in their place. `hour`
aligns a recording of so many `--minutes` in a process of its own and says what it took.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from arguments import at_least
from hardware import hardware
from rich.console import Console
from rich.table import Table

from asr import audio, windows
from asr.bundle import Bundle, load
from asr.decoding import alignment
from asr.decoding import words as constants
from asr.decoding.hypothesis import Word
from asr.decoding.script import GAP, Script

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_TAKES = 5  # takes from here on are not of the test
SPEECH_DB = 30.0  # how far below its loudest part a recording is still speech
PAUSE_S = (0.1, 0.8)
STRING = 6  # digits
NEAR_S = 0.1
LEFT_OUT = 0.2  # of the words of a text, by `gaps`
LEADS_S, LETTERS_S = (0.02, 0.03, 0.04, 0.05, 0.06), (0.06, 0.07, 0.08, 0.09, 0.1)
TRANSCRIPT = re.compile(r"(?:<s>\s*)?(?P<text>.*?)\s*(?:</s>\s*)?\((?P<id>\S+)\)")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Spoken:
    """A recording and its words; with their starts and ends [2] in seconds, where known."""

    waveform: Floats
    words: tuple[str, ...]
    times_s: tuple[tuple[float, float], ...] = ()


def placed(bundle: Bundle, waveform: Floats, text: str) -> tuple[Word, ...]:
    """The words of a text in a waveform, as `asr align` finds them."""
    script = Script.from_text(text, bundle.units, bundle.normaliser, "text")
    pieces = windows.emissions(bundle.network, bundle.features, lambda: [waveform])
    emissions = np.concatenate(list(pieces))
    return script.place(emissions, bundle.units, bundle.seconds_per_frame, bundle.offset_s)


def errors_s(bundle: Bundle, spoken: Sequence[Spoken]) -> npt.NDArray[np.float64]:
    """How far starts and ends are from the known ones [N, 2]."""
    errors = []
    for one in spoken:
        words = iter(placed(bundle, one.waveform, " ".join(one.words)))
        for known, (start_s, end_s) in zip(one.words, one.times_s, strict=True):
            own = [next(words) for _ in known.split()]  # eSpeak NG runs some together
            errors.append((own[0].start_s - start_s, own[-1].end_s - end_s))
    return np.array(errors)


def trimmed(waveform: Floats) -> Floats:
    """Without what is silent before and after, by the energy of 10 ms each; at one loudness."""
    size = audio.SAMPLE_RATE_HZ // 100
    power = np.square(waveform[: len(waveform) // size * size].reshape(-1, size)).mean(axis=1)
    (loud,) = np.nonzero(power > power.max() * 10 ** (-SPEECH_DB / 10))
    speech = waveform[loud[0] * size : (loud[-1] + 1) * size]
    return np.asarray(0.5 * speech / np.abs(speech).max(), dtype=np.float32)


def digit_strings(root: Path, test: bool, count: int) -> Iterator[Spoken]:
    """Digits of one speaker each, joined with pauses of faint noise."""
    generator = np.random.default_rng(int(test))
    speakers: dict[str, list[Path]] = {}
    for path in sorted((root / "recordings").glob("*.wav")):
        _, speaker, take = path.stem.split("_")
        if (int(take) < TEST_TAKES) == test:
            speakers.setdefault(speaker, []).append(path)
    for _ in range(count):
        paths = speakers[generator.choice(sorted(speakers))]
        chosen = [paths[one] for one in generator.integers(0, len(paths), STRING)]
        pieces = [trimmed(audio.load(path)) for path in chosen]
        pauses = (generator.uniform(*PAUSE_S, STRING + 1) * audio.SAMPLE_RATE_HZ).astype(int)
        starts = np.cumsum(pauses[:-1]) + np.cumsum([0, *map(len, pieces[:-1])])
        waveform = 1e-4 * generator.standard_normal(sum(map(len, pieces)) + pauses.sum())
        for start, piece in zip(starts, pieces, strict=True):
            waveform[start : start + len(piece)] += piece
        times_s = tuple(
            (start / audio.SAMPLE_RATE_HZ, (start + len(piece)) / audio.SAMPLE_RATE_HZ)
            for start, piece in zip(starts.tolist(), pieces, strict=True)
        )
        words = tuple(DIGITS[int(path.stem[0])] for path in chosen)
        yield Spoken(waveform.astype(np.float32), words, times_s)


def synthetic(root: Path, test: bool, count: int) -> Iterator[Spoken]:
    """Sentences of the recipe `synth` with the times of eSpeak NG's events."""

    def lines(name: str) -> list[dict]:
        text = (root / f"{name}.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    times = {line["audio"]: line["words"] for line in lines("words")}
    split = "test" if test else "train"
    chosen = [line["audio"] for line in lines("utterances") if line["split"] == split]
    for name in random.Random(0).sample(chosen, min(count, len(chosen))):
        yield Spoken(
            audio.load(root / name),
            tuple(word["word"] for word in times[name]),
            tuple((word["start_s"], word["end_s"]) for word in times[name]),
        )


def an4(root: Path, part: str, count: int | None = None) -> list[Spoken]:
    """AN4's recordings of a part in the publisher's order, the first of them or all."""
    listed = (root / f"etc/an4_{part}.fileids").read_text(encoding="utf-8").split()[:count]
    lines = (root / f"etc/an4_{part}.transcription").read_text(encoding="utf-8").splitlines()
    texts = {m["id"]: m["text"] for line in lines if (m := TRANSCRIPT.fullmatch(line.strip()))}
    return [
        Spoken(audio.load(root / f"wav/{name}.wav"), tuple(texts[Path(name).name].split()))
        for name in listed
    ]


def against_truth(
    bundle: Bundle, read: Callable[[Path, bool, int], Iterator[Spoken]], options: argparse.Namespace
) -> Table:
    """A row for training and test, or for each pair of constants on training."""
    if options.grid:
        table = Table("lead ms", "letter ms", "median error ms: starts", "ends", "both")
        spoken = list(read(options.root, False, options.count))
        for lead_s in LEADS_S:
            for letter_s in LETTERS_S:
                constants.LEAD_S, constants.LETTER_S = lead_s, letter_s
                errors = np.abs(errors_s(bundle, spoken))
                medians = (*np.median(errors, axis=0), np.median(errors))
                table.add_row(*(f"{1000 * value:.0f}" for value in (lead_s, letter_s, *medians)))
        return table
    table = Table("", "words", "median error ms: starts", "ends", "both", "within 100 ms")
    for test in (False, True):
        errors = errors_s(bundle, list(read(options.root, test, options.count)))
        medians = (*np.median(np.abs(errors), axis=0), np.median(np.abs(errors)))
        name = "test" if test else "training"
        table.add_row(name, str(len(errors)), *(f"{1000 * m:.0f}" for m in medians), near(errors))
    return table


def near(errors: npt.NDArray[np.float64]) -> str:
    """The share of boundaries that are near."""
    return f"{(np.abs(errors) <= NEAR_S).mean():.2%}"


def boundaries(words: Sequence[Word]) -> npt.NDArray[np.float64]:
    """Starts and ends [N, 2] in seconds."""
    return np.array([(word.start_s, word.end_s) for word in words])


def joined(bundle: Bundle, options: argparse.Namespace) -> Table:
    """All recordings several times over in shuffled order, against each one alone."""
    spoken = an4(options.root, "test")
    alone = [boundaries(placed(bundle, one.waveform, " ".join(one.words))) for one in spoken]
    order = list(range(len(spoken))) * options.times
    random.Random(0).shuffle(order)
    starts = np.cumsum([0, *(len(spoken[one].waveform) for one in order)]) / audio.SAMPLE_RATE_HZ
    expected = np.concatenate(
        [alone[one] + start for one, start in zip(order, starts[:-1], strict=True)]
    )
    began = time.process_time()
    text = "\n".join(" ".join(spoken[one].words) for one in order)
    found = placed(bundle, np.concatenate([spoken[one].waveform for one in order]), text)
    seconds = time.process_time() - began
    errors = boundaries(found) - expected
    table = Table("minutes", "words", "median apart ms", "within 100 ms", "CPU seconds")
    median = f"{1000 * np.median(np.abs(errors)):.0f}"
    minutes = f"{starts[-1] / 60:.1f}"
    table.add_row(minutes, str(len(found)), median, near(errors), f"{seconds:.1f}")
    return table


def gaps(bundle: Bundle, options: argparse.Namespace) -> Table:
    """The same, with words left out, against the whole texts; other costs on training."""
    spoken = an4(options.root, *(("train", options.count) if options.grid else ("test",)))
    order = list(range(len(spoken)))
    random.Random(1).shuffle(order)
    words = [word for one in order for word in spoken[one].words]
    waveform = np.concatenate([spoken[one].waveform for one in order])
    whole = boundaries(placed(bundle, waveform, " ".join(words)))
    table = Table("cost of a frame", "words", "gaps", "median apart ms", "within 100 ms")
    for cost in (0.0, 0.25, 0.5, 1.0, 2.0) if options.grid else (alignment.GAP_COST,):
        alignment.GAP_COST = cost
        kept, tokens = runs_left_out(words)
        found = boundaries(placed(bundle, waveform, " ".join(tokens)))
        errors = found - whole[kept]
        median = f"{1000 * np.median(np.abs(errors)):.0f}"
        table.add_row(f"{cost}", str(len(kept)), str(tokens.count(GAP)), median, near(errors))
    return table


def runs_left_out(words: Sequence[str]) -> tuple[list[int], list[str]]:
    """Which words are kept, and the text with a `*` for each run of one to ten that is not."""
    generator = random.Random(2)
    kept: list[int] = []
    tokens: list[str] = []
    position = 0
    while position < len(words):
        if generator.random() < LEFT_OUT / 5:
            position += generator.randint(1, 10)
            tokens.append(GAP)
        else:
            kept.append(position)
            tokens.append(words[position])
            position += 1
    return kept, tokens


def hour(options: argparse.Namespace) -> Table:
    """`asr align` of recordings of so many minutes, each in a process of its own."""
    spoken = an4(options.root, "test")
    table = Table("minutes", "words", "CPU seconds", "peak memory MiB")
    with tempfile.TemporaryDirectory() as name:
        for minutes in options.minutes:
            recording, text = Path(name) / "long.wav", Path(name) / "long.txt"
            write_long(spoken, 60 * minutes, recording, text)
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            command = ["align", options.model, str(recording), str(text), "-o", f"{name}/long.ctm"]
            subprocess.run([sys.executable, "-m", "asr", *command], check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            # Of the children so far the largest: minutes are given in rising order.
            peak = after.ru_maxrss / 1024
            count = len(text.read_text(encoding="utf-8").split())
            table.add_row(f"{minutes}", str(count), f"{seconds:.0f}", f"{peak:.0f}")
    return table


def write_long(spoken: Sequence[Spoken], duration_s: float, recording: Path, text: Path) -> None:
    """Recordings one after the other, again and again, for so long."""
    written = 0
    lines: list[str] = []
    with soundfile.SoundFile(recording, "w", audio.SAMPLE_RATE_HZ, 1) as sound:
        while written < duration_s * audio.SAMPLE_RATE_HZ:
            one = spoken[len(lines) % len(spoken)]
            sound.write(one.waveform)
            lines.append(" ".join(one.words))
            written += len(one.waveform)
    text.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("digits", "synth", "joined", "gaps", "hour"))
    parser.add_argument("model", help="a trained model's folder")
    parser.add_argument("root", type=Path, help="of FSDD, downloads/synth, or of AN4")
    parser.add_argument("--grid", action="store_true", help="other constants, on training data")
    parser.add_argument(
        "--count", type=at_least(1), default=150, help="recordings of digits, synth"
    )
    parser.add_argument("--times", type=at_least(1), default=4, help="of joined")
    parser.add_argument(
        "--minutes", type=at_least(1), nargs="+", default=[5, 60], help="of hour, rising"
    )
    parser.add_argument("--threads", type=at_least(1), default=1, help="of the CPU")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.what == "hour":
        table = hour(options)
    else:
        bundle = load(options.model)
        if options.what in ("joined", "gaps"):
            table = {"joined": joined, "gaps": gaps}[options.what](bundle, options)
        else:
            read = {"digits": digit_strings, "synth": synthetic}[options.what]
            table = against_truth(bundle, read, options)
    Console(highlight=False).print(table)
    print(hardware(torch.device("cpu")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
