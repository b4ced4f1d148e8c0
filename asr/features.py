"""Waveforms to normalised log-mel features, on whatever device the waveforms are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
import torchaudio
from torch import Tensor, nn

SAMPLE_RATE_HZ = 16_000
ENERGIES_S = 60.0  # of a long recording's audio whose energies are looked at together
# The quietest mel energy told apart from silence: 16-bit quantisation noise lies above it.
ENERGY_FLOOR = 1e-8


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """True where a position lies within its utterance: lengths [B] -> [B, size]."""
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


def stretches(
    blocks: Iterable[npt.NDArray[np.float32]], size: int, step: int
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Start and samples of stretches of one size, a step apart; what is left at last is shorter.

    `blocks` are the samples of a recording in pieces of any size.
    """
    start, kept = 0, np.zeros(0, np.float32)
    for block in blocks:
        kept = np.concatenate([kept, block])
        while len(kept) > size:
            yield start, kept[:size]
            kept = kept[step:]
            start += step
    yield start, kept


class LogMel(nn.Module):
    """Normalised log-mel energies.

    Frames stand without centre padding: a frame sees its own window only, never reflected or padded
    samples, so that a stream can compute it as soon as its last sample has come. A recording of S
    samples has 1 + (S - window) // hop frames, and none where it is shorter than one window.

    Args:
        mel_bins: size F of a frame.
        window_s: length of the Hann window, in seconds.
        hop_s: distance of two frames, in seconds.
        normalisation: `corpus` (mean and deviation per bin, set by `fit`) or `utterance` (of the
            utterance's own frames: cannot stream).
    """

    mean: Tensor
    deviation: Tensor
    window: Tensor
    mel_filters: Tensor

    def __init__(
        self,
        mel_bins: int = 80,
        window_s: float = 0.025,
        hop_s: float = 0.010,
        normalisation: str = "corpus",
    ) -> None:
        super().__init__()
        if normalisation not in ("corpus", "utterance"):
            raise ValueError(f"normalisation is corpus or utterance, not {normalisation!r}")
        self.mel_bins = mel_bins
        self.window_s, self.hop_s = window_s, hop_s
        self.normalisation = normalisation
        self.window_samples = round(window_s * SAMPLE_RATE_HZ)
        self.hop_samples = round(hop_s * SAMPLE_RATE_HZ)
        self.fft_size = 1 << (self.window_samples - 1).bit_length()
        filters = torchaudio.functional.melscale_fbanks(
            self.fft_size // 2 + 1, 20.0, SAMPLE_RATE_HZ / 2, mel_bins, SAMPLE_RATE_HZ
        )
        self.register_buffer("mel_filters", filters, persistent=False)
        window = torch.hann_window(self.window_samples)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("mean", torch.zeros(mel_bins))
        self.register_buffer("deviation", torch.ones(mel_bins))

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Frames in recordings of so many samples: [B] -> [B]."""
        frames = 1 + (lengths - self.window_samples).div(self.hop_samples, rounding_mode="floor")
        return frames.clamp(min=0)

    def log_mel(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The energies before normalisation: [B, S], [B] -> [B, T, F], [B]."""
        frame_lengths = self.frame_lengths(lengths)
        missing_samples = self.window_samples - waveforms.shape[1]
        if missing_samples > 0:
            waveforms = nn.functional.pad(waveforms, (0, missing_samples))
        with torch.autocast(waveforms.device.type, enabled=False):
            samples = waveforms.to(self.window.dtype)
            frames = samples.unfold(1, self.window_samples, self.hop_samples)
            frames = frames[:, : max(1, int(frame_lengths.max()))]  # [B, T, window]
            spectrum = torch.fft.rfft(frames * self.window, n=self.fft_size)
            power = spectrum.real.square() + spectrum.imag.square()  # [B, T, fft / 2 + 1]
            energies = (power @ self.mel_filters).clamp(min=ENERGY_FLOOR).log()  # [B, T, F]
        return energies, frame_lengths

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms in [-1, 1] to features, zero beyond each utterance's end.

        Args:
            waveforms: [B, S] at 16 kHz.
            lengths: [B] in samples.

        Returns:
            Features [B, T, F] and their lengths [B] in frames.
        """
        energies, frame_lengths = self.log_mel(waveforms, lengths)
        mask = length_mask(frame_lengths, energies.shape[1])[:, :, None]  # [B, T, 1]
        if self.normalisation == "corpus":
            features = (energies - self.mean) / self.deviation
        else:
            count = frame_lengths.clamp(min=1)[:, None, None]
            mean = (energies * mask).sum(1, keepdim=True) / count  # [B, 1, F]
            variance = ((energies - mean).square() * mask).sum(1, keepdim=True) / count
            features = (energies - mean) / (variance.sqrt() + 1e-3)
        return features.masked_fill(~mask, 0.0), frame_lengths

    @torch.no_grad()
    def fit(self, waveforms: Iterable[Tensor]) -> None:
        """Set mean and deviation per bin from recordings [S], summed in double precision.

        Raises:
            ValueError: the recordings hold no frame.
        """
        total = torch.zeros(self.mel_bins, dtype=torch.float64)
        squares = torch.zeros(self.mel_bins, dtype=torch.float64)
        count = 0
        for waveform in waveforms:
            energies, frames = self.log_mel(waveform[None], torch.tensor([len(waveform)]))
            if int(frames) == 0:
                continue
            doubles = energies[0].double()
            total += doubles.sum(0)
            squares += doubles.square().sum(0)
            count += len(doubles)
        if count == 0:
            raise ValueError("no recording is as long as one window: nothing to take statistics of")
        mean = total / count
        deviation = (squares / count - mean.square()).clamp(min=1e-6).sqrt()
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    def fitted(self, blocks: Iterable[npt.NDArray[np.float32]]) -> LogMel:
        """Features that normalise each part of a recording as `forward` would the whole.

        `blocks` are the recording's samples, in pieces of any size.
        """
        whole = LogMel(self.mel_bins, self.window_s, self.hop_s)
        size = round(ENERGIES_S * SAMPLE_RATE_HZ / whole.hop_samples) * whole.hop_samples
        # Each frame in one part only: a part ends where the window of its last frame does.
        parts = stretches(blocks, size + whole.window_samples - whole.hop_samples, size)
        try:
            whole.fit(torch.from_numpy(part) for _, part in parts)
        except ValueError:  # no frame: nothing to normalise
            return self
        whole.deviation += 1e-3  # as `forward` has it
        return whole.to(self.mean.device)

    def settings(self) -> dict[str, object]:
        """The constructor's arguments, as a bundle keeps them."""
        return {
            "mel_bins": self.mel_bins,
            "window_s": self.window_s,
            "hop_s": self.hop_s,
            "normalisation": self.normalisation,
        }
