"""Hotwords: words and phrases that the beam search leans towards, with no language model needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.decoding import states
from asr.errors import UserError
from asr.text import normalise

SPACE = " "


@dataclass(frozen=True)
class HotwordList:
    """Phrases and their weights: natural logarithms that each time one is heard adds to a score."""

    weights: Mapping[str, float]

    @classmethod
    def read(
        cls,
        path: str | Path,
        normaliser: str,
        weight: float,
        alphabet: frozenset[str] | None,
        words: frozenset[str] | None = None,
    ) -> HotwordList:
        """Read a file: a word or phrase a line, a weight of its own after a tab.

        `weight` is that of lines without one; `alphabet` has the characters that the model can
        spell, None where it emits phones; `words` those that alone can be heard, None where any
        can. Lines that begin with `#` are comments.

        Raises:
            UserError: the file cannot be read, a weight is no number, or a phrase can never be
                heard; names the line.
        """
        path = Path(path)
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"The hotwords {path} cannot be read: {error}.") from None
        weights: dict[str, float] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.startswith("#"):
                continue
            written, tab, own = line.partition("\t")
            phrase = normalise(normaliser, written)
            where = f"{path}:{number}"
            if not phrase:
                raise UserError(f"{where}: {written.strip()!r} has nothing to hear in it.")
            unknown = sorted(set(phrase) - alphabet - {SPACE}) if alphabet is not None else []
            advice = "take the line out"
            if not tab and _is_number(written.split()[-1]):
                advice = f"if {written.split()[-1]} is the phrase's weight, write a tab before it"
            if unknown:
                raise UserError(
                    f"{where}: the model cannot spell {unknown[0]!r} of {phrase!r}: {advice}."
                )
            unheard = [word for word in phrase.split() if words is not None and word not in words]
            if unheard:
                raise UserError(
                    f"{where}: {unheard[0]!r} is none of the words that can be heard: {advice}, or"
                    " add the word to the lexicon."
                )
            weights[phrase] = _number(own, where) if tab else weight
        if not weights:
            raise UserError(f"The hotwords {path} hold no phrase: a word or phrase a line.")
        return cls(weights)

    @property
    def characters(self) -> dict[str, int]:
        """Numbers of the characters: 0 are all others, 1 stands between words."""
        found = sorted(set("".join(self.weights)) - {SPACE})
        return {SPACE: states.BOUNDARY, **{c: number for number, c in enumerate(found, start=2)}}

    def automaton(self) -> states.Hotwords:
        """Aho and Corasick's (1975), every transition worked out.

        A phrase stands between word boundaries, so that "art" is not heard in "start". What is lent
        on the way is the share of the phrase's characters that has been heard, of its weight.
        """
        numbers = self.characters
        children: list[dict[int, int]] = [{}]
        given, lent, depth = [0.0], [0.0], [0]
        for phrase, weight in self.weights.items():
            codes = [numbers[character] for character in f" {phrase} "]
            node = 0
            for position, code in enumerate(codes, start=1):
                if code not in children[node]:
                    children[node][code] = len(children)
                    children.append({})
                    given.append(0.0)
                    lent.append(-np.inf)
                    depth.append(position)
                node = children[node][code]
                share = weight * (position - 1) / len(codes[1:])
                if position < len(codes):
                    lent[node] = max(lent[node], share)
            given[node] += weight
        following = np.zeros((len(children), max(numbers.values()) + 1), np.int32)
        failing = [0] * len(children)
        waiting = deque([0])
        while waiting:  # breadth first: a node's failure is done before it
            node = waiting.popleft()
            fail = failing[node]
            if node:
                given[node] += given[fail]
                if lent[node] == -np.inf:  # a phrase ends here: on with what may begin here
                    lent[node] = lent[fail]
                following[node] = following[fail]
            for code, child in children[node].items():
                failing[child] = following[fail, code] if node else 0
                waiting.append(child)
            for code, child in children[node].items():
                following[node, code] = child
        return states.Hotwords(
            following, np.array(given), np.array(lent), int(following[0, states.BOUNDARY])
        )


def no_hotwords() -> states.Hotwords:
    """The automaton of no phrases, which is never asked."""
    return states.Hotwords(np.zeros((0, 0), np.int32), np.zeros(0), np.zeros(0), 0)


def _is_number(written: str) -> bool:
    try:
        return bool(np.isfinite(float(written)))
    except ValueError:
        return False


def _number(written: str, where: str) -> float:
    if not _is_number(written):
        raise UserError(f"{where}: the weight {written.strip()!r} is no number.")
    return float(written)
