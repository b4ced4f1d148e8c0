"""The LSTM whose gates see its cell."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asr.models.lstm_reference import LstmGates, ReferenceLstm, State
from asr.models.recurrent import Cell, RecurrentEncoder


class PeepholeLstm(ReferenceLstm):
    """One direction of an LSTM layer with peepholes (Gers and Schmidhuber 2000; Gers et al. 2002).

    The input and the forget gate see the cell of the step before, the output gate that of its own
    step, each unit its own cell. The peepholes start at zero, where this is the plain LSTM.
    """

    def __init__(self, input_size: int, hidden: int) -> None:
        super().__init__(input_size, hidden)
        self.weight_ci_l0 = nn.Parameter(torch.zeros(hidden))
        self.weight_cf_l0 = nn.Parameter(torch.zeros(hidden))
        self.weight_co_l0 = nn.Parameter(torch.zeros(hidden))

    def step(self, projected: Tensor, hidden: Tensor, cell: Tensor) -> LstmGates:
        """One frame's W_i x + b [B, 4H], and the step before [B, H], to this step's values."""
        i, f, g, o = (projected + hidden @ self.weight_hh_l0.T).chunk(4, dim=1)  # each [B, H]
        i = torch.sigmoid(i + self.weight_ci_l0 * cell)
        f = torch.sigmoid(f + self.weight_cf_l0 * cell)
        g = torch.tanh(g)
        cell = f * cell + i * g
        o = torch.sigmoid(o + self.weight_co_l0 * cell)
        hidden = o * torch.tanh(cell)
        return LstmGates(i, f, g, o, cell, hidden)

    def forward(self, frames: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """What the equations of `step` give, and their gradients, in a few operations a step."""
        projected = self.project(frames)  # [B, T, 4H]
        hidden, cell = self.start(projected, state)
        peepholes = torch.stack([self.weight_ci_l0, self.weight_cf_l0, self.weight_co_l0])  # [3, H]
        outputs, cell = PeepholeRecurrence.apply(
            projected.transpose(0, 1).contiguous(), hidden, cell, self.weight_hh_l0, peepholes
        )  # [T, B, H], [B, H]
        return outputs.transpose(0, 1), (outputs[None, -1], cell[None])


class PeepholeRecurrence(torch.autograd.Function):
    """All steps of one direction, time first, with gradients by hand.

    What need not wait for another step is done for all steps at once. So the way back is short: a
    step's gradients are those of its output and its cell times factors known beforehand, and the
    gradients of the weights are one product over all of time.
    """

    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, hidden: Tensor, cell: Tensor, weight: Tensor, peepholes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """[T, B, 4H], [B, H], [B, H], [4H, H], [3, H] to outputs [T, B, H] and last cell [B, H]."""
        time, batch, size = len(projected), *hidden.shape
        gates = torch.empty_like(projected)
        outputs = projected.new_empty(time + 1, batch, size)  # before the first step, after each
        cells = torch.empty_like(outputs)
        tanhs = torch.empty_like(outputs[1:])
        outputs[0], cells[0] = hidden, cell

        x, ifgo, tanh = projected.unbind(), gates.unbind(), tanhs.unbind()
        i_and_f = gates.view(time, batch, 4, size)[:, :, :2].unbind()
        i, f, g, o = (gate.unbind() for gate in gates.split(size, dim=2))
        h, c = outputs.unbind(), cells.unbind()
        for t in range(time):
            torch.addmm(x[t], h[t], weight.t(), out=ifgo[t])  # [B, 4H]
            i_and_f[t].addcmul_(c[t][:, None], peepholes[:2]).sigmoid_()  # [B, 2, H]
            g[t].tanh_()
            torch.mul(i[t], g[t], out=c[t + 1]).addcmul_(f[t], c[t])
            o[t].addcmul_(c[t + 1], peepholes[2]).sigmoid_()
            torch.mul(o[t], torch.tanh(c[t + 1], out=tanh[t]), out=h[t + 1])
        ctx.save_for_backward(gates, cells, outputs, tanhs, weight, peepholes)
        return outputs[1:], cells[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_cell: Tensor) -> tuple[Tensor, ...]:
        """Gradients of what `forward` gave to those of what it took."""
        gates, cells, outputs, tanhs, weight, peepholes = ctx.saved_tensors
        time, batch, size = tanhs.shape
        i, f, g, o = gates.split(size, dim=2)  # each [T, B, H]
        before = cells[:-1]
        # Derivatives of the cell by the sums of i, f and g and by the cell before, which i and f
        # see too; of the output by the sum of o and by the cell, which o sees too.
        cell_by_ifg = torch.stack(
            [g * i * (1 - i), before * f * (1 - f), i * (1 - g.square())], dim=2
        )  # [T, B, 3, H]
        cell_by_before = f + (cell_by_ifg[:, :, :2] * peepholes[:2]).sum(2)
        output_by_o = tanhs * o * (1 - o)
        output_by_cell = o * (1 - tanhs.square()) + output_by_o * peepholes[2]

        d_sums = torch.empty_like(gates)  # [T, B, 4H]
        apart = d_sums.view(time, batch, 4, size)
        d_ifgo, d_ifg, d_o = d_sums.unbind(), apart[:, :, :3].unbind(), apart[:, :, 3].unbind()
        d_hidden, d_cell = torch.zeros_like(d_cell), d_cell.clone()
        for t in reversed(range(time)):
            d_hidden += d_outputs[t]
            d_cell.addcmul_(d_hidden, output_by_cell[t])
            torch.mul(d_hidden, output_by_o[t], out=d_o[t])
            torch.mul(d_cell[:, None], cell_by_ifg[t], out=d_ifg[t])  # [B, 3, H]
            d_cell *= cell_by_before[t]
            torch.mm(d_ifgo[t], weight, out=d_hidden)

        d_weight = d_sums.flatten(0, 1).t() @ outputs[:-1].flatten(0, 1)  # [4H, H]
        seen = torch.stack([before, before, cells[1:]], dim=2)  # by i, f and o
        d_peepholes = (apart[:, :, [0, 1, 3]] * seen).sum((0, 1))  # [3, H]
        return d_sums, d_hidden, d_cell, d_weight, d_peepholes


class LstmPeepholeEncoder(RecurrentEncoder):
    """Layers of the LSTM with peepholes."""

    cell: Cell = PeepholeLstm
