"""Decoders that do not live beside asr: their environment, and what they found in it."""

from __future__ import annotations

import json
import os
import shutil
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
        written = [
            {
                **asdict(job),
                "symbols": task.units.symbols,
                "lm": str(folder / "lm.arpa") if job.words else None,
                "words": task.words if job.words else None,
            }
            for job in jobs
        ]
        (folder / "jobs.json").write_text(json.dumps(written), encoding="utf-8")
        files = [str(folder / file) for file in ("emissions.npz", "jobs.json", "found.json")]
        outside = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        done = subprocess.run(
            [str(python), str(SCRIPT), *files],
            capture_output=True,
            text=True,
            check=False,
            env={**outside, "OMP_NUM_THREADS": "1"},
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["it failed"])[-1]
            return [Result(reason=reason)] * len(jobs)
        found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return [Result(**one) for one in found]
