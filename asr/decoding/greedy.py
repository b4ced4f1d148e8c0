"""Greedy CTC decoding: the likeliest unit of each frame, repeats merged, blanks dropped."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from asr.decoding.confidence import Calibration, calibrated
from asr.decoding.hypothesis import Hypothesis, Word
from asr.decoding.words import TimedUnit, words_of
from asr.units.symbols import Units

BLANK = 0


class GreedyDecoder:
    """The best path of CTC (Graves et al. 2006, section 3.2), for a whole batch at once.

    `seconds_per_frame` is the time from one frame of emissions to the next, `offset_s` the time at
    which the first begins; together they give the words their times. A hypothesis's score is the
    natural log of its path's probability, a word's confidence the product over its units of the
    highest posterior each reaches, calibrated where a `calibration` is given.
    """

    def __init__(
        self,
        units: Units,
        seconds_per_frame: float,
        offset_s: float = 0.0,
        *,
        calibration: Mapping[str, float] | Calibration | None = None,
    ) -> None:
        self.units = units
        self.seconds_per_frame = seconds_per_frame
        self.offset_s = offset_s
        self.calibration = Calibration.of_settings(calibration)

    @property
    def rate_name(self) -> str:
        """Words, or phones where the units are phones."""
        return self.units.rate_name

    def decode(self, emissions: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """Log-probabilities `[B, T', V]` and their lengths `[B]` to one N-best list of one each."""
        scores, runs = _best_paths(emissions, lengths.to(emissions.device))
        emitted: list[list[tuple[int, TimedUnit]]] = [[] for _ in scores]
        for item, start, end, unit, peak in runs:
            emitted[int(item)].append((int(unit), self._timed(int(unit), start, end, peak)))
        return [
            [
                Hypothesis(
                    text=self.units.decode([index for index, _ in units]),
                    score=score,
                    words=self._words([timed for _, timed in units]),
                )
            ]
            for units, score in zip(emitted, scores, strict=True)
        ]

    def _words(self, emitted: list[TimedUnit]) -> tuple[Word, ...]:
        return calibrated(words_of(self.units, emitted, joined=math.prod), self.calibration)

    def _timed(self, unit: int, start: float, end: float, peak: float) -> TimedUnit:
        return TimedUnit(
            symbol=self.units.symbols[unit],
            start_s=self.offset_s + start * self.seconds_per_frame,
            end_s=self.offset_s + end * self.seconds_per_frame,
            confidence=peak,
        )


def _best_paths(emissions: Tensor, lengths: Tensor) -> tuple[list[float], list[list[float]]]:
    """Each path's log probability, and the runs of units on them, in the order of items and time.

    A run is `[item, first frame, frame after the last, unit, highest posterior]`. All of it is
    worked out where the emissions are and comes to the host in one copy.
    """
    items, frames, _ = emissions.shape
    if items == 0 or frames == 0:
        return [0.0] * items, []
    inside = torch.arange(frames, device=emissions.device) < lengths[:, None]  # [B, T']
    log_peaks, path = emissions.max(dim=-1)  # [B, T', V] -> [B, T'] twice
    path = torch.where(inside, path, BLANK)
    # In double precision, so that a sum over an hour of frames does not depend on the padding.
    scores = torch.where(inside, log_peaks.double(), 0.0).sum(dim=1)  # [B]

    begins = torch.ones_like(inside)  # an item's first frame always begins a run
    begins[:, 1:] = path[:, 1:] != path[:, :-1]
    run = begins.flatten().cumsum(0) - 1  # [B * T'] each frame's run
    run_lengths = torch.bincount(run)
    run_peaks = torch.full_like(run_lengths, -torch.inf, dtype=torch.double).scatter_reduce(
        0, run, log_peaks.double().flatten(), "amax"
    )
    item, start = begins.nonzero(as_tuple=True)
    unit = path[item, start]
    table = torch.stack([item, start, start + run_lengths, unit, run_peaks.exp()], dim=1)
    table = table[unit != BLANK]

    host = torch.cat([scores, table.flatten()]).cpu()
    return host[:items].tolist(), host[items:].reshape(-1, 5).tolist()
