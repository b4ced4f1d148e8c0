"""The LSTM that can stream: layers of one direction, and a short look ahead above them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr.features import length_mask
from asr.models.lstm import LstmEncoder


class Lookahead(nn.Module):
    """Each unit a weighted sum of its own frame and of those that follow (Wang et al. 2016).

    Deep Speech 2 calls it row convolution (Amodei et al. 2016). No unit sees another, so that it
    has few weights.

    Args:
        size: units H.
        lookahead: frames after its own that a frame sees.
    """

    def __init__(self, size: int, lookahead: int) -> None:
        super().__init__()
        self.frames = lookahead
        bound = (lookahead + 1) ** -0.5
        self.weight = nn.Parameter(torch.empty(lookahead + 1, size).uniform_(-bound, bound))

    def forward(self, frames: Tensor) -> Tensor:
        """[B, T + lookahead, H] -> [B, T, H]: as many fewer as the last of them would look ahead.

        A sum of shifted products: on one CPU thread training takes 11 ms where a grouped `Conv1d`
        takes 15 (12 utterances of 150 frames, 416 units, lookahead 8).
        """
        size = frames.shape[1] - self.frames
        total = self.weight[0] * frames[:, :size]
        for ahead in range(1, self.frames + 1):
            total = total + self.weight[ahead] * frames[:, ahead : ahead + size]
        return total


class UnidirectionalLstmEncoder(LstmEncoder):
    """Layers of LSTM in the forward direction, and a lookahead convolution above the last.

    What a bidirectional layer hears of the future, the convolution hears of the next few frames:
    enough for the end of a sound, and little enough to answer while somebody speaks. It stands
    between the last layer and the head, where it delays nothing else, with SiLU, norm and dropout
    behind it, and is added to its input. Beyond an utterance's end it sees zeros.

    Args:
        input_size: mel bins F.
        subsampling: frames of features for one frame that comes out: 2, 3, 4 or 6.
        channels: of the two convolutions.
        hidden: units of a layer.
        layers: recurrent layers.
        lookahead: frames that come after, seen by each frame that comes out; 0 for none.
        dropout: on each layer's output.
        truncate: frames that come out, after which gradients no longer reach back through the
            state; 0: the whole utterance.
    """

    def __init__(
        self,
        input_size: int,
        subsampling: int = 4,
        channels: int = 32,
        hidden: int = 416,
        layers: int = 3,
        lookahead: int = 8,
        dropout: float = 0.3,
        truncate: int = 0,
    ) -> None:
        super().__init__(
            input_size,
            subsampling,
            channels,
            hidden,
            layers,
            bidirectional=False,
            dropout=dropout,
            truncate=truncate,
        )
        if lookahead < 0:
            raise ValueError(f"lookahead is 0 frames or more, not {lookahead}")
        self.lookahead: Lookahead | None = None
        if lookahead:
            self.lookahead = Lookahead(hidden, lookahead)
            self.lookahead_norm = nn.LayerNorm(hidden)

    def layer_outputs(self, features: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Every layer's output, the lookahead's last: a list of [B, T', H], lengths [B]."""
        outputs, lengths = super().layer_outputs(features, lengths)
        if self.lookahead is not None:
            frames = outputs[-1] * length_mask(lengths, outputs[-1].shape[1])[:, :, None]
            ahead = nn.functional.pad(frames, (0, 0, 0, self.lookahead.frames))  # [B, T' + L, H]
            outputs.append(frames + self.dropout(self.look_ahead(ahead)))
        return outputs, lengths

    def look_ahead(self, frames: Tensor) -> Tensor:
        """What the lookahead adds: [B, T' + lookahead, H] -> [B, T', H]."""
        assert self.lookahead is not None
        return self.lookahead_norm(nn.functional.silu(self.lookahead(frames)))
