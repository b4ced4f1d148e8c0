"""What training can do without: utterances that are left out by length, haste or noise.

Nothing is left out unless it is asked for, and never of the splits that are scored: an error rate
without the difficult ones would be another one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from asr.audio import SAMPLE_RATE_HZ
from asr.utterance import Rejection, Utterance

SCORED_SPLITS = ("validation", "test")
FILTERED = "filtered-"  # how these reasons begin

FRAME_SAMPLES = 320  # 20 ms
QUIET_SHARE = 0.1  # of the frames, which have no speech in them
ROUNDING = 2.0**-30 / 12  # the power of what rounding to 16 bits adds


@dataclass(frozen=True)
class Filters:
    """Limits of what is kept, both ends included; None: no limit."""

    min_duration_s: float | None = None
    max_duration_s: float | None = None
    max_chars_per_s: float | None = None
    min_snr_db: float | None = None

    @property
    def settings(self) -> dict[str, float]:
        """Those that are limits."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def judge(self, utterance: Utterance, waveform: npt.NDArray[np.float32]) -> Rejection | None:
        """Why an utterance with its audio [S] is left out; None: it is kept."""
        if utterance.split in SCORED_SPLITS:
            return None
        duration_s = len(waveform) / SAMPLE_RATE_HZ
        if self.min_duration_s is not None and duration_s < self.min_duration_s:
            return _left_out(utterance, "short", f"{duration_s:.3f} s", self, "min_duration_s")
        if self.max_duration_s is not None and duration_s > self.max_duration_s:
            return _left_out(utterance, "long", f"{duration_s:.3f} s", self, "max_duration_s")
        if self.max_chars_per_s is not None:
            haste = len(utterance.text) / duration_s
            if haste > self.max_chars_per_s:
                said = f"{haste:.1f} characters a second"
                return _left_out(utterance, "fast", said, self, "max_chars_per_s")
        if self.min_snr_db is not None:
            snr_db = estimate_snr_db(waveform)
            if snr_db < self.min_snr_db:
                said = f"an estimated SNR of {snr_db:.1f} dB"
                return _left_out(utterance, "noisy", said, self, "min_snr_db")
        return None


NO_FILTERS = Filters()


def estimate_snr_db(waveform: npt.NDArray[np.float32]) -> float:
    """The mean power of an utterance [S], pauses included, over that of its noise, in dB.

    The noise is what its quietest tenth of frames of 20 ms hold. Digital silence at the beginning
    and the end was put there, and is not counted. Speech without a pause looks noisier than it is;
    a noise that comes and goes with the speech is not seen.
    """
    frames = waveform[: len(waveform) // FRAME_SAMPLES * FRAME_SAMPLES]
    powers = frames.astype(np.float64).reshape(-1, FRAME_SAMPLES).var(axis=1)  # [S / 320]
    heard = np.flatnonzero(powers)
    if not len(heard):
        return 0.0
    powers = np.sort(powers[heard[0] : heard[-1] + 1])
    noise = powers[: max(1, round(QUIET_SHARE * len(powers)))].mean() + ROUNDING
    speech = max(powers.mean() - noise, ROUNDING)
    return float(10 * np.log10(speech / noise))


def _left_out(
    utterance: Utterance, reason: str, found: str, filters: Filters, setting: str
) -> Rejection:
    limit = filters.settings[setting]
    return utterance.rejected(
        f"{FILTERED}{reason}", f"{utterance.audio} has {found}: prepare.{setting}={limit:g}"
    )
