"""`asr doctor`: what works on this machine, tried and not guessed, and what to do if not."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version

import asr
from asr.commands.devices import memory_bytes

GIB = 2**30
# What everything stands on, by the name that is imported and that of the distribution alike.
LIBRARIES = ("torch", "torchaudio", "lightning", "ray", "soundfile", "soxr", "pyarrow")
SETUP = "Set up again: make setup, or pip install ."


@dataclass(frozen=True)
class Row:
    """One thing looked at. `good` None means absent and not needed by most."""

    name: str
    good: bool | None
    found: str
    advice: str = ""


def doctor(as_json: bool) -> int:
    """Print the table; 1 where something that training or transcription needs does not work."""
    if sys.stderr.isatty():
        print("Trying libraries, devices and codecs: some seconds.", file=sys.stderr)
    rows = [*_python(), *_libraries(), *_torch(), *_machine(), *_codecs(), *_extras()]
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        _print_table(rows)
        lacking = [row.name for row in rows if row.good is False]
        print(
            f"Not fit yet: {', '.join(lacking)}." if lacking else "All that is needed works here."
        )
    return 1 if any(row.good is False for row in rows) else 0


def _python() -> Iterator[Row]:
    fits = (3, 10) <= sys.version_info[:2] <= (3, 12)
    yield Row(
        "Python",
        fits,
        f"{platform.python_version()} ({platform.system()} {platform.machine()})",
        "" if fits else "Use Python 3.10, 3.11 or 3.12.",
    )
    yield Row("asr", True, f"{asr.__version__} in {os.path.dirname(asr.__file__)}")


def _libraries() -> Iterator[Row]:
    """Each library really imported; Ray is not started."""
    for module in LIBRARIES:
        try:
            importlib.import_module(module)
            yield Row(module, True, version(module))
        except (ImportError, OSError) as error:  # OSError: a shared library that does not load
            yield Row(module, False, _first_line(error), SETUP)


def _torch() -> Iterator[Row]:
    """Devices, and the precisions that a small LSTM really trains in."""
    try:
        import torch
    except (ImportError, OSError):
        return
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            of = torch.cuda.get_device_properties(index)
            yield Row(f"CUDA {index}", True, f"{of.name}, {of.total_memory / GIB:.0f} GiB")
        yield _precision("cuda", "float16", "16-mixed")
        yield _precision("cuda", "bfloat16", "bf16-mixed")
    else:
        advice = "Training runs on the CPU. For a GPU: its driver, and a torch built for CUDA."
        yield Row("CUDA", None, "no device", advice)
    if torch.backends.mps.is_available():
        yield Row("MPS", True, "Apple's GPU")
    yield _precision("cpu", "float32", "32-true")
    yield _precision("cpu", "bfloat16", "bf16-mixed")
    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    yield Row("CPU", True, f"{cores} cores, {threads} threads used (trainer.threads)")


def _precision(device: str, dtype: str, setting: str) -> Row:
    """Run an LSTM forwards and backwards, as training does."""
    import torch

    name = f"precision {setting} on {device}"
    try:
        lstm = torch.nn.LSTM(8, 8, batch_first=True).to(device)
        inputs = torch.randn(2, 5, 8, device=device)
        mixed = dtype != "float32"
        with torch.autocast(device, dtype=getattr(torch, dtype) if mixed else None, enabled=mixed):
            outputs = lstm(inputs)[0]
        outputs.float().square().mean().backward()
        works = all(
            parameter.grad is not None and bool(parameter.grad.isfinite().all())
            for parameter in lstm.parameters()
        )
        found = "works" if works else "gradients are not finite"
    except (RuntimeError, NotImplementedError) as error:
        works, found = False, _first_line(error)
    needed = setting == "32-true"
    advice = "" if works else (SETUP if needed else "Use trainer.precision=32-true.")
    return Row(name, works or (False if needed else None), found, advice)


def _machine() -> Iterator[Row]:
    memory = memory_bytes()
    if memory is not None:
        enough = memory >= 4 * GIB
        advice = "" if enough else "Training wants 4 GiB: lower data.batch_s."
        yield Row("memory", enough or None, f"{memory / GIB:.1f} GiB", advice)
    free = shutil.disk_usage(".").free
    enough = free >= GIB
    advice = "" if enough else "Make room: a corpus takes 115 MB for each hour of audio."
    yield Row("free disk here", enough, f"{free / GIB:.1f} GiB", advice)


def _codecs() -> Iterator[Row]:
    """Write a tenth of a second in each codec, in memory, and read it back."""
    try:
        import numpy as np
        import soundfile
    except (ImportError, OSError):
        return
    tone = np.sin(np.arange(4800) * 0.05).astype(np.float32) / 2
    for ending, container, codec in (
        ("wav", "WAV", "PCM_16"),
        ("flac", "FLAC", "PCM_16"),
        ("sph", "NIST", "PCM_16"),
        ("mp3", "MP3", "MPEG_LAYER_III"),
        ("ogg", "OGG", "VORBIS"),
        ("opus", "OGG", "OPUS"),
    ):
        file = io.BytesIO()
        try:
            soundfile.write(file, tone, 48_000, format=container, subtype=codec)
            file.seek(0)
            samples, _ = soundfile.read(file)
            works = len(samples) > 0
            found = "read" if works else "reads as silence of no length"
        except (soundfile.SoundFileError, ValueError, TypeError) as error:
            works, found = False, _first_line(error)
        advice = "" if works else "pip install -U soundfile, whose wheel brings libsndfile 1.1."
        yield Row(f"audio .{ending}", works or (False if ending == "wav" else None), found, advice)


def _extras() -> Iterator[Row]:
    """What only some need."""
    for name, module, advice in (
        ("made-up speech (recipe=synth)", "espeakng_loader", "pip install '.[synth]'"),
        ("other audio and video (.m4a, .mp4)", "torchcodec", "pip install torchcodec, and FFmpeg"),
    ):
        there = importlib.util.find_spec(module) is not None
        yield Row(name, there or None, "installed" if there else "absent", "" if there else advice)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _print_table(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    marks = {True: "[green]good[/]", False: "[red]missing[/]", None: "[yellow]optional[/]"}
    table = Table(title=f"asr {asr.__version__} on this machine", title_justify="left")
    for column in ("what", "state", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(escape(row.name), marks[row.good], escape(row.found), escape(row.advice))
    Console().print(table)
