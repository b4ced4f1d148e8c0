"""What the jobs of a sweep came to: a table on the screen and in files, and a picture."""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from asr.commands.jobs import Varying, label
from asr.commands.results import Figures
from asr.files import explain_write_errors, write_atomically
from asr.scoring.rates import MEASURES
from asr.scoring.report import percent

ENDED = "ended"


@dataclass(frozen=True)
class Row:
    """A job: the values it has of what varies, its run, how it ended and why so, its figures.

    `is_rival`: whether its rates may be the best ones, set in bold.
    """

    varying: Varying
    run: Path
    split: str
    ended: str
    why: str = ""
    figures: Figures = field(default_factory=Figures)
    is_rival: bool = True


@dataclass(frozen=True)
class Cell:
    """A cell of the table."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Column:
    """A column of the table: fields of `Figures`, and how they are written.

    The lowest of rates is set in bold, where there are several.
    """

    title: str
    fields: tuple[str, ...]
    written: Callable[..., str]
    is_rate: bool = False

    def values(self, row: Row) -> list[Any]:
        """The row's fields; empty where one is not known."""
        values = [getattr(row.figures, name) for name in self.fields]
        return [] if None in values else values

    def cells(self, rows: Sequence[Row]) -> list[Cell]:
        """One for each row."""
        known = [row for row in rows if self.values(row)]
        rates = [self.values(row) for row in known if row.is_rival]
        lowest = min(rates) if self.is_rate and rates and len(known) > 1 else None
        return [
            Cell(self.written(*values), row.is_rival and values == lowest) if values else Cell("–")
            for row in rows
            for values in [self.values(row)]
        ]


def _columns(split: str) -> list[Column]:
    return [
        Column("parameters", ("parameters",), lambda count: f"{count / 1e6:.2f} M"),
        Column("best epoch", ("best_epoch", "epochs"), "{} of {}".format),
        Column("s an epoch", ("epoch_s",), "{:.1f}".format),
        Column("memory", ("peak_resident_bytes",), _gigabytes),
        Column("GPU memory", ("peak_cuda_bytes",), _gigabytes),
        Column("validation WER", ("validation_wer",), percent, is_rate=True),
        Column(f"{split} WER".strip(), ("wer",), percent, is_rate=True),
        Column("95 %", ("wer_low", "wer_high"), _interval),
        Column("CER", ("cer",), percent, is_rate=True),
        Column("validation PER", ("validation_per",), percent, is_rate=True),
        Column(f"{split} PER".strip(), ("per",), percent, is_rate=True),
        Column("95 %", ("per_low", "per_high"), _interval),
    ]


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB"


def _interval(low: float, high: float) -> str:
    return f"{percent(low).removesuffix(' %')} – {percent(high)}"


def cells(rows: Sequence[Row]) -> list[list[Cell]]:
    """The titles, then a list a row. Columns in which nothing is known are left out."""
    splits = {row.split for row in rows}
    columns = [
        column
        for column in _columns(splits.pop() if len(splits) == 1 else "")
        if any(column.values(row) for row in rows)
    ]
    table = [
        *([Cell(key), *(Cell(row.varying[key]) for row in rows)] for key in rows[0].varying),
        *([Cell(column.title), *column.cells(rows)] for column in columns),
    ]
    if any(row.ended != "done" for row in rows):
        ends = [Cell(f"{row.ended}: {row.why}" if row.why else row.ended) for row in rows]
        table.append([Cell(ENDED), *ends])
    return [list(line) for line in zip(*table, strict=True)]


def show(rows: Sequence[Row]) -> None:
    """Print the table on stdout."""
    # Lines for a program to read end nowhere; on a terminal cells wrap where they must.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)
    titles, *lines = cells(rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for position, title in enumerate(titles):
        is_text = position < len(rows[0].varying) or title.text == ENDED
        table.add_column(Text(title.text), justify="left" if is_text else "right", overflow="fold")
    for line in lines:
        table.add_row(*(Text(cell.text, style="bold" if cell.best else "") for cell in line))
    console.print(table)


def write(path: Path, rows: Sequence[Row]) -> list[Path]:
    """Write PATH.csv, PATH.md and, where there is a rate to show, PATH.png; which of them.

    Raises:
        UserError: they cannot be written.
    """
    with explain_write_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    table, page, picture = (path.with_name(path.name + end) for end in (".csv", ".md", ".png"))
    for file, text in ((table, as_csv(rows)), (page, as_markdown(rows))):
        with write_atomically(file) as stream:
            stream.write(text)
    if not any(_drawn(row.figures, measure)[0] is not None for row in rows for measure in MEASURES):
        return [table, page]
    draw(picture, rows)
    return [table, page, picture]


def as_csv(rows: Sequence[Row]) -> str:
    """A line a job with every figure as it is: seconds, bytes, shares of one."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [one.name for one in fields(Figures)]
    writer.writerow([*rows[0].varying, "run", "split", *names, ENDED, "why"])
    for row in rows:
        known = astuple(row.figures)
        writer.writerow(
            [*row.varying.values(), str(row.run), row.split, *known, row.ended, row.why]
        )
    return text.getvalue()


def as_markdown(rows: Sequence[Row]) -> str:
    """The table as it is printed."""
    titles, *lines = [
        [f"**{cell.text}**" if cell.best else cell.text.replace("|", "\\|") for cell in line]
        for line in cells(rows)
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in (titles, ["---"] * len(titles), *lines))


def draw(path: Path, rows: Sequence[Row]) -> None:
    """A bar a job, as a PNG: the split's WER with its interval, or validation's without."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + 0.4 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    words = any(_drawn(row.figures, "wer")[0] is not None for row in rows)
    measure = "wer" if words else "per"
    for position, row in enumerate(rows):
        rate, interval = _drawn(row.figures, measure)
        if rate is None:
            continue
        axes.barh(position, 100 * rate, color="#7fb3d1" if interval else "#d5e5ee")
        if interval:
            axes.plot([100 * end for end in interval], [position] * 2, color="black", marker="|")
    axes.set_yticks(range(len(rows)), [label(row.varying) for row in rows], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel(
        f"{measure.upper()}, %: blue, of the split with its 95 % interval; pale, of validation"
    )
    axes.grid(axis="x", alpha=0.3)
    with write_atomically(path, "wb") as stream:
        figure.savefig(stream, format="png", dpi=110)


def _drawn(figures: Figures, measure: str) -> tuple[float | None, list[float]]:
    """The rate on the split and its interval; of validation, without one, where that is unknown."""
    names = [measure, f"{measure}_low", f"{measure}_high"]
    rate, *interval = (getattr(figures, name) for name in names)
    if rate is None:
        rate, interval = getattr(figures, f"validation_{measure}"), []
    return (None, []) if rate is None or math.isinf(rate) else (rate, interval)
