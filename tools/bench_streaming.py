"""What a stream costs: the real-time factor, and a chunk of a new stream and of an old one.

    python tools/bench_streaming.py --threads 1

The model is `lstm_unidirectional` in its default size, with weights that nothing has trained, which
takes as long as a trained one. Noise is pushed in chunks. When a stream is as old as `--minutes`
says, it and a new one take turns, and the mean of each one's turns is shown. With one thread it is
the processor's time that counts, which other programs do not lengthen.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from hardware import hardware
from rich.console import Console
from rich.table import Table

from asr.features import SAMPLE_RATE_HZ, LogMel
from asr.models.ctc import CtcModel
from asr.models.lstm_unidirectional import UnidirectionalLstmEncoder
from asr.streaming import Stream
from asr.units.characters import CharacterUnits
from asr.units.symbols import BLANK

VOCABULARY_SIZE = 66  # AN4's
WARMING_UP, TURNS = 20, 400  # chunks


@dataclass(frozen=True)
class Cost:
    """Of chunks of `chunk_ms`; a real-time factor is seconds for a second of audio."""

    chunk_ms: int
    real_time_factor: float
    new_ms: float
    old_ms: float


def seconds_of(stream: Stream, chunk: np.ndarray) -> float:
    """How long a chunk takes."""
    alone = torch.get_num_threads() == 1  # the time of the process is then its only thread's
    clock = time.process_time if alone else time.perf_counter
    began = clock()
    stream.push(chunk)
    return clock() - began


def measure(network: CtcModel, chunk_ms: int, duration_s: float) -> Cost:
    """Push noise through one stream for `duration_s`, then on beside a new one."""
    units = CharacterUnits((BLANK, *(f"word{number}" for number in range(1, VOCABULARY_SIZE))))
    features = LogMel()
    generator = np.random.default_rng(0)
    size = chunk_ms * SAMPLE_RATE_HZ // 1000
    chunks = generator.normal(0, 0.1, (WARMING_UP + TURNS, size)).astype(np.float32)
    old, new = (Stream(network, features, units) for _ in range(2))
    for chunk in chunks[:WARMING_UP]:  # the very first have too few samples for a frame
        old.push(chunk)
        new.push(chunk)
    count = round(1000 * duration_s / chunk_ms)
    taken_s = sum(seconds_of(old, chunks[number % len(chunks)]) for number in range(count))
    turns_s = [(seconds_of(new, chunk), seconds_of(old, chunk)) for chunk in chunks[WARMING_UP:]]
    new_s, old_s = (statistics.mean(turns) for turns in zip(*turns_s, strict=True))
    return Cost(chunk_ms, taken_s / (count * chunk_ms / 1000), 1000 * new_s, 1000 * old_s)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--chunk-ms", type=int, nargs="+", default=[100])
    parser.add_argument("--minutes", type=float, default=10.0, help="of audio, for each size")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    sizes = {"hidden": 16, "channels": 4} if options.quick else {}
    network = CtcModel(UnidirectionalLstmEncoder(80, **sizes), VOCABULARY_SIZE)
    duration_s = 2.0 if options.quick else 60 * options.minutes
    costs = [measure(network, chunk_ms, duration_s) for chunk_ms in options.chunk_ms]
    machine = hardware(torch.device("cpu"))
    if options.json:
        print(json.dumps({"hardware": machine, "costs": [asdict(cost) for cost in costs]}))
        return 0
    table = Table(title=f"Streams of {duration_s / 60:.3g} minutes", title_justify="left")
    for column in ("chunk ms", "real-time factor", "new stream ms", "old stream ms"):
        table.add_column(column, justify="right")
    for cost in costs:
        figures = (f"{cost.real_time_factor:.3f}", f"{cost.new_ms:.2f}", f"{cost.old_ms:.2f}")
        table.add_row(str(cost.chunk_ms), *figures)
    Console(highlight=False).print(table)
    print(machine)
    return 0


if __name__ == "__main__":
    sys.exit(main())
