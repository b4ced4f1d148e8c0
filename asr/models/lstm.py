"""The stacked bidirectional LSTM, the default encoder."""

from __future__ import annotations

from torch import nn

from asr.models.recurrent import RecurrentEncoder


class LstmEncoder(RecurrentEncoder):
    """Layers of PyTorch's tuned LSTM (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

    Its equations, one line each, are in `asr.models.lstm_reference`.
    """

    @staticmethod
    def cell(input_size: int, hidden: int) -> nn.LSTM:
        """One direction of one layer."""
        return nn.LSTM(input_size, hidden, batch_first=True)
