"""How far back an error reaches in a recurrent network: the picture of vanishing gradients.

    python tools/gradient_flow.py --audio RECORDING -o gradient_flow.png

The loss is the last state in a direction drawn at random, so that its gradient with respect to that
state has norm 1. Shown is the norm of its gradient with respect to the state so many steps before,
through all of the recurrence, for cells of `asr.models` as they are before training: the plain RNN
with its orthogonal recurrent weights times a radius, the GRU, and the LSTM with several forget
biases, whose cell c is shown beside its output h. Inputs are noise, and with `--audio` the log-mel
frames (10 ms) of a recording.

What clipping does where gradients explode, `tools/clipping.py` shows.
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
from arguments import at_least
from hardware import hardware
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from asr.audio import load
from asr.errors import UserError
from asr.features import LogMel
from asr.files import InputError, write_atomically
from asr.models.gru import GruEncoder
from asr.models.lstm_reference import LstmReferenceEncoder, ReferenceLstm
from asr.models.recurrent import start_cell
from asr.models.rnn import RnnEncoder

CELLS = {"rnn": RnnEncoder.cell, "gru": GruEncoder.cell, "lstm": LstmReferenceEncoder.cell}
MEL_BINS = 80
NOISE_FRAMES = 150
DISTANCES = (1, 10, 50, 100)  # of the table; the last is the last of the picture


@dataclass(frozen=True)
class Start:
    """A cell as it starts: recurrent weights times `radius`, an LSTM's forget biases."""

    model: str
    colour: str
    radius: float = 1.0
    forget_bias: float = 1.0

    def __str__(self) -> str:
        values = {"rnn": f", radius {self.radius:g}", "lstm": f", forget bias {self.forget_bias:g}"}
        return self.model + values.get(self.model, "")

    def cell(self, input_size: int, hidden: int) -> nn.Module:
        """In double precision, where a gradient of 1e-30 is a number."""
        cell = CELLS[self.model](input_size, hidden).double()
        start_cell(cell, hidden)
        cell.get_parameter("weight_hh_l0").data.mul_(self.radius)
        if self.model == "lstm":
            cell.get_parameter("bias_ih_l0").data[hidden : 2 * hidden] = self.forget_bias
        return cell


STARTS = (
    Start("rnn", "#f4a582", radius=0.8),
    Start("rnn", "#e0654a", radius=1.0),
    Start("rnn", "#b2182b", radius=1.5),
    Start("rnn", "#5c0011", radius=2.0),
    Start("gru", "#4d9221"),
    Start("lstm", "#92c5de", forget_bias=0.0),
    Start("lstm", "#3182bd", forget_bias=1.0),
    Start("lstm", "#08306b", forget_bias=3.0),
)


@dataclass(frozen=True)
class Flow:
    """Norms of the gradient by distance: the geometric mean of the seeds, the least, the largest.

    `factors` are what a step more multiplies the norm by: the least of the seeds, their mean, the
    largest. `half_life` is the steps in which the mean one halves it, negative where it doubles.
    """

    inputs: str
    start: str
    state: str
    norms: list[float]
    least: list[float]
    largest: list[float]
    factors: tuple[float, float, float]
    half_life: float


def state_gradients(cell: nn.Module, frames: Tensor, direction: Tensor) -> dict[str, Tensor]:
    """Gradients of the last state in a direction with respect to the state of every frame.

    Args:
        cell: one direction of a layer.
        frames: [1, T, I].
        direction: [H].

    Returns:
        [T, H] of `h`, and for an LSTM of `c`, which takes in that h is made of it.
    """
    states: dict[str, list[Tensor]] = {"h": []}
    if isinstance(cell, ReferenceLstm):
        states["c"] = []
        projected = cell.project(frames)  # [1, T, 4H]
        hidden, memory = cell.start(projected, None)
        for frame in projected.unbind(1):
            gates = cell.step(frame, hidden, memory)
            hidden, memory = gates.hidden, gates.cell  # [1, H] each
            states["h"].append(hidden)
            states["c"].append(memory)
    else:
        state = None
        for frame in frames.split(1, dim=1):
            _, state = cell(frame, state)  # [1, 1, H]
            states["h"].append(state)
    loss = states["h"][-1].flatten() @ direction
    gradients = torch.autograd.grad(loss, [one for each in states.values() for one in each])
    stacked = torch.cat(gradients).view(len(states), -1, len(direction))  # [1 or 2, T, H]
    return dict(zip(states, stacked, strict=True))


def factor_a_step(norms: Tensor) -> float:
    """What a step more multiplies norms [D] by: a line of least squares through the logarithms."""
    logs = norms.log()
    steps = torch.arange(len(logs), dtype=logs.dtype)
    steps -= steps.mean()
    return float(((steps * logs).sum() / steps.square().sum()).exp())


def flows(start: Start, frames: Tensor | None, hidden: int, seeds: int) -> list[Flow]:
    """The flow to h, and to c where there is one; without frames [1, T, I], each seed has noise."""
    norms: dict[str, list[Tensor]] = {}
    for seed in range(seeds):
        torch.manual_seed(seed)
        cell = start.cell(MEL_BINS, hidden)
        direction = nn.functional.normalize(torch.randn(hidden, dtype=torch.double), dim=0)
        noise = torch.randn(1, NOISE_FRAMES, MEL_BINS, dtype=torch.double)
        gradients = state_gradients(cell, noise if frames is None else frames, direction)
        for state, gradient in gradients.items():
            by_distance = gradient.norm(dim=1).flip(0)[: DISTANCES[-1] + 1]  # [D]
            norms.setdefault(state, []).append(by_distance)
    found = []
    for state, curves in norms.items():
        curve = torch.stack(curves)  # [seeds, D]
        factors = sorted(factor_a_step(one[1:]) for one in curve)
        mean = statistics.geometric_mean(factors)
        found.append(
            Flow(
                inputs="noise" if frames is None else "speech",
                start=str(start),
                state=state,
                norms=curve.log().mean(0).exp().tolist(),
                least=curve.amin(0).tolist(),
                largest=curve.amax(0).tolist(),
                factors=(factors[0], mean, factors[-1]),
                half_life=-math.log(2) / math.log(mean),
            )
        )
    return found


def features_of(path: str) -> Tensor:
    """A recording's log-mel frames [1, T, F], normalised over the recording.

    Raises:
        AudioError: it cannot be read.
        UserError: it is too short for the largest distance.
    """
    waveform = torch.from_numpy(load(path))
    log_mel = LogMel(MEL_BINS, normalisation="utterance")
    frames, _ = log_mel(waveform[None], torch.tensor([len(waveform)]))
    if frames.shape[1] <= DISTANCES[-1]:
        raise UserError(
            f"{path} has {frames.shape[1]} frames of 10 ms, and {DISTANCES[-1] + 1} are needed: "
            "name a longer recording"
        )
    return frames.double()


def print_flows(found: Sequence[Flow]) -> None:
    """A row for each start and state, on one kind of input."""
    table = Table(title=f"norm of dLoss/dstate, input: {found[0].inputs}", title_justify="left")
    for column in ("cell", "state"):
        table.add_column(column)
    for column in (*(f"{distance} back" for distance in DISTANCES), "a step", "half-life"):
        table.add_column(column, justify="right")
    for flow in found:
        least, mean, largest = flow.factors
        half_life = f"{flow.half_life:.1f}" if mean < 1 else f"doubles in {-flow.half_life:.1f}"
        if least <= 1 <= largest:  # the seeds do not even agree on which
            half_life = "none"
        table.add_row(
            *(flow.start, flow.state),
            *(f"{flow.norms[distance]:.1e}" for distance in DISTANCES),
            f"×{mean:.3f} ({least:.3f}–{largest:.3f})",
            half_life,
        )
    Console(highlight=False, width=120).print(table)


def draw(path: Path, groups: Sequence[Sequence[Flow]]) -> None:
    """Norms by distance, a panel an input."""
    figure = Figure(figsize=(9.8, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axes, group in zip(panels, groups, strict=True):
        draw_flows(axes, group)
    panels[0].set_ylabel("norm of dLoss / dstate")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    with write_atomically(path, "wb") as stream:
        figure.savefig(stream, format="png", dpi=88, pil_kwargs={"optimize": True})


def draw_flows(axes: Axes, found: Sequence[Flow]) -> None:
    """A line for each start and state, dashed where it is the cell's, in a band of its seeds."""
    colours = {str(start): start.colour for start in STARTS}
    for flow in found:
        steps, colour = range(1, len(flow.norms)), colours[flow.start]
        style = "--" if flow.state == "c" else "-"
        label = flow.start + (", c" if flow.state == "c" else "")
        axes.plot(steps, flow.norms[1:], style, color=colour, label=label, linewidth=1.4)
        axes.fill_between(steps, flow.least[1:], flow.largest[1:], color=colour, alpha=0.12, lw=0)
    axes.set(yscale="log", ylim=(1e-16, 1e6), xlim=(1, DISTANCES[-1]))
    axes.set_xlabel("steps before the loss")
    axes.set_title(f"input: {found[0].inputs}", fontsize=10)
    axes.grid(alpha=0.3)


def parse() -> argparse.Namespace:
    """The options of the command line; with `--quick`, tiny sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--audio", metavar="RECORDING", help="of 1.1 s or more")
    parser.add_argument("--hidden", type=at_least(1), default=128)
    parser.add_argument("--seeds", type=at_least(1), default=5, help="how many")
    parser.add_argument("-o", "--output", type=Path, help="a PNG of it")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if options.quick:
        options.hidden, options.seeds = 4, 1
    return options


def main() -> int:
    options = parse()
    torch.set_num_threads(1)  # more are no faster at these sizes
    try:
        inputs = [None, *([features_of(options.audio)] if options.audio else [])]
        groups = [
            [flow for start in STARTS for flow in flows(start, one, options.hidden, options.seeds)]
            for one in inputs
        ]
        if options.output:
            draw(options.output, groups)
    except (UserError, InputError) as error:
        print(f"gradient_flow: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([asdict(flow) for group in groups for flow in group]))
        return 0
    for group in groups:
        print_flows(group)
    print(hardware(torch.device("cpu")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
