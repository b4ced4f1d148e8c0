"""What a search has come to: lines while it goes on, then a table, and a picture of all trials."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from asr.commands import comparison
from asr.commands.comparison import Row, as_csv, as_markdown
from asr.commands.results import Figures, read_training
from asr.commands.trials import DONE, FAILED, STOPPED_EARLY, Trial
from asr.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HIGHEST_PERCENT = 110.0  # of the picture: what inserts more words than are said is all the same


@dataclass(frozen=True)
class Look:
    """Of a curve in the picture, and what that means."""

    name: str
    colour: str
    width: float = 1.0
    end: str = ""


BEST = Look("the best", "#1d4f72", 2.2)
CUT = Look("not at its end yet", "#e0a030", end="x")
LOOKS = {
    DONE: Look("trained to the end", "#7fb3d1", 1.4),
    STOPPED_EARLY: Look("stopped early", "#bbbbbb", end="x"),
    FAILED: Look("failed", "#c0392b", end="x"),
}


class Display:
    """A line where a trial begins and ends, and on a terminal a bar for each that is running."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._total = len(trials)
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("trial {task.fields[number]}"),
            BarColumn(),
            TextColumn("epoch {task.completed}/{task.total}  {task.fields[rate]}"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._bars: dict[int, tuple[Trial, TaskID]] = {}

    def __enter__(self) -> Display:
        with contextlib.suppress(OSError):  # where nobody reads any more, what goes on goes on
            self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):
            self._progress.stop()

    def begin(self, trial: Trial) -> None:
        """It starts, or goes on."""
        epochs = trial.job.config.trainer.max_epochs
        bar = self._progress.add_task("", total=epochs, number=trial.number, rate="")
        self._bars[trial.number] = trial, bar
        self._say(trial, "")

    def end(self, trial: Trial) -> None:
        """It is over."""
        _, bar = self._bars.pop(trial.number)
        self._progress.remove_task(bar)
        best = trial.best
        rate = f", best {_rate(trial, best.rate)} in epoch {best.epoch}" if best else ""
        epochs = "1 epoch" if _epochs(trial) == 1 else f"{_epochs(trial)} epochs"
        self._say(trial, f": {trial.state} after {epochs}{rate}")

    def show(self) -> None:
        """How far those have come that are running."""
        for trial, bar in self._bars.values():
            if trial.reports:
                rate = _rate(trial, trial.reports[-1].rate)
                self._progress.update(bar, completed=_epochs(trial), rate=rate)

    def _say(self, trial: Trial, how: str) -> None:
        line = f"[{trial.number}/{self._total}] {trial.job}{how}"
        with contextlib.suppress(OSError):
            self._console.print(line, soft_wrap=True, markup=False)


def show(trials: Sequence[Trial]) -> None:
    """Print the table on stdout."""
    comparison.show(_rows(trials))


def write(folder: Path, trials: Sequence[Trial], again: str | None) -> list[Path]:
    """Write results.csv, results.md and, where there is something to draw, curves.png: which.

    `again` is the command that trains the best one again.
    """
    rows = _rows(trials)
    page = as_markdown(rows) + (f"\n```sh\n{again}\n```\n" if again else "")
    written = []
    for name, content in (("results.csv", as_csv(rows)), ("results.md", page)):
        written.append(folder / name)
        with write_atomically(written[-1]) as stream:
            stream.write(content)
    if any(trial.reports for trial in trials):
        written.append(folder / "curves.png")
        draw(written[-1], trials)
    return written


def draw(path: Path, trials: Sequence[Trial]) -> None:
    """The rate on validation against the epoch of every trial, as a PNG.

    Trials that came to their end have their numbers behind their curves; above stands the best one.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    ordered = [trial for trial in in_order(trials) if trial.reports]
    for trial in reversed(ordered):  # the best one above the others
        look = BEST if trial is ordered[0] and trial.state == DONE else LOOKS.get(trial.state, CUT)
        axes.plot(
            [report.epoch for report in trial.reports],
            [100 * report.rate for report in trial.reports],
            color=look.colour,
            linewidth=look.width,
            marker=look.end,
            markevery=[-1],
            label=look.name,
        )
    highest = max(100 * report.rate for trial in ordered for report in trial.reports)
    top = min(1.05 * highest, HIGHEST_PERCENT) or 1.0
    axes.set_ylim(0, top)
    _number(axes, [trial for trial in ordered if trial.state == DONE], top)
    if ordered[0].state == DONE:
        best = f"trial {ordered[0].number}: {ordered[0].job}"
        axes.set_title("\n".join(textwrap.wrap(best, 100)), fontsize=10, parse_math=False)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(f"{trials[0].rate_name.upper()} on validation, %")
    axes.grid(alpha=0.3)
    lines, names = axes.get_legend_handles_labels()
    once = dict(zip(names, lines, strict=True))
    axes.legend(list(once.values())[::-1], list(once)[::-1], loc="upper right")
    with write_atomically(path, "wb") as stream:
        figure.savefig(stream, format="png", dpi=110)


def _number(axes: Axes, trials: Sequence[Trial], top: float) -> None:
    """Their numbers behind their curves' ends, none upon another."""
    free = 0.0  # lowest place that is not taken, in percent
    for trial in sorted(trials, key=lambda trial: trial.reports[-1].rate):
        last = trial.reports[-1]
        place = max(100 * last.rate, free)
        free = place + 0.035 * top
        axes.annotate(
            str(trial.number),
            (last.epoch, place),
            xytext=(5, 0),
            textcoords="offset points",
            fontsize=9,
            verticalalignment="center",
            annotation_clip=False,
        )


def in_order(trials: Sequence[Trial]) -> list[Trial]:
    """The best first; those that came to their end before all others, the failed ones last."""
    rates = {trial.number: trial.best.rate for trial in trials if trial.best}
    return sorted(
        trials,
        key=lambda one: (
            one.state != DONE,
            one.state == FAILED,
            rates.get(one.number, float("inf")),
            one.number,
        ),
    )


def _rows(trials: Sequence[Trial]) -> list[Row]:
    return [_row(trial) for trial in in_order(trials)]


def _row(trial: Trial) -> Row:
    config, best = trial.job.config, trial.best
    figures = Figures()
    if trial.state == DONE:
        figures = read_training(config)
    elif best is not None:
        rate = {f"validation_{trial.rate_name}": best.rate}
        figures = Figures(best_epoch=best.epoch, epochs=_epochs(trial), **rate)  # type: ignore[arg-type]
    varying = {"trial": str(trial.number), **trial.job.varying}
    is_rival = trial.state == DONE
    return Row(varying, trial.run, config.split, trial.state, trial.why, figures, is_rival)


def _epochs(trial: Trial) -> int:
    return trial.reports[-1].epoch if trial.reports else 0


def _rate(trial: Trial, share: float) -> str:
    return f"{trial.rate_name.upper()} {100 * share:.1f} %"
