"""How fast a model transcribes: seconds of audio a second, in all and in each stage.

    python tools/bench_transcribe.py runs/an4/base/model PATH/an4/wav/an4test_clstk

In all: `Bundle.transcribe` from paths to transcripts, the model loaded, files in the disk's cache.
The stages are timed in a run of their own: decode (files to waveforms), features, network, search.
The median of `--repeats` runs is shown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from hardware import hardware
from rich.console import Console
from rich.table import Table

from asr import audio
from asr.bundle import Bundle, load
from asr.errors import UserError
from asr.inputs import find_recordings
from asr.waveforms import batches_by_length

STAGES = ("decode", "features", "network", "search")


class Stopwatch:
    """Seconds spent in each stage."""

    def __init__(self, device: torch.device) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._device = device

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        if self._device.type == "cuda":  # whose work goes on after the call has returned
            torch.cuda.synchronize(self._device)
        self.seconds[stage] += time.perf_counter() - began


def staged(bundle: Bundle, paths: list[Path], batch_s: float) -> dict[str, float]:
    """Seconds spent in each stage of transcribing the files."""
    stage = Stopwatch(bundle.device)
    durations = [audio.probe(path).duration_s for path in paths]
    for batch in batches_by_length(durations, batch_s):
        with stage("decode"):
            waveforms = [audio.load(paths[position]) for position in batch]
        with torch.inference_mode():
            with stage("features"):
                features, lengths = bundle.features(*bundle.padded(waveforms))
            with stage("network"):
                emissions, lengths = bundle.network(features, lengths)
            with stage("search"):
                bundle.search.decode(emissions, lengths)
    return stage.seconds


def whole(bundle: Bundle, paths: list[Path], batch_s: float) -> tuple[float, float]:
    """Seconds of audio, and seconds that transcribing it took."""
    began = time.perf_counter()
    transcripts = bundle.transcribe(paths, batch_s)
    seconds = time.perf_counter() - began
    return sum(transcript.duration_s for transcript in transcripts), seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", help="a trained model's folder")
    parser.add_argument("inputs", nargs="+", help="audio files, folders or globs")
    parser.add_argument("--batch-s", type=float, default=120.0, help="seconds of audio in a batch")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()

    bundle = load(options.model, options.device)
    recordings, failures = find_recordings(options.inputs)
    if failures or not recordings:
        raise UserError(failures[0].detail if failures else "There is no audio to transcribe.")
    paths = [recording.path for recording in recordings]

    bundle.transcribe(paths[:4])  # the first call sets libraries up
    runs = [whole(bundle, paths, options.batch_s) for _ in range(options.repeats)]
    audio_s = runs[0][0]
    all_s = statistics.median(seconds for _, seconds in runs)
    stages = [staged(bundle, paths, options.batch_s) for _ in range(options.repeats)]
    stage_s = {stage: statistics.median(run[stage] for run in stages) for stage in STAGES}
    result = {
        "hardware": hardware(bundle.device),
        "model": options.model,
        "files": len(paths),
        "audio_s": round(audio_s, 1),
        "batch_s": options.batch_s,
        "repeats": options.repeats,
        "seconds": {"all": round(all_s, 3), **{k: round(v, 3) for k, v in stage_s.items()}},
        "audio_s_per_s": {
            "all": round(audio_s / all_s, 1),
            **{stage: round(audio_s / seconds, 1) for stage, seconds in stage_s.items()},
        },
    }
    if options.json:
        print(json.dumps(result))
        return 0
    table = Table(title=f"{len(paths)} files, {audio_s / 60:.1f} minutes", title_justify="left")
    for column in ("stage", "seconds", "share", "audio s / s"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    total = sum(stage_s.values())
    for stage, seconds in stage_s.items():
        row = (f"{seconds:.2f}", f"{seconds / total:.0%}", f"{audio_s / seconds:,.0f}")
        table.add_row(stage, *row)
    table.add_section()
    table.add_row("in all", f"{all_s:.2f}", "", f"{audio_s / all_s:,.0f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(result["hardware"])
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"bench_transcribe: {error}")
