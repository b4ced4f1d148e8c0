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
do not lengthen.

On CUDA, half precision (fp16, bf16) and widths up to 1024 are measured too; on a CPU, which would
take long, where `--dtype` and `--hidden` ask for them. What a machine cannot compute in half
precision is shown as `unable`; JSON has the reason.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch
from hardware import hardware
from rich.console import Console
from rich.table import Table
from timings import DTYPES, Forward, Shape, Timing, Unable, measure
from torch import Tensor, nn

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

# Precisions and widths where no others are asked for: a CPU takes some minutes for its own.
ON_CPU = (["fp32"], [128, 256, 320])
ON_CUDA = (list(DTYPES), [128, 320, 512, 1024])


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
        """Both directions over what `pack_padded_sequence` makes of the batch."""
        # The lengths of a batch come from the host, which is where packing wants them.
        packed = nn.utils.rnn.pack_padded_sequence(
            frames, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        outputs, _ = self.whole(packed)
        return nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)[0]

    def split(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Two single directions, one over each utterance reversed within its length."""
        return self.layer(frames, lengths)

    def unpacked(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Both directions over the padded batch; lengths are not looked at."""
        return self.whole(frames)[0]


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


def print_layers(rows: Sequence[Timing | Unable], title: str) -> None:
    """A row a variant: the median of the turns, and the fastest."""
    table = Table(title=title, title_justify="left")
    for column in ("lengths", "dtype", "hidden", "variant"):
        table.add_column(column)
    for column in ("train ms (fastest)", "infer ms (fastest)"):
        table.add_column(column, justify="right")
    for row in rows:
        if row.variant == VARIANTS[0]:
            table.add_section()
        leaks = row.variant == "unpacked" and row.lengths == "mixed"
        figures = ("unable", "unable")
        if isinstance(row, Timing):
            figures = (
                f"{row.train_ms:.2f} ({row.train_min_ms:.2f})",
                f"{row.infer_ms:.2f} ({row.infer_min_ms:.2f})",
            )
        variant = row.variant + (", leaks" if leaks else "")
        table.add_row(row.lengths, row.dtype, str(row.hidden), variant, *figures)
    Console(highlight=False).print(table)


def print_cells(rows: Sequence[Timing | Unable], title: str) -> None:
    """A row a cell: the median of the turns, and how many times PyTorch's LSTM's that is."""
    table = Table(title=title, title_justify="left")
    for column in ("dtype", "hidden", "cell"):
        table.add_column(column, no_wrap=True)
    for column in ("train ms", "x lstm", "infer ms", "x lstm"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        if row.variant == "lstm":
            table.add_section()
            lstm = row
        figures = ("unable", "", "unable", "")
        if isinstance(row, Timing):
            train = infer = ""
            if isinstance(lstm, Timing):
                train = f"{row.train_ms / lstm.train_ms:.2f}"
                infer = f"{row.infer_ms / lstm.infer_ms:.2f}"
            figures = (f"{row.train_ms:.2f}", train, f"{row.infer_ms:.2f}", infer)
        table.add_row(row.dtype, str(row.hidden), row.variant, *figures)
    Console(highlight=False).print(table)


def parse() -> argparse.Namespace:
    """The options of the command line; with `--quick`, tiny sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=("layers", "cells"), help="one of the two tables")
    parser.add_argument("--batch", type=int, default=12, help="utterances")
    parser.add_argument("--frames", type=int, default=120, help="of the longest utterance")
    parser.add_argument("--input", type=int, default=512, help="width of the layer's input")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, help="fp32; on CUDA all three")
    parser.add_argument(
        "--hidden", type=int, nargs="+", help="128 256 320; on CUDA 128 320 512 1024"
    )
    parser.add_argument("--turns", type=int, default=9, help="of each variant")
    parser.add_argument("--steps", type=int, default=3, help="in a turn")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    dtypes, hidden = ON_CUDA if torch.device(options.device).type == "cuda" else ON_CPU
    options.dtype = options.dtype or dtypes
    options.hidden = options.hidden or hidden
    if options.quick:
        options.batch, options.frames, options.input, options.hidden = 3, 10, 8, [16]
        options.turns, options.steps = 2, 1
    return options


def main() -> int:
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)

    def rows(
        make: Callable[..., dict[str, Forward]], twins: dict[str, str], lengths: Sequence[bool]
    ) -> list[Timing | Unable]:
        found = []
        for dtype, hidden, equal in itertools.product(options.dtype, options.hidden, lengths):
            torch.manual_seed(0)
            shape = Shape(options.batch, options.frames, options.input, hidden)
            forward = make(shape, device, DTYPES[dtype])
            repeated = (options.turns, options.steps)
            found += measure(forward, twins, shape, equal, device, dtype, *repeated)
        return found

    found: dict[str, list[Timing | Unable]] = {}
    if options.only != "cells":
        exact = {"split": "packed", "unpacked": "packed"}
        found["layers"] = rows(layers, exact, lengths=(False, True))
    if options.only != "layers":
        found["cells"] = rows(cells, TWINS, lengths=(False,))
    if options.json:
        result = {
            "hardware": hardware(device),
            "batch": options.batch,
            "frames": options.frames,
            "input": options.input,
            "turns": options.turns,
            "steps": options.steps,
            **{name: [asdict(row) for row in table] for name, table in found.items()},
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
