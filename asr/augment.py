"""What training hears in place of the recordings: speed, vocal tract, masks.

What is drawn for an utterance depends on (seed, epoch, the utterance's key) alone, never on the
batch it is in, the rank it is on or what was drawn before: so a run can be resumed anywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd

import numpy as np
import torch
import torchaudio
from torch import Tensor

from asr.features import length_mask

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def utterance_keys(ids: Iterable[str]) -> np.ndarray:
    """64 bits for each id, the same on every machine."""
    digests = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids]
    return np.frombuffer(b"".join(digests), dtype="<u8").copy()


def _scramble(bits: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def draw(seed: int, epoch: int, keys: np.ndarray, purpose: str, count: int) -> np.ndarray:
    """Uniform numbers in [0, 1) for each utterance: keys [B] -> [B, count].

    `purpose` keeps the draws of one augmentation apart from another's.
    """
    text = f"{seed}/{epoch}/{purpose}".encode()
    base = np.frombuffer(hashlib.blake2b(text, digest_size=8).digest(), dtype="<u8")
    with np.errstate(over="ignore"):
        states = _scramble(keys.astype(np.uint64) ^ base)[:, None]  # [B, 1]
        steps = (np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN)[None, :]  # [1, count]
        bits = _scramble(states + steps)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True)
class Speed:
    """Resample to play faster or slower, pitch included (Ko et al. 2015).

    A factor of 1.1 makes a 10 s waveform 9.09 s long. The factors belong to the plan of batches,
    since they change lengths.
    """

    factors: tuple[float, ...] = (0.9, 1.0, 1.1)
    start_epoch: int = 3

    @property
    def fastest(self) -> float:
        """The factor that leaves the fewest frames, 1 before `start_epoch` included."""
        return max(self.factors if self.start_epoch <= 1 else (1.0, *self.factors))

    def draw(self, seed: int, epoch: int, keys: np.ndarray) -> np.ndarray:
        """A factor for each utterance: keys [B] -> [B]."""
        if epoch < self.start_epoch or len(self.factors) == 1:
            only = 1.0 if epoch < self.start_epoch else self.factors[0]
            return np.full(len(keys), only)
        uniform = draw(seed, epoch, keys, "speed", 1)[:, 0]
        return np.array(self.factors)[(uniform * len(self.factors)).astype(int)]


def perturbed_samples(samples: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """How long waveforms are after `change_speed`: [B], [B] -> [B]."""
    hundredths = np.rint(factors * 100).astype(np.int64)
    divisors = np.gcd(hundredths, 100)
    return -(-samples * (100 // divisors) // (hundredths // divisors))


def change_speed(waveform: Tensor, factor: float) -> Tensor:
    """Play a waveform faster: [..., S] -> [..., ceil(S / factor)]. Factors are hundredths."""
    hundredths = round(factor * 100)
    divisor = gcd(hundredths, 100)
    if hundredths == 100:
        return waveform
    return torchaudio.functional.resample(waveform, hundredths // divisor, 100 // divisor)


@dataclass(frozen=True)
class Join:
    """Let others follow an utterance without a break, as in a longer recording.

    With `probability` 1 to `most` - 1 others do, each as likely as another; those are left out with
    which all together would be longer than `longest_s`. They belong to the plan of batches, since
    they change lengths.
    """

    probability: float = 0.0
    most: int = 4
    longest_s: float = 30.0
    start_epoch: int = 3

    def draw(self, seed: int, epoch: int, keys: np.ndarray, count: int) -> np.ndarray:
        """Which of `count` utterances may follow each: keys [B] -> [B, most - 1], -1 for none."""
        if epoch < self.start_epoch or self.probability == 0.0:
            return np.full((len(keys), 0), -1)
        uniform = draw(seed, epoch, keys, "join", self.most + 1)
        others = self.most - 1
        followers = (uniform[:, 2:] * count).astype(np.int64)  # [B, most - 1]
        wanted = 1 + (uniform[:, 1] * others).astype(np.int64)  # [B]
        wanted[uniform[:, 0] >= self.probability] = 0
        followers[np.arange(others) >= wanted[:, None]] = -1
        return followers


@dataclass(frozen=True)
class Warp:
    """Stretch the mel axis, as another vocal tract would (Jaitly and Hinton 2013).

    Bin f of the result is bin f x factor of the original, interpolated; what lies above the last
    bin repeats it.
    """

    low: float = 0.88
    high: float = 1.12
    start_epoch: int = 3

    def __call__(self, features: Tensor, seed: int, epoch: int, keys: np.ndarray) -> Tensor:
        """[B, T, F] -> [B, T, F]."""
        if epoch < self.start_epoch or self.low == self.high == 1.0:
            return features
        uniform = draw(seed, epoch, keys, "warp", 1)[:, 0]
        factors = torch.from_numpy(self.low + (self.high - self.low) * uniform)
        return warp_mel_axis(features, factors.to(features.device, torch.float32))


def warp_mel_axis(features: Tensor, factors: Tensor) -> Tensor:
    """Interpolate along the mel axis: [B, T, F], [B] -> [B, T, F]."""
    bins = features.shape[2]
    wanted = torch.arange(bins, device=features.device) * factors[:, None]  # [B, F]
    wanted = wanted.clamp(max=bins - 1)
    below = wanted.floor().long().clamp(max=max(bins - 2, 0))
    share = wanted - below  # [B, F]
    # As a matrix per utterance: one batched product is faster than two gathers.
    matrices = features.new_zeros(len(features), bins, bins)  # [B, F, F]
    matrices.scatter_(1, below[:, None, :], (1 - share)[:, None, :])
    matrices.scatter_(1, (below + 1).clamp(max=bins - 1)[:, None, :], share[:, None, :])
    return features @ matrices


@dataclass(frozen=True)
class SpecAugment:
    """Zero bands of mel bins and stretches of time (Park et al. 2019); zero is the corpus mean.

    A time mask covers at most `time_share` of an utterance's own frames.
    """

    frequency_masks: int = 2
    frequency_width: int = 15
    time_masks: int = 2
    time_share: float = 0.05
    start_epoch: int = 4

    def __call__(
        self, features: Tensor, lengths: Tensor, seed: int, epoch: int, keys: np.ndarray
    ) -> Tensor:
        """[B, T, F], [B] -> [B, T, F]."""
        if epoch < self.start_epoch or self.frequency_masks + self.time_masks == 0:
            return features
        bins, time = features.shape[2], features.shape[1]
        count = self.frequency_masks + self.time_masks
        uniform = torch.from_numpy(draw(seed, epoch, keys, "masks", 2 * count)).float()
        uniform = uniform.to(features.device).view(len(features), count, 2)
        across, along = uniform.split([self.frequency_masks, self.time_masks], dim=1)
        widths = (across[:, :, 0] * (self.frequency_width + 1)).floor()  # [B, masks]
        starts = (across[:, :, 1] * (bins - widths + 1).clamp(min=0)).floor()
        hidden_bins = _covered(starts, widths, bins)  # [B, F]
        widths = (along[:, :, 0] * (self.time_share * lengths[:, None] + 1)).floor()
        starts = (along[:, :, 1] * (lengths[:, None] - widths + 1).clamp(min=0)).floor()
        hidden_frames = _covered(starts, widths, time)  # [B, T]
        hidden = hidden_bins[:, None, :] | hidden_frames[:, :, None]
        return features.masked_fill(hidden, 0.0)


def _covered(starts: Tensor, widths: Tensor, size: int) -> Tensor:
    """Which positions lie in any of the stretches: [B, masks], [B, masks] -> [B, size]."""
    if starts.shape[1] == 0:
        return length_mask(torch.zeros(len(starts), device=starts.device), size)
    positions = torch.arange(size, device=starts.device)[None, None, :]
    inside = (positions >= starts[:, :, None]) & (positions < (starts + widths)[:, :, None])
    return inside.any(dim=1)


@dataclass(frozen=True)
class Augmentation:
    """All that is done to training utterances."""

    speed: Speed = Speed()
    warp: Warp = Warp()
    spec: SpecAugment = SpecAugment()
