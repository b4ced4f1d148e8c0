"""Training utterances in another room, with noise around them, louder or softer.

Waveforms are floats, and what goes beyond full scale is not clipped. Their length never changes.
What is drawn depends on (seed, epoch, the utterance's key) alone, as in `asr.augment`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from asr.acoustics.recordings import Recordings, Samples
from asr.augment import draw

LONGEST_RESPONSE_S = 30.0  # a longer recording is no impulse response: it is in the wrong folder


@dataclass(frozen=True)
class Noise:
    """Add a stretch of a folder's recordings, at an SNR drawn evenly in dB (Ko et al. 2017).

    The SNR is the utterance's mean power, pauses included, over that of the stretch.
    """

    folder: str | None = None
    probability: float = 0.5
    low_snr_db: float = 5.0
    high_snr_db: float = 20.0
    start_epoch: int = 3

    @cached_property
    def recordings(self) -> Recordings | None:
        """Of noise; None: none is added."""
        return _recordings("augment.noise.folder", self.folder)

    def check(self) -> None:
        """Read all of the noise once.

        Raises:
            UserError: the folder, or a recording in it, cannot be used.
        """
        if self.recordings:
            self.recordings.check()

    def __call__(self, waveform: Samples, seed: int, epoch: int, key: np.uint64) -> Samples:
        """[S] -> [S]."""
        if not self.recordings or epoch < self.start_epoch:
            return waveform
        chance, share, offset, level = draw(seed, epoch, np.array([key]), "noise", 4)[0]
        if chance >= self.probability:
            return waveform
        snr_db = self.low_snr_db + (self.high_snr_db - self.low_snr_db) * level
        return add_noise(waveform, self.recordings.stretch(share, offset, len(waveform)), snr_db)


def add_noise(waveform: Samples, noise: Samples, snr_db: float) -> Samples:
    """[S], [S] -> [S]. Where either is silent, the waveform as it is."""
    added = _power(noise)
    if added == 0:
        return waveform
    scale = np.float64(math.sqrt(_power(waveform) / added) * 10 ** (-snr_db / 20))
    return (waveform + noise * scale).astype(np.float32)


@dataclass(frozen=True)
class Reverb:
    """Convolve with one of a folder's impulse responses (Ko et al. 2017)."""

    folder: str | None = None
    probability: float = 0.3
    start_epoch: int = 3

    @cached_property
    def responses(self) -> Recordings | None:
        """The impulse responses; None: every room stays as it is."""
        return _recordings("augment.reverb.folder", self.folder)

    def check(self) -> None:
        """Read all impulse responses once.

        Raises:
            UserError: the folder, or a recording in it, cannot be used.
        """
        if self.responses:
            self.responses.check(LONGEST_RESPONSE_S)

    def __call__(self, waveform: Samples, seed: int, epoch: int, key: np.uint64) -> Samples:
        """[S] -> [S]."""
        if not self.responses or epoch < self.start_epoch:
            return waveform
        chance, share = draw(seed, epoch, np.array([key]), "reverb", 2)[0]
        if chance >= self.probability:
            return waveform
        return reverberate(waveform, self.responses.whole(share))


def reverberate(waveform: Samples, response: Samples) -> Samples:
    """Convolve, with the words where they were and as much energy: [S], [R] -> [S].

    The peak of the impulse response, taken to be the direct sound, arrives without delay; what
    sounds after the end is cut off. Where the result is silent, the waveform as it is.
    """
    direct = int(np.abs(response).argmax())
    response = response[: direct + len(waveform)]
    size = _transform_size(len(waveform) + len(response) - 1)
    spectrum = np.fft.rfft(waveform.astype(np.float64), size)  # [size // 2 + 1]
    spectrum *= np.fft.rfft(response.astype(np.float64), size)
    heard = np.fft.irfft(spectrum, size)[direct : direct + len(waveform)]  # [S]
    power = _power(heard)
    if power == 0:
        return waveform
    return (heard * math.sqrt(_power(waveform) / power)).astype(np.float32)


def _transform_size(least: int) -> int:
    """A size not much above `least` with small factors only: a prime one takes times as long."""
    power = max(0, least.bit_length() - 4)
    return next(factor << power for factor in (8, 9, 10, 12, 15, 16) if factor << power >= least)


def _power(waveform: npt.NDArray[np.floating]) -> float:
    """The mean square of [S], the same with any number of threads."""
    return float(np.mean(np.square(waveform, dtype=np.float64)))


@dataclass(frozen=True)
class Gain:
    """Make an utterance louder or softer, by decibels drawn evenly; from 0 to 0: neither."""

    low_db: float = 0.0
    high_db: float = 0.0
    start_epoch: int = 1

    def __call__(self, waveform: Samples, seed: int, epoch: int, key: np.uint64) -> Samples:
        """[S] -> [S]."""
        if self.low_db == self.high_db == 0 or epoch < self.start_epoch:
            return waveform
        level = draw(seed, epoch, np.array([key]), "gain", 1)[0, 0]
        gain_db = self.low_db + (self.high_db - self.low_db) * level
        return waveform * np.float32(10 ** (gain_db / 20))


def _recordings(setting: str, folder: str | None) -> Recordings | None:
    return Recordings(setting, folder) if folder is not None else None


@dataclass(frozen=True)
class WaveformAugmentation:
    """The room first, then what else sounds in it, then how loud it is recorded."""

    seed: int
    noise: Noise = Noise()
    reverb: Reverb = Reverb()
    gain: Gain = Gain()

    def check(self) -> None:
        """Read all noise and all impulse responses once, before training begins.

        Raises:
            UserError: a folder, or a recording in it, cannot be used.
        """
        self.noise.check()
        self.reverb.check()

    def __call__(self, waveform: Tensor, epoch: int, key: np.uint64) -> Tensor:
        """[S] -> [S]. Epochs count from 1.

        Raises:
            UserError: a recording cannot be read any more.
        """
        samples = waveform.numpy()
        for change in (self.reverb, self.noise, self.gain):
            samples = change(samples, self.seed, epoch, key)
        return torch.from_numpy(samples)
