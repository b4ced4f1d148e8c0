"""How far an error rate may be off by chance: bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 4_000_000  # numbers drawn at once, so that memory does not grow with the corpus


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, and what was drawn to find it: so many `speakers` or `utterances`."""

    low: float
    high: float
    drawn: str
    count: int


def bootstrap(
    errors: Sequence[int],
    words: Sequence[int],
    speakers: Sequence[str],
    resamples: int = 10_000,
    seed: int = 1,
) -> Interval:
    """The 95 % interval of sum(errors) / sum(words), by the percentiles of resampled corpora.

    Each resampled corpus has as many speakers as the real one, drawn with replacement, each with
    all their utterances: what one speaker says goes wrong together, and drawing utterances would
    promise too much. Where a speaker is unknown ('') or there is only one, utterances are drawn.
    (Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation",
    ICASSP 2004; the drawing of speakers: Liu and Peng, arXiv:1912.09508.)

    `errors` [N], `words` [N] and `speakers` [N] are of the N utterances. A resampled corpus without
    words has rate 0, or infinity where it has errors. The same input gives the same interval.
    """
    error_sums = np.asarray(errors, dtype=np.int64)  # [N]
    word_sums = np.asarray(words, dtype=np.int64)  # [N]
    drawn = "utterances"
    if all(speakers) and len(set(speakers)) > 1:
        drawn = "speakers"
        _, speaker_of = np.unique(np.asarray(speakers), return_inverse=True)
        error_sums = np.bincount(speaker_of, error_sums).astype(np.int64)  # [N] -> [speakers]
        word_sums = np.bincount(speaker_of, word_sums).astype(np.int64)
    count = len(error_sums)
    if count == 0:
        return Interval(0.0, 0.0, drawn, 0)
    rates = _resampled_rates(error_sums, word_sums, resamples, np.random.default_rng(seed))
    # No interpolation: every bound is a rate that was drawn, and infinity stays one.
    low, high = np.quantile(rates, [0.025, 0.975], method="inverted_cdf")
    return Interval(float(low), float(high), drawn, count)


def _resampled_rates(
    errors: NDArray[np.int64], words: NDArray[np.int64], resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    count = len(errors)
    rates = np.empty(resamples)
    step = max(1, BLOCK // count)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        chosen = rng.integers(count, size=(rows, count))  # [rows, count]
        error_sums, word_sums = errors[chosen].sum(axis=1), words[chosen].sum(axis=1)  # [rows]
        wordless = np.where(error_sums > 0, np.inf, 0.0)
        rates[start : start + rows] = np.where(
            word_sums > 0, error_sums / np.maximum(word_sums, 1), wordless
        )
    return rates
