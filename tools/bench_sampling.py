"""What planning an epoch costs, how fast a batch of it is found, and what padding wastes.

    python tools/bench_sampling.py                          # ten million made-up utterances
    python tools/bench_sampling.py --corpus corpora/an4     # the training split of a corpus

Made-up durations are like LibriSpeech's in their mean (12.3 s: 961 hours in 281,241 utterances) and
their longest: log-normal about a median of 11.3 s, kept between 1 and 35 s. Speeds of 0.9, 1.0 and
1.1 are drawn and batches are shuffled, as in every epoch from the third on.

The plan is that of the first settings of `--waste`, each SECONDS/UTTERANCES of a batch at most. Its
memory is what the process held at most beyond what it held before, so the durations themselves do
not count. With several ranks each does its share of each batch, padded by itself. Padding is its
part of all frames of 10 ms; waiting is the part of the ranks' time in which they wait for the one
with the most frames, were time in proportion to frames.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from hardware import hardware
from rich.console import Console
from rich.table import Table

from asr.audio import SAMPLE_RATE_HZ
from asr.augment import Speed, perturbed_samples, utterance_keys
from asr.corpus import Corpus
from asr.data.sampler import BatchPlan, EpochPlan
from asr.errors import UserError

EPOCH = 3
FRAME_SAMPLES = SAMPLE_RATE_HZ // 100
MEDIAN_S, DEVIATION, SHORTEST_S, LONGEST_S = 11.3, 0.42, 1.0, 35.0
BLOCK = 2**20  # utterances that are made up at once
TURNS = 301


@dataclass(frozen=True)
class Cost:
    """Of one epoch's plan."""

    batches: int
    wall_s: float
    processor_s: float
    memory_mb: float


@dataclass(frozen=True)
class Waste:
    """Shares of all frames, and of all ranks' time."""

    batch_s: float
    max_utterances: int
    ranks: int
    batches: int
    padding: float
    waiting: float


def made_up(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples and keys of so many utterances: [N], [N]."""
    generator = np.random.default_rng(0)
    samples = np.empty(count, dtype=np.int64)
    keys = np.empty(count, dtype=np.uint64)
    for begin in range(0, count, BLOCK):
        block = slice(begin, min(begin + BLOCK, count))
        size = block.stop - begin
        durations_s = generator.lognormal(np.log(MEDIAN_S), DEVIATION, size)
        samples[block] = np.clip(durations_s, SHORTEST_S, LONGEST_S) * SAMPLE_RATE_HZ
        keys[block] = generator.integers(0, 2**64, size, dtype=np.uint64)
    return samples, keys


def memory_mb(name: str) -> float:
    """`VmRSS` is what the process holds, `VmHWM` the most that it held."""
    status = Path("/proc/self/status")
    found = re.search(rf"^{name}:\s*(\d+) kB$", status.read_text(), re.M) if status.exists() else ""
    if found:
        return int(found[1]) / 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # the most, for want of the other
    return largest / 2**20 if sys.platform == "darwin" else largest / 1024


def forget_peak() -> None:
    """From now on `VmHWM` is counted anew, where the system can do that."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def cost(plan: BatchPlan) -> Cost:
    """What planning an epoch takes."""
    forget_peak()
    before_mb = memory_mb("VmRSS")
    wall, processor = time.perf_counter(), time.process_time()
    batches = len(plan.epoch(EPOCH))
    wall_s, processor_s = time.perf_counter() - wall, time.process_time() - processor
    return Cost(batches, wall_s, processor_s, max(0.0, memory_mb("VmHWM") - before_mb))


def microseconds(call: Callable[[int], object], numbers: Sequence[int]) -> list[float]:
    """The median time of a call with each of the numbers, which take turns."""
    taken: dict[int, list[float]] = {number: [] for number in numbers}
    for _ in range(TURNS):
        for number in taken:
            began = time.perf_counter()
            call(number)
            taken[number].append(time.perf_counter() - began)
    return [1e6 * statistics.median(taken[number]) for number in numbers]


def waste(epoch: EpochPlan, ranks: int) -> Waste:
    """What padding and waiting cost where so many ranks share each batch."""
    plan = epoch.plan
    factors = plan.speed.draw(plan.seed, epoch.epoch, plan.keys[epoch.order])
    frames = perturbed_samples(plan.samples[epoch.order], factors) // FRAME_SAMPLES  # [N]
    sizes = np.diff(epoch.starts)  # [K]
    batches = np.repeat(np.arange(len(sizes)), sizes)  # [N]
    share_of = batches * ranks + (np.arange(len(frames)) - epoch.starts[batches]) % ranks  # [N]
    counts = np.bincount(share_of, minlength=len(sizes) * ranks)  # [K x ranks]
    longest = np.zeros_like(counts)
    np.maximum.at(longest, share_of, frames)
    padded = (counts * longest).reshape(len(sizes), ranks)  # [K, ranks]
    return Waste(
        batch_s=plan.batch_s,
        max_utterances=plan.max_utterances,
        ranks=ranks,
        batches=len(epoch),
        padding=1 - float(frames.sum() / padded.sum()),
        waiting=1 - float(padded.sum() / (padded.max(axis=1).sum() * ranks)),
    )


def settings(text: str) -> tuple[float, int]:
    """SECONDS/UTTERANCES."""
    seconds, _, utterances = text.partition("/")
    return float(seconds), int(utterances)


def table_of(wastes: Sequence[Waste]) -> Table:
    table = Table(title="what is wasted", title_justify="left")
    for column in ("batch s", "utterances", "ranks", "batches", "padding", "waiting"):
        table.add_column(column, justify="right")
    for row in wastes:
        table.add_row(
            *(f"{row.batch_s:g}", str(row.max_utterances), str(row.ranks), str(row.batches)),
            *(f"{row.padding:.1%}", f"{row.waiting:.1%}"),
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--utterances", type=int, default=10_000_000, help="to make up")
    parser.add_argument("--corpus", help="a prepared corpus, in place of made-up utterances")
    parser.add_argument(
        "--waste",
        nargs="+",
        type=settings,
        default=[(60.0, 16), (480.0, 128)],
        metavar="SECONDS/UTTERANCES",
    )
    parser.add_argument("--world", type=int, default=8, help="ranks that share a batch")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if options.corpus:
        split = Corpus.open(options.corpus).split("train")
        samples, keys = np.asarray(split.samples), utterance_keys(split.ids)
    else:
        samples, keys = made_up(options.utterances)
    batch_s, max_utterances = options.waste[0]
    plan = BatchPlan(samples, keys, batch_s, max_utterances, seed=1, speed=Speed())
    spent = cost(plan)
    epoch = plan.epoch(EPOCH)
    found_us = microseconds(epoch.__getitem__, (0, len(epoch) // 2, len(epoch) - 1))
    wastes = []
    for batch_s, max_utterances in options.waste:
        plan = replace(plan, batch_s=batch_s, max_utterances=max_utterances)
        epoch = plan.epoch(EPOCH)
        wastes += [waste(epoch, ranks) for ranks in (1, options.world)]
    machine = hardware(torch.device("cpu"))
    if options.json:
        result = {
            "hardware": machine,
            "utterances": len(samples),
            "hours": float(samples.sum()) / SAMPLE_RATE_HZ / 3600,
            "plan": asdict(spent),
            "found_us": found_us,
            "waste": [asdict(row) for row in wastes],
        }
        print(json.dumps(result))
        return
    hours = samples.sum() / SAMPLE_RATE_HZ / 3600
    print(f"{len(samples)} utterances, {hours:.1f} hours, {spent.batches} batches")
    print(
        f"plan: {spent.wall_s:.2f} s ({spent.processor_s:.2f} s of the processor), "
        f"{spent.memory_mb:.0f} MB"
    )
    first, middle, last = found_us
    print(f"found: the first batch in {first:.1f} µs, the middle one {middle:.1f}, last {last:.1f}")
    Console(highlight=False).print(table_of(wastes))
    print(machine)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"bench_sampling: {error}")
