"""The Transformer encoder, which has no recurrence: what the LSTM is compared with."""

from __future__ import annotations

from torch import Tensor, nn

from asr.models.attention import TransformerStack
from asr.models.frontend import ConvSubsampling
from asr.models.recurrent import check_sizes


class TransformerEncoder(nn.Module):
    """The strided convolutions of the other encoders, then pre-norm Transformer layers.

    (Vaswani et al. 2017; Xiong et al. 2020; rotary positions: Su et al. 2021.)

    Args:
        input_size: mel bins F.
        subsampling: frames of features for one frame that comes out: 2, 3, 4 or 6.
        channels: of the two convolutions.
        hidden: H, width of the frames.
        layers: Transformer layers.
        heads: of each layer's attention.
        feedforward: width between the two linear layers of each layer.
        dropout: on the output of the convolutions, of each attention and each pair of linear
            layers.
    """

    def __init__(
        self,
        input_size: int,
        subsampling: int = 4,
        channels: int = 32,
        hidden: int = 256,
        layers: int = 6,
        heads: int = 4,
        feedforward: int = 832,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        check_sizes(
            dropout, layers=layers, hidden=hidden, channels=channels, feedforward=feedforward
        )
        self.frontend = ConvSubsampling(input_size, channels, hidden, subsampling)
        self.subsampling = subsampling
        self.dropout = nn.Dropout(dropout)
        self.transformer = TransformerStack(hidden, layers, heads, feedforward, dropout)
        self.output_size = hidden

    def layer_outputs(self, features: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Every layer's output, the last one normalised: a list of [B, T', H], lengths [B]."""
        frames, lengths = self.frontend(features, lengths)
        return self.transformer(self.dropout(frames), lengths), lengths

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, T, F], lengths [B] -> frames [B, T', H], lengths [B]."""
        outputs, lengths = self.layer_outputs(features, lengths)
        return outputs[-1], lengths
