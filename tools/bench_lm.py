"""What a language model costs: words a second, peak memory, size, and queries a second.

    python tools/bench_lm.py --words 1000000 10000000

The text is made up: each word is drawn from a Zipf distribution or follows from the word before, so
that n-grams repeat as they do in a language. `asr lm` runs in a process of its own, whose largest
resident set is shown; pages of its files that the system could take back are part of it. Queries
are those of sentences with the model's own words, one after the other in one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from arguments import at_least
from hardware import hardware
from rich.console import Console
from rich.table import Table

from asr.language.ngram import NgramModel

VOCABULARY = 200_000
SENTENCE = 20  # words
FOLLOWING = 0.6  # of the words depend on the one before
QUERIES = 200_000


@dataclass(frozen=True)
class Cost:
    """Of one model: from text to file, from file to memory, and of asking it."""

    words: int
    ngrams: int
    seconds: float
    peak_mb: float
    size_mb: float
    load_s: float
    queries_per_s: float


def write_text(path: Path, words: int, seed: int = 1) -> None:
    """Sentences of words named by their rank."""
    generator = np.random.default_rng(seed)
    names = np.array([f"w{rank}" for rank in range(VOCABULARY)], dtype=object)
    rows = 20_000  # sentences at a time
    with path.open("w", encoding="utf-8") as file:
        while words > 0:
            text = np.empty((min(rows, -(-words // SENTENCE)), SENTENCE), np.int64)
            before = np.zeros(len(text), np.int64)
            for position in range(SENTENCE):
                drawn = generator.zipf(1.2, len(text))
                follower = before * 7919 + generator.geometric(0.2, len(text)) * 104_729
                follows = generator.random(len(text)) < FOLLOWING
                before = np.where(follows, follower % 50_000, drawn % VOCABULARY)
                text[:, position] = before
            file.writelines(" ".join(row) + "\n" for row in names[text].tolist())
            words -= text.size


def measure(folder: Path, words: int, order: int, ending: str) -> Cost:
    """Make a model of a text of so many words, load and ask it."""
    text, target = folder / "text.txt", folder / f"lm{ending}"
    write_text(text, words)
    command = [
        sys.executable,
        "-m",
        "asr",
        "lm",
        str(text),
        "-o",
        str(target),
        "--order",
        str(order),
    ]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"asr lm ended with status {os.waitstatus_to_exitcode(status)}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    began = time.perf_counter()
    model = NgramModel.load(target)
    load_s = time.perf_counter() - began
    return Cost(
        words=words,
        ngrams=sum(model.counts),
        seconds=seconds,
        peak_mb=usage.ru_maxrss / unit,
        size_mb=target.stat().st_size / 1e6,
        load_s=load_s,
        queries_per_s=queries_per_second(model),
    )


def queries_per_second(model: NgramModel) -> float:
    """How many words a second a sentence of the model's words is asked for."""
    generator = np.random.default_rng(2)
    sentence = [model.words[rank % len(model.words)] for rank in generator.zipf(1.2, QUERIES)]
    model.score(sentence[:10])  # the first call compiles
    began = time.perf_counter()
    model.score(sentence)
    return QUERIES / (time.perf_counter() - began)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--words", type=at_least(1), nargs="+", default=[1_000_000])
    parser.add_argument("--order", type=at_least(1), default=3)
    parser.add_argument("--format", choices=["arpa", "arpa.gz", "bin"], default="arpa")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        costs = [
            measure(Path(folder), words, options.order, f".{options.format}")
            for words in options.words
        ]
    machine = hardware(torch.device("cpu"))
    if options.json:
        print(json.dumps({"hardware": machine, "costs": [asdict(cost) for cost in costs]}))
        return 0
    title = f"asr lm --order {options.order}, to .{options.format}"
    table = Table(title=title, title_justify="left")
    columns = ("words", "n-grams", "s", "words/s", "peak MB", "MB", "loads s", "queries/s")
    for column in columns:
        table.add_column(column, justify="right")
    for cost in costs:
        table.add_row(
            f"{cost.words:,}",
            f"{cost.ngrams:,}",
            f"{cost.seconds:.1f}",
            f"{cost.words / cost.seconds:,.0f}",
            f"{cost.peak_mb:,.0f}",
            f"{cost.size_mb:,.1f}",
            f"{cost.load_s:.3f}",
            f"{cost.queries_per_s:,.0f}",
        )
    Console(highlight=False, width=100).print(table)
    print(machine)
    return 0


if __name__ == "__main__":
    sys.exit(main())
