"""The gated recurrent unit: two gates and no separate cell."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from asr.models.recurrent import Cell, RecurrentEncoder


class ReferenceGru(nn.Module):
    """One direction of a GRU layer, written from its equations (Cho et al. 2014).

    It is what the documents point at, and no model of its own: equal to `nn.GRU(batch_first=True)`
    of one layer in values, gradients, names of weights, and what they start from. As there, and
    unlike in the paper, the reset gate multiplies the product with the output before, its bias
    included, and not that output itself: one product for all three can then be made at once.
    """

    def __init__(self, input_size: int, hidden: int) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden
        # Rows are those of the reset gate, the update gate and the candidate.
        self.weight_ih_l0 = nn.Parameter(torch.empty(3 * hidden, input_size))
        self.weight_hh_l0 = nn.Parameter(torch.empty(3 * hidden, hidden))
        self.bias_ih_l0 = nn.Parameter(torch.empty(3 * hidden))
        self.bias_hh_l0 = nn.Parameter(torch.empty(3 * hidden))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)

    def forward(self, frames: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Frames [B, T, I] and the state before them [1, B, H] to outputs and the state after."""
        linear = nn.functional.linear
        projected = linear(frames, self.weight_ih_l0, self.bias_ih_l0)  # [B, T, 3H]
        projected = projected.to(self.weight_hh_l0.dtype)  # under autocast it is in half precision
        hidden = projected.new_zeros(len(projected), self.hidden_size)  # [B, H]
        if state is not None:
            hidden = state[0].to(projected.dtype)
        outputs = []
        with torch.autocast(frames.device.type, enabled=False):
            for frame in projected.unbind(1):
                recurrent = linear(hidden, self.weight_hh_l0, self.bias_hh_l0)  # [B, 3H]
                (r, z, n), (hr, hz, hn) = frame.chunk(3, dim=1), recurrent.chunk(3, dim=1)
                r = torch.sigmoid(r + hr)  # reset gate: how much of the past the candidate sees
                z = torch.sigmoid(z + hz)  # update gate: how much of the past is kept
                n = torch.tanh(n + r * hn)  # candidate
                hidden = (1 - z) * n + z * hidden
                outputs.append(hidden)
        return torch.stack(outputs, dim=1), hidden[None]


class GruEncoder(RecurrentEncoder):
    """Layers of PyTorch's tuned GRU (Cho et al. 2014).

    Its equations, one line each, are in `ReferenceGru`.
    """

    cell: Cell = staticmethod(partial(nn.GRU, batch_first=True))
