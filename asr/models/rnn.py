"""The plain recurrent network, the baseline that the LSTM was invented to beat."""

from __future__ import annotations

from torch import nn

from asr.models.recurrent import RecurrentEncoder


class RnnEncoder(RecurrentEncoder):
    """Layers of tanh units that see their own last output (Elman 1990)."""

    @staticmethod
    def cell(input_size: int, hidden: int) -> nn.RNN:
        """One direction of one layer."""
        return nn.RNN(input_size, hidden, batch_first=True)
