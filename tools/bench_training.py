"""Where the time of training goes, and how it compares: five benchmarks, of which one at a time.

    python tools/bench_training.py recipe=an4 trainer.threads=1
    python tools/bench_training.py recipe=an4 trainer.threads=1 --against-loop
    python tools/bench_training.py recipe=an4 --ranks 2
    python tools/bench_training.py --resume
    python tools/bench_training.py --gpu-table

Takes the words that `asr train` takes, and for the first three a prepared corpus
(`prepare.folder=`, else `corpora/<recipe>`). It is `asr train` itself that runs, in a temporary
folder: nothing is left out that a real run does. Augmentation is on from the first epoch. With
several epochs, the first, in which libraries set themselves up, does not count.

Alone: where an epoch's time goes. Stages: loading (planning, and waiting for the next batch, which
a thread reads, changes in speed and pads while the step before computes), features (and what
augments them), forward (both losses included), backward, optimiser (clipping, step, average of the
weights), validation, saving (checkpoint and model), and the rest (Lightning, records, curves). The
training step is forward, backward and optimiser: at least 85 % of an epoch's wall time is what is
aimed at. The processor's time stands beside it: it is not lengthened by whatever else the machine
does. With one thread it is that of the thread that trains; with several the reading is in it.

--against-loop: seconds of audio trained on in a second, as metrics.csv has them, against a plain
loop around the same network in the same process, which finds the features of the same batches in
memory: forward, both losses, backward, clipping, step, average of the weights, and no more. They
take turns, epoch by epoch. At least 90 % of the loop is what is aimed at.

--ranks N: one process against N of one thread each, which share each batch, in turns.

--resume: the time from the start of a process to its first step, at step 10 and at step 100,000 of
an epoch of a million made-up utterances, in turns. Within 10 % is what is aimed at.

--gpu-table: throughput, memory and utilisation of a GPU at hidden 512 and 1024 and with the sizes
of AlgoPerf's DeepSpeech (batches of 256), in full and half precision, on made-up utterances; beside
them the time of the recurrent kernels alone. With --quick tiny sizes, which a CPU does too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import accelerator
import plain_loop
import resuming
import stages
import torch
from arguments import at_least
from hardware import hardware
from rich.console import Console
from rich.table import Table
from trainings import audio_rate, settings, train_apart

from asr.errors import UserError

STEP_AIM = 0.85
LOOP_AIM = 0.9
RESUME_AIM = 0.1


def table_of(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    """An empty one; columns of words stand left, those of figures right."""
    table = Table(title=title, title_justify="left")
    for column in left:
        table.add_column(column)
    for column in right:
        table.add_column(column, justify="right")
    return table


def show(*parts: Table | str) -> None:
    console = Console(highlight=False)
    for part in parts:
        console.print(part)


def where_time_goes(words: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """A row a stage, the mean of the epochs counted; below it, memory after each of all."""
    epochs = stages.profile(settings([*words, f"trainer.max_epochs={options.epochs}"]))
    counted = epochs[1:] or epochs
    wall = [epoch.wall_s for epoch in counted]
    processor = [epoch.processor_s for epoch in counted]
    result = {
        "step_share": stages.share(wall),
        "step_share_of_processor": stages.share(processor),
        "epochs": [asdict(epoch) for epoch in epochs],
    }
    if options.json:
        return result
    title = f"an epoch of {counted[0].steps} steps: the mean of {len(counted)}"
    table = table_of(title, ("stage",), ("wall s", "share", "processor s", "share"))
    for stage in (*stages.STAGES, "in all"):
        if stage == "in all":
            table.add_section()
        cells = []
        for times in (wall, processor):
            total = sum(sum(epoch.values()) for epoch in times)
            spent = total if stage == "in all" else sum(epoch[stage] for epoch in times)
            cells += [f"{spent / len(times):.2f}", f"{spent / total:.1%}"]
        table.add_row(stage, *cells)
    resident = ", ".join(f"{epoch.resident_mb:.0f}" for epoch in epochs)
    show(
        table,
        f"training step: {result['step_share']:.1%} of the wall time (at least {STEP_AIM:.0%} is "
        f"wanted), {result['step_share_of_processor']:.1%} of the processor's",
        f"resident after each epoch: {resident} MB",
    )
    return result


def against_loop(words: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """A row an epoch: seconds of audio in a second of both, on the clock and of the processor."""
    found = plain_loop.compare(settings([*words, f"trainer.max_epochs={options.epochs}"]))

    def row(epochs: Sequence[plain_loop.Comparison]) -> dict[str, float]:
        audio_s = sum(each.audio_s for each in epochs)
        training = audio_s / sum(each.training_s for each in epochs)
        loop = audio_s / sum(each.loop_s for each in epochs)
        processor_s = sum(each.training_processor_s for each in epochs)
        return {
            "training": training,
            "loop": loop,
            "ratio": training / loop,
            "ratio_of_processor": sum(each.loop_processor_s for each in epochs) / processor_s,
        }

    result = {**row(found[1:] or found), "epochs": [asdict(each) for each in found]}
    if options.json:
        return result
    columns = ("training", "plain loop", "ratio", "of the processor")
    table = table_of("seconds of audio in a second", ("epoch",), columns)
    rows = {str(number): row([each]) for number, each in enumerate(found, start=1)}
    for name, figures in {**rows, "from 2 on": row(found[1:] or found)}.items():
        training, loop, *ratios = figures.values()
        cells = [f"{training:.1f}", f"{loop:.1f}", *(f"{ratio:.1%}" for ratio in ratios)]
        table.add_row(name, *cells, end_section=name == str(len(found)))
    show(table, f"at least {LOOP_AIM:.0%} is wanted")
    return result


def ranks(words: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """A row a number of processes: seconds of audio in a second, the median of the turns."""
    rates: dict[int, list[float]] = {1: [], options.ranks: []}
    for _ in range(options.turns):
        for devices, found in rates.items():
            run = [f"trainer.max_epochs={options.epochs}", f"trainer.devices={devices}"]
            found.append(audio_rate(train_apart(["trainer.threads=1", *words, *run])))
    middle = {devices: statistics.median(found) for devices, found in rates.items()}
    result = {"rates": rates, "speed_up": middle[options.ranks] / middle[1]}
    if options.json:
        return result
    table = table_of(
        "seconds of audio in a second", ("processes",), ("median", "speed-up", "turns")
    )
    for devices, rate in middle.items():
        turns = ", ".join(f"{each:.1f}" for each in rates[devices])
        table.add_row(str(devices), f"{rate:.1f}", f"{rate / middle[1]:.2f}", turns)
    show(table)
    return result


def resume(words: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """A row a position: seconds until the first step, the median of the turns."""
    starts = resuming.measure(words, options.utterances, options.at, options.turns)
    early, late = starts[0], starts[-1]
    result = {
        "utterances": options.utterances,
        "starts": [asdict(start) for start in starts],
        "after_imports": late.after_imports_s / early.after_imports_s,
        "from_checkpoint": late.resume_s / early.resume_s,
    }
    if options.json:
        return result
    title = f"seconds until the first step, {options.utterances:,} utterances"
    columns = ("imports", "corpus", "from the checkpoint on", "after imports", "in all")
    table = table_of(title, ("at step",), columns)
    for start in starts:
        times = (start.imports_s, start.corpus_s, start.resume_s, start.after_imports_s)
        in_all_s = start.imports_s + start.after_imports_s
        table.add_row(str(start.position), *(f"{each:.2f}" for each in (*times, in_all_s)))
    show(
        table,
        f"after imports: {result['after_imports']:.1%} of the early one's "
        f"(within {RESUME_AIM:.0%} of it is wanted); "
        f"from the checkpoint on: {result['from_checkpoint']:.1%}",
    )
    return result


def gpu_table(words: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """A row a network and precision.

    Raises:
        UserError: there is no GPU, and the sizes are not tiny.
    """
    cuda = torch.cuda.is_available()
    if not cuda and not options.quick:
        raise UserError("--gpu-table needs a CUDA device; with --quick it tries itself on the CPU.")
    device = torch.device("cuda" if cuda else "cpu")
    rows = []
    for workload in accelerator.WORKLOADS:
        sized = accelerator.tiny(workload) if options.quick else workload
        for precision in accelerator.PRECISIONS if cuda else ("32-true",):
            steps = 2 if options.quick else options.steps
            rows.append(accelerator.measure(sized, words, precision, device, steps))
    result = {
        "published_utterances_per_s": accelerator.PUBLISHED_UTTERANCES_PER_S,
        "rows": [asdict(row) for row in rows],
    }
    if options.json:
        return result
    table = table_of(
        "training on made-up utterances",
        ("network", "precision"),
        ("utt/s", "audio s/s", "GB", "busy", "kernels alone"),
    )
    for row in rows:
        memory = "–" if row.memory_gb is None else f"{row.memory_gb:.1f}"
        busy = "–" if row.utilisation is None else f"{row.utilisation:.0%}"
        table.add_row(
            *(row.workload, row.precision, f"{row.utterances_per_s:.1f}"),
            *(f"{row.audio_s_per_s:.0f}", memory, busy, f"{row.kernels:.0%}"),
        )
    published = accelerator.PUBLISHED_UTTERANCES_PER_S
    show(table, f"AlgoPerf's own: {published} utterances/s with PyTorch on A100, TF32")
    return result


def parse() -> tuple[argparse.Namespace, Callable[..., dict[str, Any]]]:
    """The options, and which of the benchmarks they ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="as `asr train` takes them")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--against-loop", action="store_true", help="training and a plain loop")
    which.add_argument("--ranks", type=at_least(2), metavar="N", help="one process and N")
    which.add_argument("--resume", action="store_true", help="first steps early and late")
    which.add_argument("--gpu-table", action="store_true", help="networks on a GPU")
    parser.add_argument("--epochs", type=at_least(1), default=3, help="of a training")
    parser.add_argument("--turns", type=at_least(1), default=3, help="of --ranks and --resume")
    parser.add_argument("--utterances", type=at_least(1), default=1_000_000, help="of --resume")
    positions: list[int] = [10, 100_000]
    parser.add_argument("--at", type=at_least(1), nargs=2, default=positions, help="of --resume")
    parser.add_argument("--steps", type=at_least(1), default=40, help="of --gpu-table's epochs")
    parser.add_argument("--quick", action="store_true", help="of --gpu-table: tiny sizes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_intermixed_args()
    if options.against_loop:
        return options, against_loop
    if options.ranks:
        return options, ranks
    if options.resume:
        return options, resume
    return options, gpu_table if options.gpu_table else where_time_goes


def main() -> int:
    options, benchmark = parse()
    words = options.words
    if not words and benchmark in (where_time_goes, against_loop, ranks):
        words = ["recipe=an4"]
    result = benchmark(words, options)
    machine = hardware(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    if options.json:
        print(json.dumps({"hardware": machine, "settings": words, **result}))
    else:
        print(machine)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"bench_training: {error}")
