"""How likely a text is, whichever search found it: the exact probability of CTC, and the words'."""

from __future__ import annotations

import numpy as np

from asr.language.ngram import NgramModel
from asr.units.characters import SPACE, CharacterUnits

BLANK = 0


def log_probability(emissions: np.ndarray, units: CharacterUnits, text: str) -> float:
    """Natural log of the probability of all paths that spell a text, given emissions [T', V].

    The forward algorithm (Graves et al. 2006, section 4.1) over the text's letters; what decoding
    leaves out is free: separators before and behind the text, and repeated ones between words.
    """
    labels = [units.symbols.index(SPACE)]
    for word in text.split():
        labels += [*units.encode(word), labels[0]]
    spelled = np.array(labels)  # [U]: separators at both ends
    states = np.full(2 * len(labels) + 1, BLANK)
    states[1::2] = spelled  # [2U + 1]: blanks between the labels and around them
    separators = 1 + 2 * np.flatnonzero(spelled == labels[0])
    # A label may follow another label, not only a blank, where the two differ.
    skips = np.zeros(len(states), bool)
    skips[3::2] = spelled[1:] != spelled[:-1]

    log_probs = emissions.astype(np.float64)[:, states]  # [T', 2U + 1]
    forward = np.full(len(states), -np.inf)
    forward[0] = 0.0  # before the first frame
    for log_prob in log_probs:
        new = forward.copy()
        new[1:] = np.logaddexp(new[1:], forward[:-1])
        new[2:] = np.logaddexp(new[2:], np.where(skips[2:], forward[:-2], -np.inf))
        if len(labels) > 1:  # the first letter right after the blanks before the separator
            new[3] = np.logaddexp(new[3], forward[0])
        new[separators] = np.logaddexp(new[separators], forward[separators + 1])
        forward = new + log_prob
    ends = forward[-4:] if len(labels) > 1 else forward  # with the last separator or without
    return float(np.logaddexp.reduce(ends))


def score(
    emissions: np.ndarray,
    units: CharacterUnits,
    text: str,
    lm: NgramModel | None,
    alpha: float,
    beta: float,
) -> float:
    """That, `alpha` times the natural log of a language model of words, `beta` for each word."""
    total = log_probability(emissions, units, text) + beta * len(text.split())
    return total + (alpha * lm.score(text.split()) if lm is not None else 0.0)
