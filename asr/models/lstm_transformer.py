"""The hybrid: recurrent layers below, Transformer layers above."""

from __future__ import annotations

from torch import Tensor

from asr.models.attention import TransformerStack
from asr.models.lstm import LstmEncoder
from asr.models.recurrent import check_sizes


class LstmTransformerEncoder(LstmEncoder):
    """LSTM layers that tell what is near, and Transformer layers that see what is far.

    (Chen et al. 2018 mix both in translation.)

    Args: as of `LstmEncoder`; `transformer_layers` stand above its `layers`, as wide as both
        directions together, each with `heads` and `feedforward` (see `TransformerLayer`).
    """

    def __init__(
        self,
        input_size: int,
        subsampling: int = 4,
        channels: int = 32,
        hidden: int = 192,
        layers: int = 2,
        bidirectional: bool = True,
        transformer_layers: int = 2,
        heads: int = 4,
        feedforward: int = 1024,
        dropout: float = 0.3,
    ) -> None:
        check_sizes(dropout, transformer_layers=transformer_layers, feedforward=feedforward)
        super().__init__(input_size, subsampling, channels, hidden, layers, bidirectional, dropout)
        self.transformer = TransformerStack(
            self.output_size, transformer_layers, heads, feedforward, dropout
        )

    def layer_outputs(self, features: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Each LSTM layer's output, then each Transformer layer's: a list of [B, T', H], [B]."""
        outputs, lengths = super().layer_outputs(features, lengths)
        return [*outputs, *self.transformer(outputs[-1], lengths)], lengths
