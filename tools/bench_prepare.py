"""How fast `asr prepare` is, against nothing but decoding the same files with soundfile.

    python tools/bench_prepare.py mini_librispeech PATH --workers 2

Both sides have the same number of processes, which run before the clock starts (what starting took
is printed by itself), read the files from the page cache, and take turns; the fastest turn of each
counts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import soundfile

from asr.cluster.executor import Executor, LocalExecutor, RayExecutor
from asr.cluster.inputs import gather_inputs
from asr.cluster.preprocess import prepare_corpus
from asr.recipes import load_recipe, read_listing

CHUNK_FILES = 32


class Started(LocalExecutor):
    """An executor that runs already and goes on running."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.workers = executor.workers

    def map(
        self,
        worker: Callable[[Any], Any],
        items: Iterable[Any],
        limit_s: Callable[[Any], float] | None = None,
    ) -> Iterator[tuple[Any, Any]]:
        return self._executor.map(worker, items, limit_s)


def decode(path: str) -> float:
    """Seconds of audio in a file, all of it decoded."""
    samples, rate_hz = soundfile.read(path, dtype="float32")
    return len(samples) / rate_hz


def wake(seconds: float) -> None:
    """Keeps a process busy, so that the next task goes to another."""
    time.sleep(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("root")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--folder", help="where the corpus is written (default: the system's)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    options = parser.parse_args()

    listing = read_listing(load_recipe(options.recipe), options.root, {})
    inputs = gather_inputs(options.recipe, listing, "english")
    paths = sorted({utterance.audio for utterance in inputs.utterances})
    for path in paths:
        Path(path).read_bytes()

    bare_s, prepare_s = [], []
    hours = 0.0
    ray = RayExecutor(options.workers)
    with (
        multiprocessing.get_context("spawn").Pool(options.workers) as pool,
        ray,
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
    ):
        began = time.perf_counter()
        for _ in range(2):
            list(ray.map(wake, [0.5] * options.workers))
        start_s = ray.start_s + time.perf_counter() - began
        pool.map(wake, [0.5] * options.workers, chunksize=1)
        for _ in range(options.turns):
            began = time.perf_counter()
            hours = sum(pool.imap_unordered(decode, paths, CHUNK_FILES)) / 3600
            bare_s.append(time.perf_counter() - began)
            prepare_s.append(prepare_corpus(inputs, Path(folder) / "corpus", Started(ray)).seconds)
    found = {
        "recipe": options.recipe,
        "files": len(paths),
        "hours": hours,
        "workers": options.workers,
        "load_average": os.getloadavg()[0],
        "start_ray_s": start_s,
        "soundfile_s": bare_s,
        "prepare_s": prepare_s,
        "share": min(bare_s) / min(prepare_s),
    }
    if options.json:
        print(json.dumps(found))
        return
    print(f"{options.recipe}: {len(paths)} files, {hours:.2f} h, {options.workers} processes")
    for name, turns in (("soundfile alone", bare_s), ("asr prepare", prepare_s)):
        best_s = min(turns)
        every = ", ".join(f"{turn:.1f}" for turn in turns)
        print(
            f"  {name:<16}{best_s:7.1f} s{len(paths) / best_s:9.0f} files/s"
            f"{hours / best_s:9.3f} h of audio/s   (turns: {every})"
        )
    print(f"  starting Ray    {start_s:7.1f} s, not in the above")
    print(f"  asr prepare reaches {found['share']:.0%} of soundfile alone")


if __name__ == "__main__":
    main()
