"""How long one recurrent layer takes: the ways round padding, and the cells of the family.

    python tools/bench_models.py --threads 1

Layers, bidirectional, of PyTorch's LSTM:
packed:   over `pack_padded_sequence`; exact.
split:    `asr.models.recurrent.RecurrentLayer`, two single directions; exact.
unpacked: over the padded batch. Padding leaks into the backward direction, so it is exact only
          where all lengths are equal.

Cells, one direction each: PyTorch's own (lstm, gru, rnn) and those written by hand. `x lstm` is how
many times as long as PyTorch's LSTM.

That those agree which should is checked before anything is timed. The variants take turns; the
median of the turns is shown, and of layers the fastest. `train` is forward and backward, `infer`
forward alone. With one thread of a CPU it is the processor's time that counts, which other programs
do not lengthen. On CUDA, half precision (fp16) is measured too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from hardware import hardware
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from asr.features import length_mask
from asr.models.gru import GruEncoder, ReferenceGru
from asr.models.lstm import LstmEncoder
from asr.models.lstm_layernorm import LayerNormLstm
from asr.models.lstm_peephole import PeepholeLstm
from asr.models.lstm_reference import ReferenceLstm
from asr.models.recurrent import Cell, RecurrentLayer
from asr.models.rnn import RnnEncoder

VARIANTS = ("packed", "split", "unpacked")
CELLS: dict[str, Cell] = {
    "lstm": LstmEncoder.cell,
    "lstm_reference": ReferenceLstm,
    "lstm_peephole": PeepholeLstm,
    "lstm_layernorm": LayerNormLstm,
    "gru": GruEncoder.cell,
    "gru reference": ReferenceGru,
    "rnn": RnnEncoder.cell,
}
# Which give the same outputs with the same weights (and peepholes of zero).
TWINS = {"lstm_reference": "lstm", "lstm_peephole": "lstm", "gru reference": "gru"}

# Frames [B, T, F] and lengths [B] to outputs [B, T, H].
Forward = Callable[[Tensor, Tensor], Tensor]
# How far outputs in [-1, 1] of two exact variants may lie apart.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-2}


@dataclass(frozen=True)
class Shape:
    """Sizes of a layer and its batch."""

    batch: int
    frames: int
    input_size: int
    hidden: int


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one variant: median and minimum of the turns.

    `error` is how far its outputs lie from those of the variant that it should agree with, padding
    left out.
    """

    variant: str
    lengths: str
    dtype: str
    hidden: int
    error: float
    train_ms: float
    train_min_ms: float
    infer_ms: float
    infer_min_ms: float


class Variants:
    """The same layer three ways, with the same weights."""

    def __init__(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> None:
        layer = RecurrentLayer(LstmEncoder.cell, shape.input_size, shape.hidden)
        whole = nn.LSTM(shape.input_size, shape.hidden, batch_first=True, bidirectional=True)
        assert layer.backwards is not None
        for suffix, direction in (("", layer.forwards), ("_reverse", layer.backwards)):
            for name, value in direction.named_parameters():
                whole.get_parameter(name + suffix).data.copy_(value)
        self.layer = layer.to(device, dtype)
        self.whole = whole.to(device, dtype)

    def packed(self, frames: Tensor, lengths: Tensor) -> Tensor:
        # The lengths of a batch come from the host, which is where packing wants them.
        packed = nn.utils.rnn.pack_padded_sequence(
            frames, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        outputs, _ = self.whole(packed)
        return nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)[0]

    def split(self, frames: Tensor, lengths: Tensor) -> Tensor:
        return self.layer(frames, lengths)

    def unpacked(self, frames: Tensor, lengths: Tensor) -> Tensor:
        return self.whole(frames)[0]


def seconds_of(call: Callable[[], object], steps: int, device: torch.device) -> float:
    """The mean time of one of `steps` calls."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = clock()
    for _ in range(steps):
        call()
    if device.type == "cuda":  # whose work goes on after the call has returned
        torch.cuda.synchronize(device)
    return (clock() - began) / steps


def layers(shape: Shape, device: torch.device, dtype: torch.dtype) -> dict[str, Forward]:
    """The ways round padding, with the same weights."""
    variants = Variants(shape, device, dtype)
    return {name: getattr(variants, name) for name in VARIANTS}


def cells(shape: Shape, device: torch.device, dtype: torch.dtype) -> dict[str, Forward]:
    """One direction of each member of the family, twins with the same weights."""
    made = {name: make(shape.input_size, shape.hidden) for name, make in CELLS.items()}
    for name, twin in TWINS.items():
        made[name].load_state_dict(made[twin].state_dict(), strict=False)

    def forward(cell: nn.Module) -> Forward:
        return lambda frames, lengths: cell(frames)[0]

    return {name: forward(cell.to(device, dtype)) for name, cell in made.items()}


def measure(
    forward: dict[str, Forward],
    twins: dict[str, str],
    shape: Shape,
    equal: bool,
    device: torch.device,
    dtype: torch.dtype,
    turns: int,
    steps: int,
) -> list[Timing]:
    """Time every variant on one batch; `twins` says which other one's outputs a variant has.

    Raises:
        RuntimeError: it has others.
    """
    shortest = shape.frames if equal else shape.frames // 2
    lengths = torch.linspace(shape.frames, shortest, shape.batch).long().to(device)
    size = (shape.batch, shape.frames, shape.input_size)
    frames = torch.randn(size, device=device, dtype=dtype, requires_grad=True)  # [B, T, F]
    mask = length_mask(lengths, shape.frames)[:, :, None]  # [B, T, 1]

    def train(name: str) -> None:
        (forward[name](frames, lengths) * mask).sum().backward()

    def infer(name: str) -> None:
        with torch.inference_mode():
            forward[name](frames, lengths)

    with torch.inference_mode():
        outputs = {name: call(frames, lengths) * mask for name, call in forward.items()}
    error = dict.fromkeys(forward, 0.0)
    for name, twin in twins.items():
        error[name] = float((outputs[name] - outputs[twin]).abs().max())
        leaks = name == "unpacked" and not equal
        if error[name] > TOLERANCE[dtype] and not leaks:
            raise RuntimeError(f"{name} and {twin} are {error[name]:.2g} apart at {shape}")

    taken: dict[str, list[float]] = {}
    for turn in range(turns + 1):
        for name in forward:
            for task, call in (("train", train), ("infer", infer)):
                seconds = seconds_of(lambda c=call, n=name: c(n), steps, device)  # type: ignore[misc]
                if turn > 0:  # the first sets libraries up
                    taken.setdefault(name + task, []).append(1000 * seconds)
    return [
        Timing(
            variant=name,
            lengths="equal" if equal else "mixed",
            dtype=str(dtype).removeprefix("torch."),
            hidden=shape.hidden,
            error=error[name],
            train_ms=statistics.median(taken[name + "train"]),
            train_min_ms=min(taken[name + "train"]),
            infer_ms=statistics.median(taken[name + "infer"]),
            infer_min_ms=min(taken[name + "infer"]),
        )
        for name in forward
    ]


def print_layers(timings: list[Timing], title: str) -> None:
    table = Table(title=title, title_justify="left")
    for column in ("lengths", "dtype", "hidden", "variant"):
        table.add_column(column)
    for column in ("train ms (fastest)", "infer ms (fastest)"):
        table.add_column(column, justify="right")
    for timing in timings:
        if timing.variant == VARIANTS[0]:
            table.add_section()
        leaks = timing.variant == "unpacked" and timing.lengths == "mixed"
        table.add_row(
            *(timing.lengths, timing.dtype, str(timing.hidden)),
            timing.variant + (", leaks" if leaks else ""),
            f"{timing.train_ms:.2f} ({timing.train_min_ms:.2f})",
            f"{timing.infer_ms:.2f} ({timing.infer_min_ms:.2f})",
        )
    Console(highlight=False).print(table)


def print_cells(timings: list[Timing], title: str) -> None:
    table = Table(title=title, title_justify="left")
    for column in ("dtype", "hidden", "cell"):
        table.add_column(column, no_wrap=True)
    for column in ("train ms", "x lstm", "infer ms", "x lstm"):
        table.add_column(column, justify="right", no_wrap=True)
    for timing in timings:
        if timing.variant == "lstm":
            table.add_section()
            lstm = timing
        table.add_row(
            *(timing.dtype, str(timing.hidden), timing.variant),
            *(f"{timing.train_ms:.2f}", f"{timing.train_ms / lstm.train_ms:.2f}"),
            *(f"{timing.infer_ms:.2f}", f"{timing.infer_ms / lstm.infer_ms:.2f}"),
        )
    Console(highlight=False).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=("layers", "cells"), help="one of the two tables")
    parser.add_argument("--batch", type=int, default=12, help="utterances")
    parser.add_argument("--frames", type=int, default=120, help="of the longest utterance")
    parser.add_argument("--input", type=int, default=512, help="width of the layer's input")
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 256, 320])
    parser.add_argument("--turns", type=int, default=9, help="of each variant")
    parser.add_argument("--steps", type=int, default=3, help="in a turn")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if options.quick:
        options.batch, options.frames, options.input, options.hidden = 3, 10, 8, [16]
        options.turns, options.steps = 2, 1
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    dtypes = [torch.float32] + [torch.float16] * (device.type == "cuda")

    def timings(
        make: Callable[..., dict[str, Forward]], twins: dict[str, str], lengths: Sequence[bool]
    ) -> list[Timing]:
        found = []
        for dtype, hidden, equal in itertools.product(dtypes, options.hidden, lengths):
            torch.manual_seed(0)
            shape = Shape(options.batch, options.frames, options.input, hidden)
            forward = make(shape, device, dtype)
            repeated = (options.turns, options.steps)
            found += measure(forward, twins, shape, equal, device, dtype, *repeated)
        return found

    found: dict[str, list[Timing]] = {}
    if options.only != "cells":
        exact = {"split": "packed", "unpacked": "packed"}
        found["layers"] = timings(layers, exact, lengths=(False, True))
    if options.only != "layers":
        found["cells"] = timings(cells, TWINS, lengths=(False,))
    if options.json:
        result = {
            "hardware": hardware(device),
            "batch": options.batch,
            "frames": options.frames,
            "input": options.input,
            "turns": options.turns,
            "steps": options.steps,
            **{name: [asdict(row) for row in rows] for name, rows in found.items()},
        }
        print(json.dumps(result))
        return 0
    sizes = f"{options.batch} utterances of up to {options.frames} frames, input {options.input}"
    if "layers" in found:
        print_layers(found["layers"], f"Bidirectional LSTM layers: {sizes}")
    if "cells" in found:
        print_cells(found["cells"], f"Cells, one direction: {sizes}")
    print(hardware(device))
    return 0


if __name__ == "__main__":
    sys.exit(main())
