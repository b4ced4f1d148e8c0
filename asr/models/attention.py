"""Self-attention with rotary positions, and pre-norm Transformer layers made of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr.features import length_mask
from asr.models.recurrent import check_sizes

# A pair of rotated components turns by 1 radian a frame at the fastest, by 1 / BASE at the slowest.
BASE = 10_000.0


def check_heads(width: int, heads: int) -> None:
    """Refuse heads that frames of this width cannot be divided into.

    Raises:
        ValueError: no heads, a remainder, or heads of odd width, whose components make no pairs.
    """
    check_sizes(0.0, heads=heads)
    if width % heads:
        raise ValueError(f"heads={heads} does not divide the {width} values of a frame")
    if width // heads % 2:
        raise ValueError(
            f"heads={heads} makes each {width // heads} of a frame's {width} values wide: "
            "rotary positions turn pairs of values, so that the width of a head is even"
        )


@dataclass(frozen=True, eq=False)
class Positions:
    """Where the frames of a padded batch stand, which all attention layers share.

    Attributes:
        cosines: of the angles that the frame at each position is turned by, [T, D / 2].
        sines: likewise.
        own: which frames are an utterance's own, [B, 1, 1, T].
    """

    cosines: Tensor
    sines: Tensor
    own: Tensor

    @classmethod
    def of(cls, frames: Tensor, lengths: Tensor, head_width: int) -> Positions:
        """Of frames [B, T, H] with lengths [B].

        Angles are taken in double precision: in single, 15,000 frames (10 minutes) would turn by
        up to a thousandth of a radian too far.
        """
        pairs = torch.arange(0, head_width, 2, dtype=torch.double) / head_width  # [D / 2]
        times = torch.arange(frames.shape[1], dtype=torch.double)[:, None]
        angles = times * BASE**-pairs  # [T, D / 2]
        dtype = torch.promote_types(frames.dtype, torch.float)  # single also under autocast
        # An utterance of no frames sees its first padded one, since what a softmax over nothing
        # gives is up to the kernel.
        own = length_mask(lengths.clamp(min=1), frames.shape[1])
        return cls(
            cosines=angles.cos().to(frames.device, dtype),
            sines=angles.sin().to(frames.device, dtype),
            own=own[:, None, None, :],
        )

    def turn(self, vectors: Tensor) -> Tensor:
        """Turn queries or keys by their positions, so that products depend on distances alone.

        The pairs are of components i and i + D / 2, not 2i and 2i + 1 as in the paper: the same
        up to the order of the weights' rows. [B, N, T, D] -> [B, N, T, D].
        """
        first, second = vectors.chunk(2, dim=-1)  # [B, N, T, D / 2] each
        turned = (
            first * self.cosines - second * self.sines,
            second * self.cosines + first * self.sines,
        )
        return torch.cat(turned, dim=-1).to(vectors.dtype)


class SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017) with rotary positions (Su et al. 2021).

    Nothing in it depends on a greatest length. No weights are dropped out and the mask has one row
    an utterance, so that PyTorch's fused kernels serve on CPU and GPU and the T x T scores are
    never held in memory.

    Args:
        width: H, of the frames that go in and come out.
        heads: N, each of width D = H / N.
        branches: residual branches that are added into one sum, whose last projections start
            smaller by the root of their number, so that the sum starts as large as one (Zhang et
            al. 2019; Radford et al. 2019).
    """

    def __init__(self, width: int, heads: int, branches: int = 1) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.head_width = width // heads
        self.inputs = nn.Linear(width, 3 * width)  # to queries, keys and values
        self.output = nn.Linear(width, width)
        for weights in self.inputs.weight.data.split(width):
            nn.init.xavier_uniform_(weights)
        nn.init.xavier_uniform_(self.output.weight, gain=branches**-0.5)
        nn.init.zeros_(self.inputs.bias)
        nn.init.zeros_(self.output.bias)

    def forward(self, frames: Tensor, positions: Positions) -> Tensor:
        """[B, T, H] -> [B, T, H]; undefined beyond the lengths."""
        vectors = self.inputs(frames).unflatten(2, (3, self.heads, self.head_width))
        queries, keys, values = vectors.permute(2, 0, 3, 1, 4)  # [B, N, T, D] each
        mixed = nn.functional.scaled_dot_product_attention(
            positions.turn(queries), positions.turn(keys), values, attn_mask=positions.own
        )  # [B, N, T, D]
        joined: Tensor = self.output(mixed.transpose(1, 2).flatten(2))  # [B, T, H]
        return joined


class TransformerLayer(nn.Module):
    """Self-attention, then two linear layers at each frame, both added to what went in.

    Normalised before each, not after (Xiong et al. 2020): it trains without a careful warm-up.

    Args:
        width: H.
        heads: of the attention.
        feedforward: width between the two linear layers.
        dropout: on the output of the attention and on that of the linear layers.
        branches: see `SelfAttention`.
    """

    def __init__(
        self, width: int, heads: int, feedforward: int, dropout: float, branches: int = 2
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, branches)
        self.feedforward_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, feedforward)
        self.narrow = nn.Linear(feedforward, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.widen.weight)
        nn.init.xavier_uniform_(self.narrow.weight, gain=branches**-0.5)
        nn.init.zeros_(self.widen.bias)
        nn.init.zeros_(self.narrow.bias)

    def forward(self, frames: Tensor, positions: Positions) -> Tensor:
        """[B, T, H] -> [B, T, H]; undefined beyond the lengths."""
        frames = frames + self.dropout(self.attention(self.attention_norm(frames), positions))
        wide = nn.functional.gelu(self.widen(self.feedforward_norm(frames)))  # [B, T, feedforward]
        summed: Tensor = frames + self.dropout(self.narrow(wide))
        return summed


class TransformerStack(nn.Module):
    """Pre-norm Transformer layers, and the norm that the last one's sum needs.

    Args: as of `TransformerLayer`; `layers` says how many.
    """

    def __init__(
        self, width: int, layers: int, heads: int, feedforward: int, dropout: float
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerLayer(width, heads, feedforward, dropout, branches=2 * layers)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head_width = width // heads

    def forward(self, frames: Tensor, lengths: Tensor) -> list[Tensor]:
        """[B, T, H], [B] -> every layer's [B, T, H], the last one normalised."""
        frames = frames.to(self.norm.weight.dtype)  # so that the sum is in single under autocast
        positions = Positions.of(frames, lengths, self.head_width)
        outputs = []
        for layer in self.layers:
            frames = layer(frames, positions)
            outputs.append(frames)
        return [*outputs[:-1], self.norm(frames)]
