"""The picture: what the page shows of one layer and direction, to paste into slides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asr.audio import SAMPLE_RATE_HZ
from asr.files import write_atomically
from asr.gates.colours import LIGHT
from asr.gates.figures import OPEN, SHUT, by_memory, figures, measured, strongest
from asr.gates.trace import CellTrace, Frames, Trace
from asr.units.characters import SPACE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

UNITS = 64  # drawn: more would be thinner than a line
SIZE_INCHES, DPI = (40 / 3, 7.5), 120  # a slide, 1600 by 900 pixels
INK, FAINT = "#1d2129", "#596272"
TITLE_CHARACTERS = 90  # more do not fit into the width
NAMES = 3  # lines of emitted units


def draw(path: Path, trace: Trace, cell: CellTrace, model: str) -> None:
    """Sound, log-mel, emitted units, gates and cells of one layer and direction, as a PNG.

    Raises:
        UserError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES)
    FigureCanvasAgg(figure)
    layout = {"left": 0.13, "right": 0.94, "top": 0.865, "bottom": 0.105, "hspace": 0.1}
    heights = {"height_ratios": (0.5, 0.8, 0.5, 1.3, 1.3, 1.3, 1.3)}
    panels = figure.subplots(7, 1, sharex=True, gridspec_kw={**layout, **heights})
    sound, mel, emitted, *heats = panels

    begin_s, samples = trace.excerpt.start_s, trace.excerpt.waveform
    times_s = begin_s + np.arange(len(samples)) / SAMPLE_RATE_HZ
    sound.plot(times_s, samples, color=INK, linewidth=0.4)
    loudest = max(float(np.abs(samples).max()), 1e-4)
    sound.set_ylim(-loudest, loudest)
    least = float(trace.log_mel.min())
    ends = (least, max(float(trace.log_mel.max()), least + 1))
    first_s = begin_s + trace.mel_first_s
    _show(mel, trace.log_mel[:, ::-1], "mel", first_s, trace.mel_step_s, ends)
    _show_emitted(emitted, trace)
    units = strongest(cell, UNITS, by_memory(cell))
    gates = {"forget": cell.forget, "input": cell.input, "output": cell.output}
    for axes, (name, values) in zip(
        heats, {**gates, "cell": np.tanh(cell.cell)}.items(), strict=True
    ):
        ends = (-1, 1) if name == "cell" else (0, 1)
        first_s = begin_s + trace.first_s
        image = _show(axes, values[:, units], name, first_s, trace.step_s, ends)
        place = axes.inset_axes((1.012, 0.08, 0.008, 0.84))
        bar = figure.colorbar(image, cax=place, ticks=list(ends))
        bar.outline.set_visible(False)
        bar.ax.tick_params(size=0, labelsize=9, labelcolor=FAINT)

    _name(panels, trace)
    last = panels[-1]
    last.set_xlim(begin_s, begin_s + trace.excerpt.duration_s)
    last.tick_params(axis="x", size=3, labelsize=9, labelcolor=FAINT, color=FAINT)
    last.xaxis.set_major_formatter("{x:g} s")
    _write(figure, trace, cell, len(units), model)
    with write_atomically(path, "wb") as stream:
        figure.savefig(stream, format="png", dpi=DPI)


def _show(
    axes: Axes,
    values: Frames,
    palette: str,
    first_s: float,
    step_s: float,
    ends: tuple[float, float],
) -> AxesImage:
    """Values [T, rows] in the colours of a palette, the first row on top."""
    from matplotlib.colors import LinearSegmentedColormap

    frames, rows = values.shape
    return axes.imshow(
        values.T,
        aspect="auto",
        interpolation="nearest",
        extent=(first_s, first_s + frames * step_s, rows, 0),
        cmap=LinearSegmentedColormap.from_list(palette, LIGHT[palette]),
        vmin=ends[0],
        vmax=ends[1],
    )


def _show_emitted(axes: Axes, trace: Trace) -> None:
    """A mark for each unit on the best path, its name above where a line has room for it."""
    begin_s, duration_s = trace.excerpt.start_s, trace.excerpt.duration_s
    ends_s = [-1.0] * NAMES
    axes.set_ylim(0, 1)
    for unit in trace.emitted:
        start_s, end_s = max(unit.start_s, 0.0), min(unit.end_s, duration_s)
        gap_s = 0.001 * duration_s  # so that neighbours do not run together
        axes.axvspan(begin_s + start_s, begin_s + end_s - gap_s, ymax=0.1, color=INK, linewidth=0)
        name = "␣" if unit.symbol == SPACE else unit.symbol
        middle_s = (start_s + end_s) / 2
        half_s = (0.0042 * len(name) + 0.002) * duration_s  # about as wide as it is written
        line = next((n for n, taken_s in enumerate(ends_s) if taken_s <= middle_s - half_s), None)
        if line is not None:
            ends_s[line] = middle_s + half_s
            place = (begin_s + middle_s, 0.16 + 0.3 * line)
            axes.text(*place, name, ha="center", va="bottom", fontsize=10, color=INK)


def _name(panels: list[Axes], trace: Trace) -> None:
    """What each panel is, to the left of it."""
    names = (
        ("sound", ""),
        ("log-mel", f"{trace.log_mel.shape[1]} bins, low to high"),
        ("emitted", "by the network" if trace.emitted else "nothing"),
        ("forget gate f", "kept of the cell"),
        ("input gate i", "written to the cell"),
        ("output gate o", "shown of the cell"),
        ("cell state c", "as tanh c"),
    )
    for axes, (name, what) in zip(panels, names, strict=True):
        axes.set_yticks([])
        axes.tick_params(axis="x", size=0)
        axes.spines[:].set_visible(False)
        corner, points = (-0.135, 1.0), "offset points"
        axes.annotate(
            *(name, corner, (0, -11), "axes fraction", points),
            color=INK, fontsize=11, fontweight="bold",
        )  # fmt: skip
        axes.annotate(*(what, corner, (0, -25), "axes fraction", points), color=FAINT, fontsize=9)


def _write(figure: Figure, trace: Trace, cell: CellTrace, count: int, model: str) -> None:
    """What stands above and below the panels."""
    said = trace.text
    if len(said) > TITLE_CHARACTERS:
        said = f"{said[:TITLE_CHARACTERS].rstrip()} …"
    title = f"“{said}”" if said else "Nothing was emitted"
    summary = figures(cell)
    openness, saturated = summary.openness, summary.saturated
    excerpt = trace.excerpt
    source = Path(excerpt.source).name
    if not excerpt.whole:
        source += f" (of {excerpt.recording_s:.2f} s)"
    memory_ms = 1000 * summary.memory_frames * trace.step_s
    lines = (
        f"LSTM layer {cell.layer}, {cell.direction} · {source} · model {model}"
        f" · the {count} strongest of {summary.units} units, the longest memory on top",
        f"mean openness: forget {openness.forget:.2f}, input {openness.input:.2f},"
        f" output {openness.output:.2f}  ·  memory, −1 / ln(mean forget gate): median"
        f" {measured(summary.memory_frames, 1)} frames ({measured(memory_ms, 0)} ms),"
        f" a tenth of the units above {measured(summary.long_memory_frames, 1)} frames",
        f"saturated, below {SHUT} or above {OPEN}: forget {saturated.forget:.0%},"
        f" input {saturated.input:.0%}, output {saturated.output:.0%}",
    )
    figure.text(0.02, 0.945, title, fontsize=17, fontweight="bold", color=INK, parse_math=False)
    for line, height in zip(lines, (0.905, 0.038, 0.014), strict=True):
        figure.text(0.02, height, line, fontsize=9.5, color=FAINT, parse_math=False)
