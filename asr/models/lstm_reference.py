"""The LSTM written from its equations, and what its gates did."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from asr.models.recurrent import Cell, RecurrentEncoder

# Hidden values and cells, each [1, B, H], as nn.LSTM takes and gives them.
State = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class LstmGates:
    """What happened inside an LSTM: each [B, T, H], or [B, H] where it is of one step."""

    input: Tensor
    forget: Tensor
    candidate: Tensor
    output: Tensor
    cell: Tensor
    hidden: Tensor


class ReferenceLstm(nn.Module):
    """One direction of an LSTM layer (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

    Equal to `nn.LSTM(batch_first=True)` of one layer in everything but speed: values, gradients,
    names of weights, and what they start from.
    """

    def __init__(self, input_size: int, hidden: int) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden
        # Rows are those of the gates i, f, g, o.
        self.weight_ih_l0 = nn.Parameter(torch.empty(4 * hidden, input_size))
        self.weight_hh_l0 = nn.Parameter(torch.empty(4 * hidden, hidden))
        self.bias_ih_l0 = nn.Parameter(torch.empty(4 * hidden))
        self.bias_hh_l0 = nn.Parameter(torch.empty(4 * hidden))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)

    def step(self, projected: Tensor, hidden: Tensor, cell: Tensor) -> LstmGates:
        """One frame's W_i x + b [B, 4H], and the step before [B, H], to this step's values."""
        i, f, g, o = (projected + hidden @ self.weight_hh_l0.T).chunk(4, dim=1)  # each [B, H]
        i = torch.sigmoid(i)  # input gate: how much of the candidate is written
        f = torch.sigmoid(f)  # forget gate: how much of the cell is kept
        g = torch.tanh(g)  # candidate
        o = torch.sigmoid(o)  # output gate: how much of the cell is shown
        cell = f * cell + i * g
        hidden = o * torch.tanh(cell)
        return LstmGates(i, f, g, o, cell, hidden)

    def gates(self, frames: Tensor, state: State | None = None) -> LstmGates:
        """The equations over time: frames [B, T, I] to gates, cells and outputs [B, T, H]."""
        projected = self.project(frames)  # [B, T, 4H]
        hidden, cell = self.start(projected, state)
        steps = []
        with torch.autocast(frames.device.type, enabled=False):  # the cell is a long sum
            for frame in projected.unbind(1):
                steps.append(self.step(frame, hidden, cell))
                hidden, cell = steps[-1].hidden, steps[-1].cell
        return LstmGates(
            *(
                torch.stack([getattr(step, gate.name) for step in steps], 1)
                for gate in fields(LstmGates)
            )
        )

    def forward(self, frames: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Frames [B, T, I] and the state before them to outputs [B, T, H] and the state after."""
        gates = self.gates(frames, state)
        return gates.hidden, (gates.hidden[None, :, -1], gates.cell[None, :, -1])

    def project(self, frames: Tensor) -> Tensor:
        """W_i x + b of every frame in one product: [B, T, I] -> [B, T, 4H]."""
        projected = nn.functional.linear(
            frames, self.weight_ih_l0, self.bias_ih_l0 + self.bias_hh_l0
        )
        return projected.to(self.weight_hh_l0.dtype)  # under autocast it is in half precision

    def start(self, projected: Tensor, state: State | None) -> tuple[Tensor, Tensor]:
        """Hidden values and cells before the first frame, zeros unless given: [B, H] each."""
        if state is None:
            zeros = projected.new_zeros(len(projected), self.hidden_size)
            return zeros, zeros
        hidden, cell = state
        return hidden[0].to(projected.dtype), cell[0].to(projected.dtype)


class LstmReferenceEncoder(RecurrentEncoder):
    """Layers of the LSTM written from its equations; their weights are those of `lstm`."""

    cell: Cell = ReferenceLstm
