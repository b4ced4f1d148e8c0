"""How long the utterances of a corpus are, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from asr.files import write_atomically

BINS = 40  # at most
WIDTHS_S = [step * 10.0**power for power in range(-3, 8) for step in (1, 2, 5)]  # of a bin
COLUMNS = 3
COLOUR = "#2a6f97"


def draw_durations(path: Path, splits: Mapping[str, npt.NDArray[np.float64]]) -> None:
    """A histogram of durations in seconds for each split, with its hours, as a PNG.

    All have the same axis of time.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(COLUMNS, max(1, len(splits)))
    rows = max(1, -(-len(splits) // columns))
    figure = Figure(figsize=(4.2 * columns, 3.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    longest_s = max((float(durations.max()) for durations in splits.values()), default=1.0)
    width_s = next(width for width in WIDTHS_S if width * BINS >= longest_s)
    edges = np.arange(0.0, longest_s + width_s, width_s)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).flat
    for axes, (name, durations) in zip(panels, splits.items(), strict=False):
        hours = durations.sum() / 3600
        axes.hist(durations, edges, color=COLOUR)
        median_s = float(np.median(durations))
        axes.axvline(median_s, color="#b5432e", linewidth=1.2, label=f"median {median_s:.1f} s")
        axes.legend(fontsize=8)
        axes.set_title(f"{name}: {len(durations):,} utterances, {hours:.2f} h", fontsize=10)
        axes.set_xlabel("seconds")
        axes.set_ylabel("utterances")
        axes.grid(alpha=0.3)
    for axes in panels:  # what is left over
        axes.set_axis_off()
    with write_atomically(path, "wb") as stream:
        figure.savefig(stream, format="png", dpi=110)
