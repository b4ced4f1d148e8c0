"""The stacked bidirectional LSTM, the default encoder."""

from __future__ import annotations

from torch import Tensor, nn

from asr.models.frontend import ConvSubsampling
from asr.models.recurrent import LstmLayer


class LstmEncoder(nn.Module):
    """Strided convolutions, then single LSTM layers with normalisation between them.

    Each layer is followed by layer norm and dropout, and added to its input where the widths agree.
    Its input is a projection to `hidden` (Hochreiter and Schmidhuber 1997; Graves and Schmidhuber
    2005; Amodei et al. 2016).

    Args:
        input_size: mel bins F.
        subsampling: frames of features for one frame that comes out: 2, 3, 4 or 6.
        channels: of the two convolutions.
        hidden: units of one direction.
        layers: recurrent layers.
        bidirectional: both directions, or the forward one alone.
        dropout: on each layer's output.
    """

    def __init__(
        self,
        input_size: int,
        subsampling: int = 4,
        channels: int = 32,
        hidden: int = 256,
        layers: int = 3,
        bidirectional: bool = True,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        if layers < 1 or hidden < 1 or channels < 1:
            raise ValueError(
                f"layers, hidden and channels are at least 1, not {layers}, {hidden}, {channels}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout lies in [0, 1), not {dropout}")
        self.frontend = ConvSubsampling(input_size, channels, hidden, subsampling)
        self.subsampling = subsampling
        sizes = [hidden] + [hidden * (2 if bidirectional else 1)] * layers
        self.layers = nn.ModuleList(
            LstmLayer(size, hidden, bidirectional) for size in sizes[:layers]
        )
        self.norms = nn.ModuleList(nn.LayerNorm(sizes[-1]) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.output_size = sizes[-1]

    def layer_outputs(self, features: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Every layer's output, for those that look inside: a list of [B, T', H], lengths [B]."""
        frames, lengths = self.frontend(features, lengths)
        frames = self.dropout(frames)
        outputs = []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            above = self.dropout(norm(layer(frames, lengths)))
            frames = above + frames if above.shape == frames.shape else above
            outputs.append(frames)
        return outputs, lengths

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, T, F], lengths [B] -> frames [B, T', H], lengths [B]."""
        outputs, lengths = self.layer_outputs(features, lengths)
        return outputs[-1], lengths
