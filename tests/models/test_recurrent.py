"""The split layer against PyTorch's packed bidirectional LSTM."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from asr.models.lstm import LstmEncoder
from asr.models.recurrent import RecurrentLayer, reverse_within_lengths, start_cell


def packed_twin(layer: RecurrentLayer, input_size: int, hidden: int) -> nn.LSTM:
    twin = nn.LSTM(input_size, hidden, batch_first=True, bidirectional=True)
    assert layer.backwards is not None
    for name, value in layer.forwards.named_parameters():
        twin.get_parameter(name).data.copy_(value)
    for name, value in layer.backwards.named_parameters():
        twin.get_parameter(f"{name}_reverse").data.copy_(value)
    return twin


@pytest.mark.parametrize("lengths", [[7, 4, 1], [5, 5, 5], [9]])
def test_outputs_and_gradients_equal_those_of_a_packed_lstm(lengths: list[int]) -> None:
    torch.manual_seed(0)
    layer = RecurrentLayer(LstmEncoder.cell, 6, 8).double()
    twin = packed_twin(layer, 6, 8).double()
    frames = torch.randn(len(lengths), max(lengths), 6, dtype=torch.double)
    sizes = torch.tensor(lengths)
    mask = (torch.arange(max(lengths)) < sizes[:, None])[:, :, None]
    weights = torch.randn(len(lengths), max(lengths), 16, dtype=torch.double) * mask

    outputs = layer(frames, sizes)
    (outputs * weights).sum().backward()
    packed = nn.utils.rnn.pack_padded_sequence(
        frames, sizes, batch_first=True, enforce_sorted=False
    )
    expected, _ = nn.utils.rnn.pad_packed_sequence(twin(packed)[0], batch_first=True)
    (expected * weights).sum().backward()

    torch.testing.assert_close(outputs * mask, expected * mask, atol=1e-12, rtol=0)
    assert layer.backwards is not None
    for name, value in layer.forwards.named_parameters():
        torch.testing.assert_close(value.grad, twin.get_parameter(name).grad)
    for name, value in layer.backwards.named_parameters():
        torch.testing.assert_close(value.grad, twin.get_parameter(f"{name}_reverse").grad)


def test_reversal_turns_each_utterance_within_its_own_length() -> None:
    frames = torch.arange(1, 9, dtype=torch.float).view(2, 4, 1)
    turned = reverse_within_lengths(frames, torch.tensor([3, 4]))
    assert turned[:, :, 0].tolist() == [[3, 2, 1, 4], [8, 7, 6, 5]]
    torch.testing.assert_close(reverse_within_lengths(turned, torch.tensor([3, 4])), frames)


def test_recurrent_weights_start_orthogonal_and_the_forget_gate_open() -> None:
    lstm = nn.LSTM(5, 8)
    start_cell(lstm, 8)
    for gate in lstm.weight_hh_l0.data.split(8):
        torch.testing.assert_close(gate @ gate.T, torch.eye(8), atol=1e-5, rtol=0)
    assert (lstm.bias_ih_l0 + lstm.bias_hh_l0).tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16
