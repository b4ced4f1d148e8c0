"""Self-attention over the outputs of a bidirectional LSTM."""

from __future__ import annotations

from torch import Tensor, nn

from asr.models.attention import Positions, SelfAttention
from asr.models.lstm import LstmEncoder


class LstmAttentionEncoder(LstmEncoder):
    """LSTM layers, then each frame looks at all others (Bahdanau et al. 2015; Lin et al. 2017).

    The attention sees the normalised outputs of the last LSTM layer and is added to them.

    Args: as of `LstmEncoder`; `heads` are the attention's, whose frames are as wide as both
        directions together.
    """

    def __init__(
        self,
        input_size: int,
        subsampling: int = 4,
        channels: int = 32,
        hidden: int = 224,
        layers: int = 3,
        bidirectional: bool = True,
        heads: int = 4,
        dropout: float = 0.3,
    ) -> None:
        super().__init__(input_size, subsampling, channels, hidden, layers, bidirectional, dropout)
        self.attention_norm = nn.LayerNorm(self.output_size)
        self.attention = SelfAttention(self.output_size, heads)

    def layer_outputs(self, features: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Each LSTM layer's output, then the attention's: a list of [B, T', H], lengths [B]."""
        outputs, lengths = super().layer_outputs(features, lengths)
        frames = outputs[-1]
        positions = Positions.of(frames, lengths, self.attention.head_width)
        above = self.dropout(self.attention(self.attention_norm(frames), positions))
        return [*outputs, frames + above], lengths
