"""What clipping does where gradients explode: the first updates of plain RNNs.

    python tools/clipping.py -o clipping.png

They learn the adding problem of `tools/adding_problem.py` by plain gradient descent, with gradients
as they are and scaled down to a norm (Pascanu et al. 2013). Shown are the norm of the gradient
before it is clipped, the share of outputs where tanh is flat and passes nothing back, and the loss.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from adding_problem import CLIP_NORM, Adder, random_sequences
from arguments import at_least
from hardware import hardware
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import nn

from asr.errors import UserError
from asr.files import write_atomically

# Radius, and norm to clip to (0: none). They go by plain gradient descent, as Adam divides the norm
# away.
TRAININGS = ((1.0, 0.0), (1.5, 0.0), (1.5, CLIP_NORM))
LENGTH, BATCH, HIDDEN, LEARNING_RATE = 100, 32, 32, 0.05
SATURATED = 0.99  # an output of tanh so far from 0 passes 2 % of a gradient
LATEST = 10  # updates whose mean loss says where a training has come to


@dataclass(frozen=True)
class Descent:
    """One training, update by update, up to where loss or gradient are no finite numbers any more.

    `norms` are of the gradient before it is clipped, `saturated` the shares of outputs beyond
    SATURATED.
    """

    radius: float
    clip_norm: float
    seed: int
    norms: list[float]
    saturated: list[float]
    losses: list[float]

    def __str__(self) -> str:
        clipped = f"clipped to {self.clip_norm:g}" if self.clip_norm else "as it is"
        return f"rnn, radius {self.radius:g}, gradient {clipped}"


def descend(radius: float, clip_norm: float, seed: int, updates: int) -> Descent:
    """The first updates of a plain RNN on the adding problem."""
    torch.manual_seed(seed)
    network = Adder("rnn", HIDDEN, LENGTH)
    network.cell.get_parameter("weight_hh_l0").data.mul_(radius)
    optimiser = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
    generator = torch.Generator().manual_seed(seed)
    descent = Descent(radius, clip_norm, seed, [], [], [])
    for _ in range(updates):
        frames, sums = random_sequences(BATCH, LENGTH, generator)
        outputs = network.cell(frames)[0]  # [B, T, H]
        loss = (network.head(outputs[:, -1])[:, 0] - sums).square().mean()
        optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), clip_norm or math.inf)
        if not torch.isfinite(norm + loss):
            break
        optimiser.step()
        descent.norms.append(norm.item())
        descent.saturated.append((outputs.detach().abs() > SATURATED).double().mean().item())
        descent.losses.append(loss.item())
    return descent


def print_descents(descents: Sequence[Descent], updates: int) -> None:
    """A row a training."""
    table = Table(
        title=f"{updates} updates on the adding problem of {LENGTH} steps", title_justify="left"
    )
    table.add_column("training")
    for column in ("seed", "largest norm", "saturated", "loss", "updates"):
        table.add_column(column, justify="right")
    for descent in descents:
        table.add_row(
            *(str(descent), str(descent.seed)),
            f"{max(descent.norms):.1e}",
            f"{100 * descent.saturated[-1]:.0f} %",
            f"{statistics.fmean(descent.losses[-LATEST:]):.3g}",
            str(len(descent.losses))
            + ("" if len(descent.losses) == updates else ", then no number"),
        )
    Console(highlight=False, width=120).print(table)


def draw(path: Path, descents: Sequence[Descent]) -> None:
    """Norms, saturation and losses by update, a panel each, a line a training."""
    figure = Figure(figsize=(9.8, 2.4), layout="constrained")
    FigureCanvasAgg(figure)
    shown = {  # what a training that breaks down exceeds is not shown
        "norms": ("norm of the gradient, unclipped", "log", (1e-1, 1e8)),
        "saturated": (f"share of outputs beyond ±{SATURATED:g}", "linear", (-0.02, 1.02)),
        "losses": ("loss", "log", (0.05, 1e4)),
    }
    colours = dict(zip(TRAININGS, ("#4d9221", "#b2182b", "#2166ac"), strict=True))
    panels = figure.subplots(1, len(shown))
    for axes, (what, (title, scale, limits)) in zip(panels, shown.items(), strict=True):
        for descent in descents:
            values = getattr(descent, what)
            colour = colours[descent.radius, descent.clip_norm]
            label = str(descent).replace(", g", "\ng") if descent.seed == 0 else None
            axes.plot(range(1, len(values) + 1), values, color=colour, label=label, linewidth=1)
        axes.set(xlabel="update", yscale=scale, ylim=limits)
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    with write_atomically(path, "wb") as stream:
        figure.savefig(stream, format="png", dpi=88, pil_kwargs={"optimize": True})


def parse() -> argparse.Namespace:
    """The options of the command line; with `--quick`, tiny sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=at_least(1), default=5, help="how many")
    parser.add_argument("--updates", type=at_least(1), default=100)
    parser.add_argument("-o", "--output", type=Path, help="a PNG of it")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.updates = 1, 2
    return options


def main() -> int:
    options = parse()
    torch.set_num_threads(1)  # more are no faster at these sizes
    descents = [
        descend(radius, clip_norm, seed, options.updates)
        for radius, clip_norm in TRAININGS
        for seed in range(options.seeds)
    ]
    try:
        if options.output:
            draw(options.output, descents)
    except UserError as error:
        print(f"clipping: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([asdict(descent) for descent in descents]))
        return 0
    print_descents(descents, options.updates)
    print(hardware(torch.device("cpu")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
