"""How many of a search's hypotheses have a word, weighed by their scores; compiled by Numba.

That is the posterior of a word in an N-best list (Wessel, Schlüter, Macherey and Ney, "Confidence
measures for large vocabulary continuous speech recognition", 2001). The list is all that the search
has left at the end, not only what it returns.
"""

from __future__ import annotations

import numpy as np

from asr.decoding.states import BEGIN, LETTER, PHONE, SEPARATOR, WORD, Labels
from asr.kernels import kernel

# So many words of one hypothesis may stand between a word and the same one in another, beyond the
# difference of their lengths; so that what this takes grows with their length, not its square.
SHIFT = 10
FAR = 1 << 30
HERE, SUBSTITUTED, DELETED, INSERTED = range(4)


@kernel
def word_shares(
    nodes: np.ndarray, places: np.ndarray, scores: np.ndarray, best: int, labels: Labels
) -> np.ndarray:
    """The share of each word of hypothesis `best` in what `search` gave, between 0 and 1.

    A hypothesis weighs exp(its score), its part of all of them. It has a word if the alignment with
    the fewest errors puts the same one there. Where no hypothesis has a probability, shares are 0.
    """
    weights = np.zeros(len(scores))
    highest = -np.inf
    for score in scores[:, 1]:
        if np.isfinite(score):
            highest = max(highest, score)
    if np.isfinite(highest):
        for k in range(len(scores)):
            if np.isfinite(scores[k, 1]):
                weights[k] = np.exp(scores[k, 1] - highest)
        weights /= weights.sum()
    words = _words(nodes, places[best, 0], places[best, 1], labels)
    shares = np.zeros(len(words))
    for k in range(len(places)):
        if k == best:
            shares += weights[k]
        elif weights[k] > 0.0:
            others = _words(nodes, places[k, 0], places[k, 1], labels)
            _add_common(words, others, weights[k], shares)
    return np.minimum(shares, 1.0)


@kernel
def _words(nodes: np.ndarray, node: int, last_word: int, labels: Labels) -> np.ndarray:
    """The words on the way to a node, each as the hash of its text, of phones as its number."""
    count = 0
    place = node
    while place >= 0:
        count += 1
        place = nodes[place, 0]
    path = np.empty(count, np.int64)
    place = node
    for position in range(count - 1, -1, -1):
        path[position] = place
        place = nodes[place, 0]
    words = np.empty(count + 1, np.uint64)
    used, part = 0, np.uint64(0)
    for step in path:
        label = nodes[step, 1]
        role = labels.role[label]
        if role == PHONE:
            if nodes[step, 2] >= 0:
                words[used] = np.uint64(nodes[step, 2])
                used += 1
            continue
        if role in (SEPARATOR, WORD, BEGIN) and part != 0:
            words[used] = part
            used += 1
            part = np.uint64(0)
        if role == WORD:
            words[used] = labels.text[label]
            used += 1
        elif role in (LETTER, BEGIN):
            part = part * labels.power[label] + labels.text[label]
    if part != 0:
        words[used] = part
        used += 1
    elif last_word >= 0:
        words[used] = np.uint64(last_word)
        used += 1
    return words[:used]


@kernel
def _add_common(words: np.ndarray, others: np.ndarray, weight: float, shares: np.ndarray) -> None:
    """Add a weight to the share of each word that stands in the other hypothesis too."""
    begin, end, other_end = 0, len(words), len(others)
    while begin < min(end, other_end) and words[begin] == others[begin]:
        shares[begin] += weight
        begin += 1
    while min(end, other_end) > begin and words[end - 1] == others[other_end - 1]:
        end -= 1
        other_end -= 1
        shares[end] += weight
    rows, columns = end - begin, other_end - begin
    if rows == 0 or columns == 0:
        return
    band = abs(rows - columns) + SHIFT
    width = 2 * band + 1
    errors = np.full((rows + 1, width), FAR, np.int32)
    steps = np.zeros((rows + 1, width), np.int8)
    for row in range(rows + 1):
        for place in range(max(0, band - row), min(width, columns - row + band + 1)):
            column = row + place - band
            if row == 0 and column == 0:
                errors[0, place] = 0
                continue
            least, step = FAR, HERE
            if row > 0 and column > 0:
                same = words[begin + row - 1] == others[begin + column - 1]
                least = errors[row - 1, place] + (0 if same else 1)
                step = HERE if same else SUBSTITUTED
            if row > 0 and place + 1 < width and errors[row - 1, place + 1] + 1 < least:
                least, step = errors[row - 1, place + 1] + 1, DELETED
            if column > 0 and place > 0 and errors[row, place - 1] + 1 < least:
                least, step = errors[row, place - 1] + 1, INSERTED
            errors[row, place], steps[row, place] = least, step
    row, place = rows, columns - rows + band
    while row > 0:
        step = steps[row, place]
        if step == HERE:
            shares[begin + row - 1] += weight
        if step in (HERE, SUBSTITUTED):
            row -= 1
        elif step == DELETED:
            row, place = row - 1, place + 1
        else:
            place -= 1
