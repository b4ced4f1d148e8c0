"""The stacked bidirectional LSTM, the default encoder."""

from __future__ import annotations

from functools import partial

from torch import nn

from asr.models.recurrent import Cell, RecurrentEncoder


class LstmEncoder(RecurrentEncoder):
    """Layers of PyTorch's tuned LSTM (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

    Its equations, one line each, are in `asr.models.lstm_reference`.
    """

    cell: Cell = staticmethod(partial(nn.LSTM, batch_first=True))
