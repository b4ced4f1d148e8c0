"""The memory of a driver over the files that it has recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from made_up_files import Machinery
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from asr.files import write_atomically


def draw(path: Path, found: Sequence[Machinery]) -> None:
    """The driver's memory over the files that are done."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for run in found:
        files, _, memory = zip(*run.memory, strict=True)
        label = "with outputs on disk" if run.outputs else "journal and scheduling alone"
        axes.plot(files, memory, label=f"{run.files:,} files, {label}", linewidth=1.2)
    axes.set(xlabel="files recorded", ylabel="MiB of the driver", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    with write_atomically(path, "wb") as stream:
        figure.savefig(stream, format="png", dpi=110)
