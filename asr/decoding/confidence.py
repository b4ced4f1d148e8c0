"""How sure a decoder is of each word: a raw figure that parts right from wrong, and a calibration.

A word's raw confidence is the product over its units of the highest posterior that each reaches.
The beam search takes the square root of that, times the share of its hypotheses that have the word
in that place (`asr.decoding.shares`). A raw confidence is no probability until a `Calibration` has
made it one. What else was tried, with figures, stands in docs/confidence.md: on AN4's validation
split the product's normalised cross entropy, once calibrated, is 0.31, that of the units' least
posterior 0.31, of their mean 0.30, of a mean over frames 0.11 to 0.14.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from asr.decoding.hypothesis import Word
from asr.errors import UserError

FEWEST_WORDS = 50  # that a calibration is fitted on
SMALLEST = 1e-6  # a confidence's least distance from 0 and 1 where its logit is taken
STEPS, HALVINGS = 100, 40  # of Newton's method; five steps are usual


def shared(confidence: float, share: float) -> float:
    """The raw confidence of a word that a `share` of the hypotheses have, by its units' product."""
    return math.sqrt(confidence) * share


class NotCalibratedError(ValueError):
    """No calibration can be fitted; says why."""


@dataclass(frozen=True)
class Calibration:
    """A raw confidence p to the probability 1 / (1 + exp(-slope · logit(p) - intercept)).

    What is greater stays greater, as the slope is.

    Raises:
        UserError: the slope is not above 0, or one of the two is no number.
    """

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and math.isfinite(self.intercept) and self.slope > 0):
            raise UserError(
                f"decoder.calibration: slope {self.slope} must be above 0, and intercept"
                f" {self.intercept} a number."
            )

    def __call__(self, confidence: float) -> float:
        """The probability that a word of this raw confidence is right."""
        logit = self.slope * float(_logit(confidence)) + self.intercept
        # Both forms are the same; neither exponent can overflow.
        if logit < 0:
            return math.exp(logit) / (1 + math.exp(logit))
        return 1 / (1 + math.exp(-logit))

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any] | Calibration | None) -> Calibration | None:
        """As settings and bundles hold it, `{slope, intercept}`; None where there is none.

        Raises:
            UserError: it is something else.
        """
        if settings is None or isinstance(settings, Calibration):
            return settings
        try:
            return cls(**{key: float(value) for key, value in settings.items()})
        except (AttributeError, TypeError, ValueError):
            raise UserError(
                f"decoder.calibration={settings} is not {{slope: NUMBER, intercept: NUMBER}}:"
                " decoder.calibrate=true finds them."
            ) from None

    @classmethod
    def fit(cls, confidences: Sequence[float], right: Sequence[bool]) -> Calibration:
        """The likeliest one, given raw confidences of words and which of them were right.

        By Newton's method. In place of 1 and 0 stand Platt's targets, (right + 1) / (right + 2) and
        1 / (wrong + 2), so that it is finite where one confidence parts all right words from all
        wrong ones (Platt 1999; Lin, Lin and Weng 2007).

        Raises:
            NotCalibratedError: the words are too few, all right or all wrong, all of one
                confidence, or the surer ones were not more often right.
        """
        good = np.asarray(right, bool)  # [N]
        count, many = len(good), int(np.count_nonzero(good))
        if count < FEWEST_WORDS:
            raise NotCalibratedError(f"{count} words were heard, {FEWEST_WORDS} are needed")
        if many in (0, count):
            raise NotCalibratedError(f"all {count} words were {'right' if many else 'wrong'}")
        logits = _logit(np.asarray(confidences, float))  # [N]
        if np.ptp(logits) == 0:
            raise NotCalibratedError(f"all {count} words had the same confidence")
        targets = np.where(good, (many + 1) / (many + 2), 1 / (count - many + 2))  # [N]
        inputs = np.stack([logits, np.ones(count)])  # [2, N]
        slope, intercept = _newton(inputs, targets)
        if not slope > 0:
            raise NotCalibratedError("words of higher confidence were not more often right")
        return cls(slope, intercept)


def calibrated(words: Sequence[Word], calibration: Calibration | None) -> tuple[Word, ...]:
    """The words, their raw confidences made probabilities; without a calibration as they are."""
    if calibration is None:
        return tuple(words)
    return tuple(replace(word, confidence=calibration(word.confidence)) for word in words)


def _logit(confidence: Any) -> Any:
    inside = np.clip(confidence, SMALLEST, 1 - SMALLEST)
    return np.log(inside) - np.log1p(-inside)


def _newton(inputs: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """The weights [2] of inputs [2, N] for which cross entropy with targets [N] is least.

    It is convex. A step that does not lower it is halved until it does.
    """
    weights = np.zeros(2)
    loss = _cross_entropy(weights @ inputs, targets)
    for _ in range(STEPS):
        found = 1 / (1 + np.exp(-np.clip(weights @ inputs, -500, 500)))  # [N]
        gradient = inputs @ (found - targets)  # [2]
        # The ridge keeps it solvable where a step went so far that all of them are 0 or 1.
        curvature = (inputs * (found * (1 - found))) @ inputs.T + 1e-12 * np.eye(2)  # [2, 2]
        step = np.linalg.solve(curvature, gradient)
        for _ in range(HALVINGS):
            lower = _cross_entropy((weights - step) @ inputs, targets)
            if lower < loss:
                break
            step /= 2
        else:
            break
        weights, loss = weights - step, lower
    return float(weights[0]), float(weights[1])


def _cross_entropy(logits: np.ndarray, targets: np.ndarray) -> float:
    return float(np.sum(np.logaddexp(0, logits) - targets * logits))
