"""Decoders that do not live beside asr: their environment, and what they found in it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from made_up_emissions import Task

from asr.language.arpa import write_arpa

DECODERS = ("pyctcdecode==0.5.0", "fast-ctc-decode==0.3.7")
LANGUAGE_MODELS = "kenlm==0.3.0"  # which pip compiles
PATIENCE_S = 120.0  # with a decoder at one width
SCRIPT = Path(__file__).with_name("other_decoders.py")


@dataclass(frozen=True)
class Job:
    """A decoder, how wide, with how many processes, how often, with words or without."""

    decoder: str
    beam: int
    workers: int
    turns: int
    words: bool
    alpha: float
    beta: float


@dataclass(frozen=True)
class Result:
    """The texts and the seconds of the fastest turn, or why there are none."""

    texts: tuple[str, ...] = ()
    seconds: float = 0.0
    reason: str = ""


def environment() -> tuple[Path | None, str]:
    """The Python of the environment, which is made where there is none; or why there is none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "asr" / f"decoders-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin" / "python"
    finished = folder / "finished"
    if finished.exists():
        return python, ""
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.defpath]))
    uv = uv or shutil.which("uv")
    if uv is None:
        return None, "uv is not installed"
    print(f"pyctcdecode, fast-ctc-decode and kenlm are installed into {folder}", file=sys.stderr)
    install = [uv, "pip", "install", "--quiet", "--python", str(python)]
    for words in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
        [*install, *DECODERS],
    ):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            return None, (done.stderr.strip().splitlines() or ["uv failed"])[-1]
    subprocess.run([*install, LANGUAGE_MODELS], capture_output=True, check=False)
    finished.touch()
    return python, ""


def run_elsewhere(task: Task, jobs: Sequence[Job]) -> list[Result]:
    """The jobs' results, in their order."""
    if not jobs:
        return []
    python, reason = environment()
    if python is None:
        return [Result(reason=f"cannot be installed: {reason}")] * len(jobs)
    with tempfile.TemporaryDirectory(prefix="asr-") as name:
        folder = Path(name)
        named = {f"{position:06}": item for position, item in enumerate(task.items)}
        np.savez(folder / "emissions.npz", **named)  # type: ignore[arg-type]
        write_arpa(task.lm, folder / "lm.arpa")
        return [_run(python, folder, task, job) for job in jobs]


def _run(python: Path, folder: Path, task: Task, job: Job) -> Result:
    """One job, in a process of its own: pyctcdecode's caches grow to 14 GB and stay."""
    written = {
        **asdict(job),
        "symbols": task.units.symbols,
        "lm": str(folder / "lm.arpa") if job.words else None,
        "words": task.words if job.words else None,
    }
    (folder / "job.json").write_text(json.dumps(written), encoding="utf-8")
    files = [str(folder / file) for file in ("emissions.npz", "job.json", "found.json")]
    outside = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    process = subprocess.Popen(
        [str(python), str(SCRIPT), *files],
        stderr=subprocess.PIPE,
        text=True,
        env={**outside, "OMP_NUM_THREADS": "1"},
        start_new_session=True,  # so that its own processes end with it
    )
    try:
        _, said = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return Result(reason=f"more than {PATIENCE_S:.0f} s for {len(task.items)} utterances")
    if process.returncode:
        return Result(reason=(said.strip().splitlines() or ["it failed"])[-1])
    return Result(**json.loads((folder / "found.json").read_text(encoding="utf-8")))
