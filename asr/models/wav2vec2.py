"""wav2vec 2.0 and HuBERT as torchaudio builds them, cut where they look at the whole utterance.

Such a network normalises over time once: the waveform, or each channel of its first convolution
(Baevski et al. 2020, section 4.2). That step and what comes before it are its features here, all
the rest its encoder. So an utterance is normalised by itself in any batch, padding or not, and the
windows of a long recording can be as the whole would be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from asr.features import SAMPLE_RATE_HZ

EPSILON = 1e-5  # beside the variance of a waveform, as `torch.nn.functional.layer_norm` has it
PIECE_SAMPLES = 10 * SAMPLE_RATE_HZ  # of a long recording, looked at together


class Wav2Vec2Features(nn.Module):
    """The waveform, or the output of the first convolution, normalised over the utterance.

    Each of C channels has mean 0 and deviation 1 within the utterance; the waveform is one channel.
    A convolution's channels are scaled and shifted then, by learned weights (group norm with a
    group for each channel).

    Args:
        block: the first convolution with its group norm; None where the waveform is normalised.
        window_samples: that one frame of emissions is made of.
        normalisation: `utterance`, or `corpus` for the statistics that `mean` and `deviation` [C]
            hold, whatever the utterance is.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, block: Any | None, window_samples: int, normalisation: str = "utterance"
    ) -> None:
        super().__init__()
        self.block, self.normalisation = block, normalisation
        self.hop_samples = int(block.stride) if block is not None else 1
        self.window_samples = window_samples
        self.hop_s = self.hop_samples / SAMPLE_RATE_HZ
        self.window_s = window_samples / SAMPLE_RATE_HZ
        channels = block.conv.out_channels if block is not None else 1
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    @classmethod
    def of(cls, model: Any) -> Wav2Vec2Features:
        """The features of torchaudio's model, which shares its weights with them."""
        blocks = model.feature_extractor.conv_layers
        samples = 1
        for block in reversed(blocks):
            samples = (samples - 1) * int(block.stride) + int(block.kernel_size)
        return cls(blocks[0] if _is_group_norm(blocks[0]) else None, samples)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms in [-1, 1] to frames that are normalised; beyond an utterance's end is noise.

        Args:
            waveforms: [B, S] at 16 kHz.
            lengths: [B] in samples.

        Returns:
            Frames [B, C, T] and their lengths [B].
        """
        # The convolutions refuse what is shorter than one frame of emissions.
        missing = max(0, self.window_samples - waveforms.shape[1])
        waveforms = nn.functional.pad(waveforms, (0, missing))
        with torch.autocast(waveforms.device.type, enabled=False):
            frames, lengths = self._frames(waveforms, lengths)  # [B, C, T]
            for row, length in zip(frames, lengths.tolist(), strict=True):  # [C, T]
                mean, deviation = self._statistics(row[:, : max(1, length)])
                row.sub_(mean[:, None]).div_(deviation[:, None])
            if self.block is not None:
                norm = self.block.layer_norm
                frames.mul_(norm.weight[:, None]).add_(norm.bias[:, None])
        return frames, lengths

    @torch.no_grad()
    def fitted(self, blocks: Iterable[npt.NDArray[np.float32]]) -> Wav2Vec2Features:
        """Features that normalise each part of a recording as the whole would be.

        `blocks` are the recording's samples, in pieces of any size. The sums are taken in double
        precision, at constant memory.
        """
        total = torch.zeros_like(self.mean, dtype=torch.float64)
        squares, count = torch.zeros_like(total), 0
        for piece in self._pieces(blocks):
            waveform = torch.from_numpy(piece).to(self.mean.device)[None]  # [1, S]
            frames, _ = self._frames(waveform, torch.tensor([len(piece)]))  # [1, C, T]
            doubles = frames[0].double()
            total += doubles.sum(1)
            squares += doubles.square().sum(1)
            count += doubles.shape[1]
        if count == 0:  # no frame: nothing to normalise
            return self
        whole = Wav2Vec2Features(self.block, self.window_samples, "corpus").to(self.mean.device)
        mean = total / count
        whole.mean.copy_(mean)
        whole.deviation.copy_((squares / count - mean.square()).clamp(min=0).add(self._eps).sqrt())
        return whole

    def settings(self) -> dict[str, object]:
        """What is normalised, over what, and from which samples a frame of emissions is made."""
        return {
            "name": "waveform" if self.block is None else "first convolution",
            "normalisation": self.normalisation,
            "window_s": self.window_s,
            "hop_s": self.hop_s,
        }

    @property
    def _eps(self) -> float:
        return EPSILON if self.block is None else float(self.block.layer_norm.eps)

    def _statistics(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation [C] of an utterance's frames [C, T], or of what was fitted."""
        if self.normalisation == "corpus":
            return self.mean, self.deviation
        variance, mean = torch.var_mean(frames, dim=1, correction=0)
        return mean, (variance + self._eps).sqrt()

    def _frames(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """What is normalised, [B, C, T], with its lengths; no view of the waveforms."""
        if self.block is None:
            return waveforms[:, None].clone(), lengths  # [B, 1, S]
        counts = 1 + (lengths - self.block.kernel_size).div(
            self.block.stride, rounding_mode="floor"
        )
        return self.block.conv(waveforms[:, None]), counts.clamp(min=0)  # [B, C, T]

    def _pieces(
        self, blocks: Iterable[npt.NDArray[np.float32]]
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Samples of a recording, such that each frame is in one piece."""
        kernel, stride = (self.block.kernel_size, self.block.stride) if self.block else (1, 1)
        kept = np.zeros(0, np.float32)
        for block in blocks:
            for start in range(0, len(block), PIECE_SAMPLES):
                kept = np.concatenate([kept, block[start : start + PIECE_SAMPLES]])
                count = (len(kept) - kernel) // stride + 1
                if count > 0:
                    yield kept[: (count - 1) * stride + kernel]
                    kept = kept[count * stride :]


class Wav2Vec2Encoder(nn.Module):
    """What follows the features: the other convolutions, and the transformer.

    Args:
        model: torchaudio's; its head is not used.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.convolutions = model.feature_extractor.conv_layers
        self.transformer = model.encoder
        self.output_size = int(model.aux.in_features)

    @property
    def subsampling(self) -> int:
        """Frames of features for one frame of emissions."""
        strides = [int(block.stride) for block in self.convolutions]
        return math.prod(strides[1:] if _is_group_norm(self.convolutions[0]) else strides)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, C, T], lengths [B] -> frames [B, T', H], lengths [B]."""
        blocks = list(self.convolutions)
        if _is_group_norm(blocks[0]):  # its convolution and norm are the features'
            frames = nn.functional.gelu(frames)
            del blocks[0]
        for block in blocks:  # no padding: a frame within the utterance sees nothing beyond it
            frames, lengths = block(frames, lengths)  # [B, H, T / stride]
        return self.transformer(frames.transpose(1, 2), lengths), lengths  # [B, T', H]


def _is_group_norm(block: Any) -> bool:
    return isinstance(block.layer_norm, nn.GroupNorm)
