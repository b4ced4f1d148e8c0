"""How fast a model transcribes: seconds of audio a second, in all and in each stage.

    python tools/bench_transcribe.py runs/an4/base/model PATH/an4/wav/an4test_clstk
    python tools/bench_transcribe.py runs/an4/base/model PATH/an4/wav --archive 1000
    python tools/bench_transcribe.py --made-up 100000

In all: `Bundle.transcribe` from paths to transcripts, the model loaded, files in the disk's cache.
The stages are timed in a run of their own: read (the files' bytes), decode (files to waveforms,
reading them included), features, network, search, write (text and JSON, durable per batch). The
median of `--repeats` runs is shown.

With `--archive` the recordings are repeated, 3 % of them broken, and transcribed in a plain loop
and by what is behind `asr transcribe -o`, with one worker in this process, one and two on Ray.
With `--made-up` there are no recordings and no model: what is left is the journal and the
scheduling, without outputs and with them.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import machinery
import torch
from arguments import at_least
from hardware import hardware
from made_up_files import Machinery
from memory_plot import draw
from rich.console import Console
from rich.table import Table

from asr import audio, registry
from asr.bundle import Bundle, load
from asr.decoding.hypothesis import Transcript
from asr.errors import UserError
from asr.files import Together
from asr.inputs import find_recordings
from asr.recognition import transcript_of
from asr.waveforms import batches_by_length

STAGES = ("read", "decode", "features", "network", "search", "write")


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
    with stage("read"):
        for path in paths:
            Path(path).read_bytes()
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
                nbest_lists = bundle.search.decode(emissions, lengths)
        transcripts = [
            transcript_of(str(paths[position]), durations[position], nbest)
            for position, nbest in zip(batch, nbest_lists, strict=True)
        ]
        with stage("write"), tempfile.TemporaryDirectory(prefix="outputs-") as folder:
            write(transcripts, Path(folder))
    return stage.seconds


def write(transcripts: Sequence[Transcript], folder: Path) -> None:
    """Text and JSON of each, on the disk, as a worker writes them."""
    with Together(folder) as outputs:
        for number, transcript in enumerate(transcripts):
            for name in ("txt", "json"):
                stream = io.StringIO()
                registry.find("formats", name)().write(transcript, stream)
                outputs.add(folder / f"{number}.{name}", stream.getvalue().encode())
        outputs.finish()


def whole(bundle: Bundle, paths: list[Path], batch_s: float) -> tuple[float, float]:
    """Seconds of audio, and seconds that transcribing it took."""
    began = time.perf_counter()
    transcripts = bundle.transcribe(paths, batch_s)
    seconds = time.perf_counter() - began
    return sum(transcript.duration_s for transcript in transcripts), seconds


def stages(options: argparse.Namespace, paths: list[Path]) -> dict[str, Any]:
    """In all and by stage."""
    bundle = load(options.model, options.device)
    bundle.transcribe(paths[:4])  # the first call sets libraries up
    runs = [whole(bundle, paths, options.batch_s) for _ in range(options.repeats)]
    audio_s = runs[0][0]
    all_s = statistics.median(seconds for _, seconds in runs)
    timed = [staged(bundle, paths, options.batch_s) for _ in range(options.repeats)]
    stage_s = {stage: statistics.median(run[stage] for run in timed) for stage in STAGES}
    cores = torch.get_num_threads() if bundle.device.type == "cpu" else 1
    return {
        "hardware": hardware(bundle.device),
        "model": options.model,
        "files": len(paths),
        "audio_s": round(audio_s, 1),
        "batch_s": options.batch_s,
        "repeats": options.repeats,
        "binds": max(stage_s, key=stage_s.__getitem__),
        "hours_an_hour_and_core": round(audio_s / all_s / cores, 1),
        "seconds": {"all": round(all_s, 3), **{k: round(v, 3) for k, v in stage_s.items()}},
        "audio_s_per_s": {
            "all": round(audio_s / all_s, 1),
            **{stage: round(audio_s / seconds, 1) for stage, seconds in stage_s.items()},
        },
    }


def print_stages(found: dict[str, Any]) -> None:
    seconds, speeds = found["seconds"], found["audio_s_per_s"]
    title = f"{found['files']} files, {found['audio_s'] / 60:.1f} minutes"
    table = table_of(title, "stage", "seconds", "share", "audio s / s")
    total = sum(seconds[stage] for stage in STAGES)
    for stage in STAGES:
        share = f"{seconds[stage] / total:.0%}"
        table.add_row(stage, f"{seconds[stage]:.2f}", share, f"{speeds[stage]:,.0f}")
    table.add_section()
    table.add_row("in all", f"{seconds['all']:.2f}", "", f"{speeds['all']:,.0f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"{found['binds']} binds; {found['hours_an_hour_and_core']} hours of audio an hour and core"
    )
    console.print(found["hardware"])


def archive(options: argparse.Namespace, paths: list[Path]) -> dict[str, Any]:
    """The plain loop and the job: medians of each way."""
    runs = machinery.measure(
        options.model, paths, options.archive, options.repeats, not options.local
    )
    ways: dict[str, list[machinery.Timed]] = {}
    for run in runs:
        ways.setdefault(run.way, []).append(run)
    plain_s = statistics.median(run.seconds for run in ways["plain loop"])
    rows = []
    for way, of_way in ways.items():
        seconds = statistics.median(run.seconds for run in of_way)
        row = {
            "way": way,
            "seconds": round(seconds, 2),
            "of the plain loop": round(seconds / plain_s, 3),
            "audio_s_per_s": round(of_way[0].audio_s / seconds, 1),
            "steady": round(statistics.median(run.steady for run in of_way), 1),
            "files": of_way[0].files,
            "failed": of_way[0].failed,
            "stages": {stage: round(s, 2) for stage, s in of_way[0].stages.items()},
        }
        rows.append(row)
    return {"hardware": hardware(torch.device("cpu")), "files": options.archive, "ways": rows}


def print_archive(found: dict[str, Any]) -> None:
    title = f"{found['files']} files, {found['ways'][0]['failed']} of them broken"
    columns = (
        "way",
        "seconds",
        "to plain",
        "audio s / s",
        "steady",
        "waits, recognises, writes: s",
    )
    table = table_of(title, *columns)
    for row in found["ways"]:
        stages = ", ".join(f"{seconds:.1f}" for seconds in row["stages"].values())
        numbers = (row["seconds"], row["of the plain loop"], row["audio_s_per_s"], row["steady"])
        table.add_row(row["way"], *map(str, numbers), stages)
    console = Console(highlight=False, width=120)
    console.print(table)
    console.print(found["hardware"])


def made_up(options: argparse.Namespace) -> dict[str, Any]:
    """Journal and scheduling, without outputs and with them."""
    runs = [machinery_of(options.made_up, "none")]
    if options.outputs:
        runs.append(machinery_of(options.outputs, "outputs"))
    if options.plot:
        draw(options.plot, runs)
    rows = [
        {
            "files": run.files,
            "outputs": run.outputs,
            "plan_s": round(run.plan_s, 2),
            "work_s": round(run.work_s, 2),
            "files_a_second": round(run.files_a_second),
            "again_s": round(run.again_s, 2),
            "first_mib": round(run.memory[0][2], 1),
            "last_mib": round(run.memory[-1][2], 1),
        }
        for run in runs
    ]
    return {"hardware": hardware(torch.device("cpu")), "runs": rows}


def machinery_of(files: int, what: str) -> Machinery:
    """Measured in a process of its own, which has no torch."""
    script = str(Path(__file__).with_name("made_up_files.py"))
    command = [sys.executable, script, str(files), what]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Machinery(**json.loads(done.stdout))


def print_made_up(found: dict[str, Any]) -> None:
    columns = ("files", "outputs", "plan s", "work s", "files / s", "again s", "MiB, first", "last")
    table = table_of("made-up recordings, no model", *columns)
    for row in found["runs"]:
        first, second, *numbers = row.values()
        table.add_row(f"{first:,}", "2 each" if second else "none", *map(str, numbers))
    console = Console(highlight=False, width=120)
    console.print(table)
    console.print(found["hardware"])


def table_of(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for column in others:
        table.add_column(column, justify="right")
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", nargs="?", help="a trained model's folder")
    parser.add_argument("inputs", nargs="*", help="audio files, folders or globs")
    parser.add_argument("--batch-s", type=float, default=120.0, help="seconds of audio in a batch")
    parser.add_argument("--repeats", type=at_least(1), default=3)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--archive", type=at_least(2), metavar="N", help="an archive of so many files"
    )
    parser.add_argument("--local", action="store_true", help="of the archive nothing on Ray")
    parser.add_argument("--made-up", type=at_least(1), metavar="N", help="so many, without a model")
    parser.add_argument("--outputs", type=at_least(1), metavar="N", help="and so many with outputs")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="the driver's memory, made-up")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if options.made_up:
        found = made_up(options)
        show = print_made_up
    else:
        if not options.inputs:
            parser.error("a model and recordings are needed, or --made-up")
        recordings, failures = find_recordings(options.inputs)
        if failures or not recordings:
            raise UserError(failures[0].detail if failures else "There is no audio to transcribe.")
        paths = [Path(recording.path) for recording in recordings]
        found = archive(options, paths) if options.archive else stages(options, paths)
        show = print_archive if options.archive else print_stages
    if options.json:
        print(json.dumps(found))
    else:
        show(found)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"bench_transcribe: {error}")
