"""How far confidences can be trusted: calibration error, normalised cross entropy, reliability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from asr.scoring.alignment import Op, Pair

BINS = 10  # of equal width, as Guo et al. have them
SMALLEST = 1e-6  # a confidence's least distance from 0 and 1 where its logarithm is taken


@dataclass(frozen=True)
class Bin:
    """The words whose confidence is above `low`, at most `high`; a confidence of 0 is in the first.

    `confidence` is their mean, `right` the share that was right; None where there is no word.
    """

    low: float
    high: float
    words: int
    confidence: float | None
    right: float | None


@dataclass(frozen=True)
class Reliability:
    """What the confidences of `words` words were worth.

    `ece` is the expected calibration error: the difference of a bin's mean confidence and its share
    of right words, weighed by its words (Guo et al., "On calibration of modern neural networks",
    ICML 2017). None where there is no word.

    `nce` is the normalised cross entropy: the share of the uncertainty about right and wrong that
    the confidences take away. 1 is perfect, 0 no better than the share of right words alone, below
    0 worse than that (Siu, Gish and Richardson, "Improved estimation, evaluation and applications
    of confidence measures for speech recognition", Eurospeech 1997). None where all words are
    right, or all wrong.
    """

    words: int
    ece: float | None
    nce: float | None
    bins: tuple[Bin, ...]


def right_words(pairs: Sequence[Pair]) -> list[bool]:
    """Whether each word of an alignment's hypothesis was said, in their order."""
    return [pair.op is Op.CORRECT for pair in pairs if pair.hypothesis is not None]


def reliability(confidences: Sequence[float], right: Sequence[bool]) -> Reliability:
    """What the confidences of words, between 0 and 1, say about which of them are right."""
    members: list[list[int]] = [[] for _ in range(BINS)]
    for position, confidence in enumerate(confidences):
        members[max(0, math.ceil(confidence * BINS) - 1)].append(position)
    bins = []
    for number, own in enumerate(members):
        mean = math.fsum(confidences[k] for k in own) / len(own) if own else None
        share = sum(right[k] for k in own) / len(own) if own else None
        bins.append(Bin(number / BINS, (number + 1) / BINS, len(own), mean, share))
    count = len(confidences)
    gaps = [
        one.words * abs(one.confidence - one.right)
        for one in bins
        if one.confidence is not None and one.right is not None
    ]
    ece = math.fsum(gaps) / count if count else None
    return Reliability(count, ece, _normalised_cross_entropy(confidences, right), tuple(bins))


def _normalised_cross_entropy(confidences: Sequence[float], right: Sequence[bool]) -> float | None:
    count, good = len(right), sum(right)
    if good in (0, count):
        return None
    prior = good / count
    most = -good * math.log(prior) - (count - good) * math.log(1 - prior)
    inside = [min(max(confidence, SMALLEST), 1 - SMALLEST) for confidence in confidences]
    left = -math.fsum(
        math.log(confidence if one else 1 - confidence)
        for confidence, one in zip(inside, right, strict=True)
    )
    return (most - left) / most
