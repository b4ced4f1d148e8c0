"""`asr gates`: what the gates of an LSTM did while it heard a recording, as a page or a picture."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from asr.commands.output import check_writable
from asr.description import read_description
from asr.errors import UserError
from asr.files import explain_write_errors, printable, write_atomically

if TYPE_CHECKING:
    from asr.gates.excerpt import Excerpt
    from asr.gates.figures import Figures
    from asr.gates.trace import CellTrace, Direction


def gates(
    model: str,
    recording: str,
    output: str | None,
    png: str | None,
    start_s: float,
    length_s: float,
    layer: int | None,
    direction: Direction,
) -> int:
    """Write the page `output` and the picture `png` of a recording, and print the figures; 0.

    `layer` and `direction` are those of the picture, which the page begins with; the last layer
    where none is given.

    Raises:
        UserError: there is no such model, it has no LSTM, the recording or the stretch of it cannot
            be used, there is no such layer, or a file cannot be written.
    """
    read_description(Path(model))  # a wrong model costs no second of loading torch
    targets = _targets(output, png, recording, Path(model))

    from asr.bundle import load
    from asr.gates.excerpt import read_excerpt
    from asr.gates.figures import OPEN, SHUT, figures
    from asr.gates.page import page
    from asr.gates.picture import draw
    from asr.gates.trace import trace

    excerpt = read_excerpt(recording, start_s, length_s, printable(recording))
    bundle = load(model)
    if not excerpt.whole:
        print(_shown(excerpt), file=sys.stderr)
    traced = trace(bundle, excerpt)
    cell = _chosen(traced.cells, layer, direction)
    name = f"{printable(model)} ({bundle.model['name']})"
    for target in targets:
        with explain_write_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
    if output is not None:
        with write_atomically(output) as stream:
            stream.write(page(traced, name, cell.layer, cell.direction))
    if png is not None:
        draw(Path(png), traced, cell, name)
    console = Console(highlight=False)
    said = f"“{traced.text}”" if traced.text else "nothing was emitted"
    console.print(escape(f"{excerpt.source}: {said}"), soft_wrap=True)
    console.print(_table([figures(one) for one in traced.cells], traced.step_s))
    console.print(
        "\nf, i, o: forget, input and output gate. Openness is a gate's mean value.\n"
        "Memory is −1 / ln(mean f) of a unit: median–90th percentile of the units.\n"
        f"Saturated is the share of values below {SHUT} or above {OPEN}.",
        soft_wrap=True,
    )
    written = " and ".join(printable(target) for target in targets)
    console.print(f"Written to {escape(written)}", soft_wrap=True)
    return 0


def _targets(output: str | None, png: str | None, recording: str, model: Path) -> list[Path]:
    """The files that are to be written, which can be."""
    targets = [Path(target) for target in (output, png) if target is not None]
    if not targets:
        raise UserError("Give -o FILE for the page, --png FILE for the picture, or both.")
    real = [os.path.realpath(target) for target in targets]
    if len(set(real)) < len(real):
        raise UserError(f"-o and --png both name {targets[0]}: give two files.")
    for target in targets:
        if os.path.exists(target) and not target.is_file():
            what = "a folder" if target.is_dir() else "no ordinary file"
            raise UserError(f"{printable(target)} is {what}: give a file to write.")
        if os.path.realpath(target) == os.path.realpath(recording):
            raise UserError(f"{printable(target)} is the recording, and would be overwritten.")
        if Path(os.path.realpath(model)) in Path(os.path.realpath(target)).parents:
            raise UserError(f"{printable(target)} lies in the model's folder: write elsewhere.")
        check_writable(target)
    return targets


def _shown(excerpt: Excerpt) -> str:
    """The sentence for a recording that is not shown as a whole."""
    end_s = excerpt.start_s + excerpt.duration_s
    return (
        f"{excerpt.source} is {excerpt.recording_s:.2f} s long: {excerpt.start_s:.2f} s to"
        f" {end_s:.2f} s are shown, heard alone. --start and --length choose others."
    )


def _chosen(cells: Sequence[CellTrace], layer: int | None, direction: Direction) -> CellTrace:
    """The cell of a layer, the last one unless told otherwise, and a direction."""
    layers = sorted({cell.layer for cell in cells})
    wanted = layers[-1] if layer is None else layer
    if wanted not in layers:
        known = ", ".join(map(str, layers))
        raise UserError(f"--layer {wanted}: the layers of LSTM in this model are {known}.")
    for cell in cells:
        if (cell.layer, cell.direction) == (wanted, direction):
            return cell
    raise UserError(f"--direction {direction}: this model's layers run in the other one only.")


def _table(rows: Sequence[Figures], step_s: float) -> Table:
    """A row for each layer and direction, in 80 columns."""
    from asr.gates.figures import measured

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in ("layer", "openness f i o", "memory, frames", "memory, ms", "saturated f i o"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        memories = (row.memory_frames, row.long_memory_frames)
        openness = (row.openness.forget, row.openness.input, row.openness.output)
        saturated = (row.saturated.forget, row.saturated.input, row.saturated.output)
        table.add_row(
            f"{row.layer} {row.direction}",
            " ".join(f"{value:.2f}" for value in openness),
            "–".join(measured(frames, 1) for frames in memories),
            "–".join(measured(1000 * frames * step_s, 0) for frames in memories),
            " ".join(f"{value:.0%}" for value in saturated),
        )
    return table
