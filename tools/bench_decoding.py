"""How many utterances a second decoders get through, and how good a text each of them finds.

    python tools/bench_decoding.py MODEL CORPUS

Emissions are those of a character model for the test split of a corpus, and made-up ones
(`made_up_emissions.py` says how they are drawn); without MODEL and CORPUS these alone. Decoded are
texts without language model, and with a lexicon and a bigram: of the training texts, or of what the
made-up language says. One judge (`ctc_judge.py`) scores the best text of each: the exact log
probability of CTC, plus alpha times that of the bigram, plus beta a word.

`beam, narrow` is ours with pyctcdecode's thresholds. pyctcdecode and fast-ctc-decode are installed
into an environment of their own, in ~/.cache/asr, and run there. Ours decodes in threads, the
others in processes. Times are the fastest of three turns after one that does not count, in which
Numba compiles and pools start.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import jiwer
import numpy as np
import torch
from ctc_judge import score
from hardware import hardware
from made_up_emissions import Task, bigrams, made_up
from other_environment import Job, run_elsewhere
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.bundle import load
from asr.corpus import Corpus
from asr.decoding.beam import BeamDecoder
from asr.decoding.flashlight import FlashlightDecoder
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.lexicon import Lexicon
from asr.errors import UserError
from asr.units.characters import CharacterUnits
from asr.waveforms import waveform_of

ALPHA, BETA = 0.5, 0.5
# Those that pyctcdecode comes with; ours are 16 and 9.
NARROW = {"beam_threshold": 10.0, "token_threshold": 5.0}
AS_GOOD = 1e-3  # natural log by which a text may be worse than the best one
HOP_S = 0.04  # which no text depends on

Decoder = GreedyDecoder | BeamDecoder | FlashlightDecoder


@dataclass(frozen=True)
class Row:
    """One decoder's utterances a second, how good its texts are, or why it has none.

    `score` is the judge's, on average; `best` how many texts are as good as the best that any
    decoder found, `wer` in percent.
    """

    emissions: str
    words: bool
    decoder: str
    beam: int | None
    workers: int
    utterances_per_s: float = 0.0
    score: float = 0.0
    best: int = 0
    wer: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Growth:
    """Seconds of our search, as one size grows; `per_size` is relative to the smallest size's."""

    what: str
    size: int
    seconds: float
    per_size: float


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", help="a bundle whose units are characters")
    parser.add_argument("corpus", nargs="?", help="a prepared corpus")
    parser.add_argument("--beams", type=int, nargs="+", default=[10, 50, 100])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="threads, processes")
    parser.add_argument("--utterances", type=int, default=20, help="of the made-up ones")
    parser.add_argument("--turns", type=int, default=3, help="the fastest one counts")
    parser.add_argument("--ours", action="store_true", help="no decoders but those of asr")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it runs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if (options.model is None) != (options.corpus is None):
        parser.error("give MODEL and CORPUS, or neither")
    if options.quick:
        options.beams, options.turns, options.utterances = [4], 1, 3
    return options


def of_a_model(folder: str, corpus_folder: str) -> Task:
    """The test split's emissions, the lexicon's words and those of training.

    Raises:
        UserError: the model emits something else than characters, or a folder cannot be read.
    """
    bundle, corpus = load(folder), Corpus.open(corpus_folder)
    if not isinstance(bundle.units, CharacterUnits) or max(map(len, bundle.units.symbols[1:])) > 1:
        raise UserError(f"{folder}: the decoders that are compared need a model of characters.")
    split, seen = corpus.split("test"), corpus.split("train").texts
    items = []
    for position, name in enumerate(split.ids):
        emissions, lengths = bundle.emissions([waveform_of(split.waveform(position), name)])
        items.append(emissions[0, : lengths[0]].numpy())
    listed = {word for text in seen for word in text.split()}
    lexicon = Path(corpus_folder) / "lexicon.txt"
    if lexicon.exists():
        listed |= {entry.word for entry in Lexicon.read(lexicon, corpus.normaliser).entries}
    words = tuple(sorted(listed))
    name = f"{corpus.recipe}, V = {len(bundle.units.symbols)}"
    return Task(name, bundle.units, tuple(items), tuple(split.texts), words, bigrams(seen, words))


def seconds_of(call: Callable[[], object], turns: int) -> float:
    """The fastest of the turns."""
    taken = []
    for _ in range(turns):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return min(taken)


def decoder_of(task: Task, name: str, beam: int | None, words: bool) -> Decoder:
    if beam is None:
        return GreedyDecoder(task.units, HOP_S)
    given = {"lexicon": task.lexicon, "lm": task.lm, "alpha": ALPHA, "beta": BETA} if words else {}
    if name == "flashlight":
        return FlashlightDecoder(task.units, HOP_S, beam=beam, **given)  # type: ignore[arg-type]
    narrow = NARROW if name == "beam, narrow" else {}
    return BeamDecoder(task.units, HOP_S, beam=beam, **given, **narrow)  # type: ignore[arg-type]


_shared: tuple[FlashlightDecoder, tuple[np.ndarray, ...]]  # with processes that are forked


def _decode_shared(position: int) -> str:
    decoder, items = _shared
    return decoder.decode_one(items[position])[0].text


def decoded(
    task: Task, decoder: Decoder, workers: int, batch: tuple[Tensor, Tensor], turns: int
) -> tuple[list[str], float]:
    """The texts, and the seconds of the fastest turn."""
    global _shared
    if isinstance(decoder, FlashlightDecoder) and workers > 1:
        _shared = decoder, task.items
        positions = range(len(task.items))
        with multiprocessing.get_context("fork").Pool(workers) as pool:
            texts = pool.map(_decode_shared, positions, chunksize=1)
            return texts, seconds_of(
                lambda: pool.map(_decode_shared, positions, chunksize=1), turns
            )
    torch.set_num_threads(workers)
    texts = [nbest[0].text for nbest in decoder.decode(*batch)]
    return texts, seconds_of(lambda: decoder.decode(*batch), turns)


def batch_of(items: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Padded emissions [B, T', V], and lengths [B]."""
    lengths = torch.tensor([len(item) for item in items])
    return pad_sequence([torch.from_numpy(item) for item in items], batch_first=True), lengths


def compare(task: Task, words: bool, options: argparse.Namespace) -> list[Row]:
    """All decoders on one task, with or without lexicon and language model."""
    batch = batch_of(task.items)
    found: list[tuple[Row, list[str]]] = []

    def add(row: Row, texts: list[str], seconds: float) -> None:
        found.append((replace(row, utterances_per_s=len(task.items) / seconds), texts))

    names: list[tuple[str, int | None]] = [] if words else [("greedy", None)]
    ours = ("beam", "beam, narrow", "flashlight")
    names += [(name, beam) for beam in options.beams for name in ours]
    for name, beam in names:
        decoder = decoder_of(task, name, beam, words)
        for workers in options.workers:
            row = Row(task.name, words, name, beam, workers)
            add(row, *decoded(task, decoder, workers, batch, options.turns))
    others = [] if options.ours else ["pyctcdecode", *([] if words else ["fast-ctc-decode"])]
    jobs = [
        Job(name, beam, workers, options.turns, words, ALPHA, BETA)
        for beam in options.beams
        for name in others
        for workers in options.workers
    ]
    failed = []
    for job, result in zip(jobs, run_elsewhere(task, jobs), strict=True):
        row = Row(task.name, words, job.decoder, job.beam, job.workers)
        if result.reason:
            failed.append(replace(row, reason=result.reason))
        else:
            add(row, list(result.texts), result.seconds)
    return [*judged(task, words, found), *failed]


def judged(task: Task, words: bool, found: list[tuple[Row, list[str]]]) -> list[Row]:
    """The rows with the judge's scores of their texts."""
    known: dict[tuple[int, str], float] = {}
    lm, beta = (task.lm, BETA) if words else (None, 0.0)
    for _, texts in found:
        for key in enumerate(texts):
            if key not in known:
                known[key] = score(task.items[key[0]], task.units, key[1], lm, ALPHA, beta)
    top = np.full(len(task.items), -np.inf)
    for (position, _), value in known.items():
        top[position] = max(top[position], value)
    rows = []
    for row, texts in found:
        scores = np.array([known[key] for key in enumerate(texts)])
        best = int((scores >= top - AS_GOOD).sum())
        wer = 100 * jiwer.wer(list(task.texts), texts)
        rows.append(replace(row, score=float(scores.mean()), best=best, wer=float(wer)))
    return rows


def growth(options: argparse.Namespace) -> list[Growth]:
    """Our search with lexicon and language model, one size at a time, in one thread."""
    frames, beams, counts = [125, 250, 500, 1000], [10, 20, 50, 100, 200], [4, 8, 16]
    if options.quick:
        frames, beams, counts = [60, 120], [4, 8], [2, 4]
    torch.set_num_threads(1)
    rows: list[Growth] = []

    def add(what: str, sizes: Sequence[int], measure: Callable[[int], float]) -> None:
        measure(sizes[0])  # compiles
        taken = [measure(size) for size in sizes]
        first = taken[0] / sizes[0]
        rows.extend(
            Growth(what, size, seconds, seconds / size / first)
            for size, seconds in zip(sizes, taken, strict=True)
        )

    longest = made_up(frames[-1], 32, counts[-1])
    middle = frames[-2]

    def seconds(length: int, beam: int, count: int) -> float:
        batch = batch_of([item[:length] for item in longest.items[:count]])
        decoder = decoder_of(longest, "beam", beam, words=True)
        return seconds_of(lambda: decoder.decode(*batch), options.turns)

    add("frames", frames, lambda size: seconds(size, beams[-3:][0], 4))
    add("beam", beams, lambda size: seconds(middle, size, 4))
    add("utterances", counts, lambda size: seconds(middle, beams[-3:][0], size))
    return rows


def print_rows(rows: Sequence[Row], console: Console) -> None:
    """One table for each task, with and without words."""
    for emissions, words in dict.fromkeys((row.emissions, row.words) for row in rows):
        title = f"{emissions}, " + ("lexicon and bigram" if words else "without language model")
        table = Table(title=title)
        for column in ("decoder", "beam", "workers", "utterances/s", "score", "best", "WER"):
            table.add_column(column, justify="left" if column == "decoder" else "right")
        for row in rows:
            if (row.emissions, row.words) != (emissions, words):
                continue
            beam = "" if row.beam is None else str(row.beam)
            figures = [f"{row.utterances_per_s:.1f}", f"{row.score:.3f}", str(row.best)]
            figures.append(f"{row.wer:.2f} %")
            shown = [row.reason, "", "", ""] if row.reason else figures
            table.add_row(row.decoder, beam, str(row.workers), *shown)
        console.print(table)


def print_growth(rows: Sequence[Growth], console: Console) -> None:
    table = Table(title="growth of our search, lexicon and bigram, V = 32")
    for column in ("of", "size", "s", "for one, relative"):
        table.add_column(column, justify="left" if column == "of" else "right")
    for row in rows:
        table.add_row(row.what, str(row.size), f"{row.seconds:.3f}", f"{row.per_size:.2f}")
    console.print(table)


def main() -> int:
    options = parse()
    sizes = [(60, 8)] if options.quick else [(500, 32), (500, 1000)]
    tasks = [made_up(frames, symbols, options.utterances) for frames, symbols in sizes]
    if options.model is not None:
        tasks.insert(0, of_a_model(options.model, options.corpus))
    rows = [
        row for task in tasks for words in (False, True) for row in compare(task, words, options)
    ]
    grown = growth(options)
    torch.set_num_threads(max(options.workers))
    machine = hardware(torch.device("cpu"))
    if options.json:
        found = {"hardware": machine, "rows": rows, "growth": grown}
        print(json.dumps(found, default=asdict))
        return 0
    console = Console(width=None if sys.stdout.isatty() else 100)
    print_rows(rows, console)
    print_growth(grown, console)
    print(machine)
    return 0


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are forked
    sys.exit(main())
