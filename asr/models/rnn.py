"""The plain recurrent network, the baseline that the LSTM was invented to beat."""

from __future__ import annotations

from functools import partial

from torch import nn

from asr.models.recurrent import Cell, RecurrentEncoder


class RnnEncoder(RecurrentEncoder):
    """Layers of tanh units that see their own last output (Elman 1990)."""

    cell: Cell = staticmethod(partial(nn.RNN, batch_first=True))
