"""What recurrent cells learn about what was long ago: the adding problem.

    python tools/long_memory.py

Each step has two inputs, a value drawn evenly from [0, 1] and a marker. One step in the first half
of the sequence is marked, and one in the second; the target, asked for after the last step, is
the sum of the two marked values (Hochreiter and Schmidhuber 1997, experiment 4, in the form of
Arjovsky et al. 2016). Who always answers 1 has a mean squared error of 1/6.

`full` propagates the error back through the whole sequence. `cut K` carries the state on from one
stretch of K steps to the next, but no gradient, so that what was before the last K steps teaches
nothing. Every training sequence is drawn anew, so the mean loss of the latest ones is what unseen
ones would give; a training ends where it falls below LEARNT_MSE, or after `--updates`.

A finished training is a line in `--results` and is not done again: the command can be stopped and
goes on where it was. Table and picture show all trainings of that file that have these sizes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from hardware import hardware
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from asr.errors import UserError
from asr.files import write_atomically
from asr.models.gru import GruEncoder
from asr.models.lstm import LstmEncoder
from asr.models.recurrent import start_cell
from asr.models.rnn import RnnEncoder

CELLS = {
    "rnn": RnnEncoder.cell,
    "gru": GruEncoder.cell,
    "lstm": LstmEncoder.cell,
    "lstm_chrono": LstmEncoder.cell,
}
COLOURS = {
    "rnn": "tab:red", "gru": "tab:green", "lstm": "tab:blue", "lstm_chrono": "tab:purple",
}  # fmt: skip
BASELINE_MSE = 1 / 6  # the variance of the sum of two values drawn evenly from [0, 1]
LEARNT_MSE = 0.01
WINDOW_UPDATES = 50  # whose mean loss is a point of the curve
CLIP_NORM = 1.0
TEST_SEED = 0  # of the sequences that no training draws
TEST_BATCH = 250


@dataclass(frozen=True)
class Setting:
    """One training. `truncate` is K, 0 for full back-propagation through time."""

    model: str
    length: int
    truncate: int
    seed: int
    updates: int
    hidden: int
    batch: int
    learning_rate: float
    test_sequences: int

    @property
    def propagation(self) -> str:
        return f"cut {self.truncate}" if self.truncate else "full"


@dataclass(frozen=True)
class Training:
    """What came of it.

    `curve` is the mean squared error over each stretch of WINDOW_UPDATES, `learnt_at` the updates
    after which it fell below LEARNT_MSE, `processor_s` the processor's time.
    """

    setting: Setting
    test_mse: float
    updates: int
    learnt_at: int | None
    curve: list[float]
    processor_s: float
    hardware: str


def adding_problem(batch: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences [B, T, 2] of values and markers, and the sums of the marked values [B]."""
    values = torch.rand(batch, length, generator=generator)  # [B, T]
    half = length // 2
    first = torch.randint(0, half, (batch, 1), generator=generator)
    second = torch.randint(half, length, (batch, 1), generator=generator)
    marked = torch.cat([first, second], dim=1)  # [B, 2]
    markers = torch.zeros_like(values).scatter_(1, marked, 1.0)
    return torch.stack([values, markers], dim=2), values.gather(1, marked).sum(1)


def start_chrono(cell: nn.Module, longest: int) -> None:
    """Forget biases whose memories are as long as 1 to `longest` steps, evenly (Tallec 2018).

    An input gate's bias is the forget gate's, negative. Weights stay.
    """
    bias = cell.get_parameter("bias_ih_l0").data
    inputs, forgets, _, _ = bias.chunk(4)  # i, f, g, o
    forgets.copy_(torch.empty_like(forgets).uniform_(1.0, longest - 1.0).log())
    inputs.copy_(-forgets)


class Adder(nn.Module):
    """One layer of a member of the family, as it starts there, and a number at the end."""

    def __init__(self, model: str, hidden: int, longest: int) -> None:
        super().__init__()
        self.cell = CELLS[model](2, hidden)
        start_cell(self.cell, hidden)
        if model == "lstm_chrono":
            start_chrono(self.cell, longest)
        self.head = nn.Linear(hidden, 1)

    def forward(self, frames: Tensor, truncate: int) -> Tensor:
        """[B, T, 2] -> [B]. No gradient passes from one stretch of `truncate` steps to the next."""
        stretches = frames.split(truncate or frames.shape[1], dim=1)
        state = None
        with torch.no_grad():  # the state alone is carried on
            for stretch in stretches[:-1]:
                state = self.cell(stretch, state)[1]
        outputs = self.cell(stretches[-1], state)[0]  # [B, K, H]
        return self.head(outputs[:, -1])[:, 0]


def error_on_test(network: Adder, setting: Setting) -> float:
    """The mean squared error on sequences that are the same for all models and seeds."""
    generator = torch.Generator().manual_seed(TEST_SEED)
    frames, sums = adding_problem(setting.test_sequences, setting.length, generator)
    with torch.no_grad():
        answers = torch.cat([network(part, 0) for part in frames.split(TEST_BATCH)])
    return float((answers - sums).square().mean())


def train(setting: Setting) -> Training:
    """Train one network until it has learnt, or for all updates."""
    torch.manual_seed(setting.seed)
    network = Adder(setting.model, setting.hidden, setting.length)
    generator = torch.Generator().manual_seed(setting.seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=setting.learning_rate)
    began = time.process_time()
    losses: list[float] = []
    curve: list[float] = []
    learnt_at = None
    while len(losses) < setting.updates and learnt_at is None:
        frames, sums = adding_problem(setting.batch, setting.length, generator)
        loss = (network(frames, setting.truncate) - sums).square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
        optimiser.step()
        losses.append(loss.item())
        if len(losses) % WINDOW_UPDATES == 0:
            curve.append(statistics.fmean(losses[-WINDOW_UPDATES:]))
            if curve[-1] < LEARNT_MSE:
                learnt_at = len(losses)
    return Training(
        setting=setting,
        test_mse=error_on_test(network, setting),
        updates=len(losses),
        learnt_at=learnt_at,
        curve=curve,
        processor_s=time.process_time() - began,
        hardware=hardware(torch.device("cpu")),
    )


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


def at_least(least: int) -> Callable[[str], int]:
    """A number of the command line that is not below `least`."""

    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is below {least}")
        return int(text)

    return number


def parse() -> argparse.Namespace:
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
