"""Two strided convolutions that shorten the features before the recurrent layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr.features import length_mask

# Strides in time of the two convolutions, for each subsampling.
TIME_STRIDES = {2: (2, 1), 3: (3, 1), 4: (2, 2), 6: (3, 2)}


class FrameNorm(nn.Module):
    """Normalise each frame over its channels and bins, with a gain and a bias per channel.

    In place of batch norm: it sees one frame of one utterance, so that an utterance's result is its
    own, in training, evaluation and streams alike.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, frames: Tensor) -> Tensor:  # [B, C, T, F]
        wide = frames.to(self.gain.dtype)  # under autocast they come in half precision
        mean = wide.mean(dim=(1, 3), keepdim=True)  # [B, 1, T, 1]
        variance = (wide - mean).square().mean(dim=(1, 3), keepdim=True)
        return (wide - mean) * (variance + 1e-5).rsqrt() * self.gain + self.bias


class ConvSubsampling(nn.Module):
    """Features [B, T, F] to frames [B, ceil(T / subsampling), output_size].

    Two 3x3 convolutions, both with stride 2 over the mel bins; padded frames are zeroed before
    each, so that an utterance's last frames see the same zeros whatever it is batched with.
    """

    def __init__(self, input_size: int, channels: int, output_size: int, subsampling: int) -> None:
        super().__init__()
        if subsampling not in TIME_STRIDES:
            known = ", ".join(map(str, TIME_STRIDES))
            raise ValueError(f"subsampling is one of {known}, not {subsampling}")
        self.subsampling = subsampling
        self.strides = TIME_STRIDES[subsampling]
        self.first = nn.Conv2d(1, channels, 3, stride=(self.strides[0], 2), padding=1)
        self.first_norm = FrameNorm(channels)
        self.second = nn.Conv2d(channels, channels, 3, stride=(self.strides[1], 2), padding=1)
        self.second_norm = FrameNorm(channels)
        bins = (input_size + 3) // 4  # halved twice, rounded up
        self.project = nn.Linear(channels * bins, output_size)

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Frames that come out for so many that go in: [B] -> [B]."""
        for stride in self.strides:
            lengths = (lengths + stride - 1).div(stride, rounding_mode="floor")
        return lengths

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, F], [B] -> [B, T', output_size], [B]."""
        frames = features[:, None]  # [B, 1, T, F]
        for position, stride in enumerate(self.strides):
            inside = length_mask(lengths, frames.shape[2])[:, None, :, None]
            frames = self.convolved(position, frames * inside)  # [B, C, T / s, F / 2]
            lengths = (lengths + stride - 1).div(stride, rounding_mode="floor")
        return self.projected(frames), lengths

    def convolved(self, position: int, frames: Tensor, time_padding: int = 1) -> Tensor:
        """The first or second convolution and its norm: [B, C, T, F] -> [B, C', T', F / 2].

        `time_padding` frames of zeros stand before the first frame and after the last; a stream,
        whose frames go on, has none.
        """
        convolution = (self.first, self.second)[position]
        norm = (self.first_norm, self.second_norm)[position]
        weight, bias, stride = convolution.weight, convolution.bias, convolution.stride
        frames = nn.functional.conv2d(frames, weight, bias, stride, padding=(time_padding, 1))
        return nn.functional.silu(norm(frames))

    def projected(self, frames: Tensor) -> Tensor:
        """What the convolutions give as vectors: [B, C, T', F / 4] -> [B, T', output_size]."""
        batch, channels, time, bins = frames.shape
        flat = frames.transpose(1, 2).reshape(batch, time, channels * bins)
        return self.project(flat)
