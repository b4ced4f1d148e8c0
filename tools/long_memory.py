"""What recurrent cells learn about what was long ago: the adding problem.

    python tools/long_memory.py

`tools/adding_problem.py` says what is asked of them. `full` propagates the error back through the
whole sequence, `cut K` through its last K steps, from the state that those before leave behind. As
the loss stands at the end, that is what it comes to if the state, but no gradient, is carried on
past every K-th step. Every training sequence is drawn anew, so the mean loss of the latest ones is
what unseen ones would give; a training ends where it falls below LEARNT_MSE, or after `--updates`.

A finished training is a line in `--results` and is not done again: the command can be stopped and
goes on where it was. Table and picture show all trainings of that file that have these sizes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from adding_problem import (
    BASELINE_MSE,
    CELLS,
    LEARNT_MSE,
    WINDOW_UPDATES,
    Setting,
    Training,
    train,
)
from arguments import at_least
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.console import Console
from rich.table import Table

from asr.errors import UserError
from asr.files import write_atomically

COLOURS = {
    "rnn": "tab:red", "gru": "tab:green", "lstm": "tab:blue", "lstm_chrono": "tab:purple",
}  # fmt: skip


def read_results(path: Path) -> dict[Setting, Training]:
    """The trainings that a file of results holds.

    Raises:
        UserError: a line is none.
    """
    found = {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            fields = json.loads(line)
            setting = Setting(**fields.pop("setting"))
            found[setting] = Training(setting=setting, **fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"{path}, line {number}, is no training of this tool: name another --results"
            ) from error
    return found


def write_results(path: Path, trainings: Iterable[Training]) -> None:
    """One JSON object a line; a reader finds all of it or what was there before."""
    with write_atomically(path) as stream:
        stream.writelines(json.dumps(asdict(training)) + "\n" for training in trainings)


def settings_of(options: argparse.Namespace) -> list[Setting]:
    """The trainings that were asked for, in the order in which they are done."""
    return [
        Setting(
            model=model,
            length=length,
            truncate=truncate,
            seed=seed,
            updates=options.updates,
            hidden=options.hidden,
            batch=options.batch,
            learning_rate=options.learning_rate,
            test_sequences=options.test,
        )
        for length in options.lengths
        for seed in options.seeds
        for model in options.models
        for truncate in options.truncate
    ]


def alike(trainings: Iterable[Training], wanted: Sequence[Setting]) -> list[Training]:
    """Those whose sizes are the wanted ones', whatever their length, cell, seed and propagation."""

    def sizes(one: Setting) -> Setting:
        return replace(one, model="", length=0, truncate=0, seed=0)

    kept = [training for training in trainings if sizes(training.setting) == sizes(wanted[0])]
    models = list(CELLS)
    return sorted(
        kept,
        key=lambda training: (
            training.setting.length,
            models.index(training.setting.model),
            training.setting.truncate,
            training.setting.seed,
        ),
    )


def spread(values: Sequence[float], form: str) -> str:
    """The median of the seeds, and the least and the largest where they are others."""
    least, median, largest = min(values), statistics.median_high(values), max(values)
    shown = f"{median:{form}}"
    return shown if least == largest else f"{shown} ({least:{form}}–{largest:{form}})"


def print_table(trainings: Sequence[Training]) -> None:
    """A row for the seeds of each length, cell and propagation; updates and time are medians."""
    groups: dict[tuple[int, str, str], list[Training]] = {}
    for training in trainings:
        setting = training.setting
        groups.setdefault((setting.length, setting.model, setting.propagation), []).append(training)
    table = Table(title=f"adding problem; always 1: {BASELINE_MSE:.4f}", title_justify="left")
    for column in ("steps", "cell", "propagation"):
        table.add_column(column)
    for column in ("learnt", "test MSE", "updates", "sequences", "processor s"):
        table.add_column(column, justify="right")
    above = None
    for (length, model, propagation), seeds in groups.items():
        if above not in (None, length):
            table.add_section()
        above = length
        table.add_row(
            *(str(length), model, propagation),
            f"{sum(seed.learnt_at is not None for seed in seeds)} of {len(seeds)}",
            spread([seed.test_mse for seed in seeds], ".4f"),
            spread([seed.updates for seed in seeds], "d"),
            f"{statistics.median_high(seed.updates * seed.setting.batch for seed in seeds):,}",
            f"{statistics.median_high(seed.processor_s for seed in seeds):.0f}",
        )
    Console(highlight=False, width=120).print(table)


def draw(path: Path, trainings: Sequence[Training]) -> None:
    """The curves of each length, a line a training."""
    lengths = list(dict.fromkeys(training.setting.length for training in trainings))
    figure = Figure(figsize=(3.2 * len(lengths) + 1, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(lengths), sharey=True, squeeze=False)[0]
    for axes, length in zip(panels, lengths, strict=True):
        for training in trainings:
            setting = training.setting
            if setting.length == length:
                axes.plot(
                    range(WINDOW_UPDATES, training.updates + 1, WINDOW_UPDATES),
                    training.curve,
                    color=COLOURS[setting.model],
                    linestyle="--" if setting.truncate else "-",
                    linewidth=1.2,
                )
        axes.axhline(BASELINE_MSE, color="grey", linewidth=0.8, linestyle=":")
        axes.axhline(LEARNT_MSE, color="grey", linewidth=0.8, linestyle=":")
        axes.set(title=f"{length} steps", xlabel="updates", yscale="log")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("mean squared error")
    models = dict.fromkeys(training.setting.model for training in trainings)
    ways = {training.setting.propagation: training.setting.truncate for training in trainings}
    handles = [Line2D([], [], color=COLOURS[model], label=model) for model in models]
    handles += [
        Line2D([], [], color="grey", linestyle="--" if truncate else "-", label=propagation)
        for propagation, truncate in ways.items()
    ]
    figure.legend(handles=handles, loc="outside right center", fontsize=8)
    with write_atomically(path, "wb") as stream:
        figure.savefig(stream, format="png", dpi=110)


def parse() -> argparse.Namespace:
    """The options of the command line; with `--quick`, tiny sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lengths", type=at_least(2), nargs="+", default=[100, 500, 1000, 5000])
    parser.add_argument("--models", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--seeds", type=at_least(1), nargs="+", default=[1])
    parser.add_argument(
        "--truncate", type=at_least(0), nargs="+", default=[0, 50], help="K, or 0 for full"
    )
    parser.add_argument("--updates", type=at_least(WINDOW_UPDATES), default=2500, help="at most")
    parser.add_argument("--hidden", type=at_least(1), default=32)
    parser.add_argument("--batch", type=at_least(1), default=32, help="sequences of an update")
    parser.add_argument("--learning-rate", type=float, default=0.03, help="of Adam")
    parser.add_argument("--test", type=at_least(1), default=1000, help="sequences tested on")
    parser.add_argument("--results", type=Path, default=Path("long_memory.jsonl"))
    parser.add_argument("-o", "--output", type=Path, help="a PNG of the curves")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if options.quick:
        options.lengths, options.truncate, options.seeds = [10, 20], [0, 5], options.seeds[:1]
        options.updates, options.hidden, options.batch, options.test = WINDOW_UPDATES, 4, 4, 50
    return options


def run(options: argparse.Namespace) -> list[Training]:
    """Do what is wanted and not yet in the file of results; all of that file's alike trainings."""
    wanted = settings_of(options)
    done = read_results(options.results)
    missing = [setting for setting in wanted if setting not in done]
    for number, setting in enumerate(missing, 1):
        training = done[setting] = train(setting)
        write_results(options.results, done.values())
        print(
            f"{number} of {len(missing)}: {setting.length} steps, {setting.model}, "
            f"{setting.propagation}, seed {setting.seed}: test MSE {training.test_mse:.4f} "
            f"after {training.updates} updates, {training.processor_s:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    return alike(done.values(), wanted)


def main() -> int:
    options = parse()
    torch.set_num_threads(1)  # more are no faster at these sizes, and sum in another order
    try:
        trainings = run(options)
        if options.output:
            draw(options.output, trainings)
    except UserError as error:
        print(f"long_memory: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([asdict(training) for training in trainings]))
    else:
        print_table(trainings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
