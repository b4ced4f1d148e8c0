"""The LSTM with layer normalisation inside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asr.models.lstm_reference import LstmGates, ReferenceLstm, State
from asr.models.recurrent import Cell, RecurrentEncoder

EPSILON = 1e-5  # added to the variance, as in nn.LayerNorm


class LayerNormLstm(ReferenceLstm):
    """One direction of a layer-normalised LSTM (Ba, Kiros and Hinton 2016).

    The products with the input and with the output before are normalised each by itself, over all
    four gates, and so is the cell on its way to the output. The biases of the first two are
    `bias_ih_l0` and `bias_hh_l0`; the paper's third, b, would be a third summand of the same.
    """

    def __init__(self, input_size: int, hidden: int) -> None:
        super().__init__(input_size, hidden)
        self.gain_ih_l0 = nn.Parameter(torch.ones(4 * hidden))
        self.gain_hh_l0 = nn.Parameter(torch.ones(4 * hidden))
        self.gain_c_l0 = nn.Parameter(torch.ones(hidden))
        self.bias_c_l0 = nn.Parameter(torch.zeros(hidden))

    def project(self, frames: Tensor) -> Tensor:
        """LN(W_i x) + b of every frame: [B, T, I] -> [B, T, 4H]."""
        projected = nn.functional.linear(frames, self.weight_ih_l0).to(self.weight_ih_l0.dtype)
        bias = self.bias_ih_l0 + self.bias_hh_l0
        return nn.functional.layer_norm(projected, bias.shape, self.gain_ih_l0, bias, EPSILON)

    def step(self, projected: Tensor, hidden: Tensor, cell: Tensor) -> LstmGates:
        """One frame's LN(W_i x) + b [B, 4H], and the step before [B, H], to this step's values."""
        norm = nn.functional.layer_norm
        recurrent = hidden @ self.weight_hh_l0.T  # [B, 4H]
        sums = projected + norm(recurrent, self.gain_hh_l0.shape, self.gain_hh_l0, eps=EPSILON)
        i, f, g, o = sums.chunk(4, dim=1)  # each [B, H]
        i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
        cell = f * cell + i * g
        shown = norm(cell, self.gain_c_l0.shape, self.gain_c_l0, self.bias_c_l0, EPSILON)
        hidden = o * torch.tanh(shown)
        return LstmGates(i, f, g, o, cell, hidden)

    def forward(self, frames: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """What the equations of `step` give, and their gradients, in a few operations a step."""
        projected = self.project(frames)  # [B, T, 4H]
        hidden, cell = self.start(projected, state)
        weights = (self.weight_hh_l0, self.gain_hh_l0, self.gain_c_l0, self.bias_c_l0)
        outputs, cell = LayerNormRecurrence.apply(
            projected.transpose(0, 1).contiguous(), hidden, cell, *weights
        )  # [T, B, H], [B, H]
        return outputs.transpose(0, 1), (outputs[None, -1], cell[None])


class LayerNormRecurrence(torch.autograd.Function):
    """All steps of one direction, time first, with gradients by hand.

    As in `asr.models.lstm_peephole`: what need not wait for another step is done for all at once.
    """

    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,
        hidden: Tensor,
        cell: Tensor,
        weight: Tensor,
        gain: Tensor,
        cell_gain: Tensor,
        cell_bias: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """[T, B, 4H], [B, H], [B, H], [4H, H], [4H], [H], [H] to [T, B, H] and last cell [B, H]."""
        time, batch, size = len(projected), *hidden.shape
        products, gates = torch.empty_like(projected), torch.empty_like(projected)
        outputs = projected.new_empty(time + 1, batch, size)  # before the first step, after each
        cells = torch.empty_like(outputs)
        tanhs = torch.empty_like(outputs[1:])
        outputs[0], cells[0] = hidden, cell

        x, product, ifgo = projected.unbind(), products.unbind(), gates.unbind()
        i, f, g, o = (gate.unbind() for gate in gates.split(size, dim=2))
        tanh, h, c = tanhs.unbind(), outputs.unbind(), cells.unbind()
        moments: list[list[Tensor]] = []
        for t in range(time):
            torch.mm(h[t], weight.t(), out=product[t])  # [B, 4H]
            normed, *moments_of_product = torch.native_layer_norm(
                product[t], gain.shape, gain, None, EPSILON
            )
            torch.add(x[t], normed, out=ifgo[t])
            ifgo[t][:, : 2 * size].sigmoid_()
            g[t].tanh_()
            o[t].sigmoid_()
            torch.mul(i[t], g[t], out=c[t + 1]).addcmul_(f[t], c[t])
            normed, *moments_of_cell = torch.native_layer_norm(
                c[t + 1], cell_gain.shape, cell_gain, cell_bias, EPSILON
            )
            torch.mul(o[t], torch.tanh(normed, out=tanh[t]), out=h[t + 1])
            moments.append(moments_of_product + moments_of_cell)
        # Mean and reciprocal deviation of the products, then of the cells: each [T, B, 1].
        stacked = map(torch.stack, zip(*moments, strict=True))
        ctx.save_for_backward(
            *(products, gates, outputs, cells, tanhs, weight, gain, cell_gain), *stacked
        )
        return outputs[1:], cells[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_cell: Tensor) -> tuple[Tensor, ...]:
        """Gradients of what `forward` gave to those of what it took."""
        products, gates, outputs, cells, tanhs, weight, gain, cell_gain, *moments = (
            ctx.saved_tensors
        )
        mean, rstd, cell_mean, cell_rstd = moments
        time, batch, size = tanhs.shape
        i, f, g, o = gates.split(size, dim=2)  # each [T, B, H]
        before, after = cells[:-1], cells[1:]
        # Derivatives of the cell by the sums of i, f and g and by the cell before; of the output by
        # the sum of o and by the normalised cell.
        cell_by_ifg = torch.stack(
            [g * i * (1 - i), before * f * (1 - f), i * (1 - g.square())], dim=2
        ).unbind()  # each [B, 3, H]
        output_by_o = (tanhs * o * (1 - o)).unbind()
        output_by_normed = (o * (1 - tanhs.square())).unbind()
        cell_by_before = f.unbind()
        product = list(zip(products, mean, rstd, strict=True))
        cell = list(zip(after, cell_mean, cell_rstd, strict=True))

        d_sums, d_products = torch.empty_like(gates), torch.empty_like(gates)
        d_normed = torch.empty_like(tanhs)
        apart = d_sums.view(time, batch, 4, size)
        d_ifgo, d_ifg, d_o = d_sums.unbind(), apart[:, :, :3].unbind(), apart[:, :, 3].unbind()
        d_hidden, d_cell = torch.zeros_like(d_cell), d_cell.clone()
        for t in reversed(range(time)):
            d_hidden += d_outputs[t]
            torch.mul(d_hidden, output_by_normed[t], out=d_normed[t])
            d_cell += before_norm(d_normed[t], *cell[t], cell_gain)
            torch.mul(d_hidden, output_by_o[t], out=d_o[t])
            torch.mul(d_cell[:, None], cell_by_ifg[t], out=d_ifg[t])  # [B, 3, H]
            d_cell *= cell_by_before[t]
            d_products[t] = before_norm(d_ifgo[t], *product[t], gain)  # [B, 4H]
            torch.mm(d_products[t], weight, out=d_hidden)

        d_weight = d_products.flatten(0, 1).t() @ outputs[:-1].flatten(0, 1)  # [4H, H]
        d_gain = (d_sums * (products - mean) * rstd).sum((0, 1))  # [4H]
        d_cell_gain = (d_normed * (after - cell_mean) * cell_rstd).sum((0, 1))  # [H]
        d_cell_bias = d_normed.sum((0, 1))  # [H]
        return d_sums, d_hidden, d_cell, d_weight, d_gain, d_cell_gain, d_cell_bias


def before_norm(
    d_normed: Tensor, values: Tensor, mean: Tensor, rstd: Tensor, gain: Tensor
) -> Tensor:
    """The gradient of layer norm's input from that of its output: [B, H] -> [B, H]."""
    return torch.ops.aten.native_layer_norm_backward(
        d_normed, values, gain.shape, mean, rstd, gain, None, [True, False, False]
    )[0]


class LstmLayerNormEncoder(RecurrentEncoder):
    """Layers of the layer-normalised LSTM."""

    cell: Cell = LayerNormLstm
