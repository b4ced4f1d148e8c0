"""The gated recurrent unit: two gates and no separate cell."""

from __future__ import annotations

from torch import nn

from asr.models.recurrent import RecurrentEncoder


class GruEncoder(RecurrentEncoder):
    """Layers of PyTorch's tuned GRU (Cho et al. 2014)."""

    @staticmethod
    def cell(input_size: int, hidden: int) -> nn.GRU:
        """One direction of one layer."""
        return nn.GRU(input_size, hidden, batch_first=True)
