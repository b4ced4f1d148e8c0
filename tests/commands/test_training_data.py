"""Which utterances may follow one another: those for whose labels there are frames to spare."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from asr.augment import Speed
from asr.commands.compose import compose
from asr.commands.training_data import _joinable
from asr.units.characters import CharacterUnits

UNITS = CharacterUnits(("<blank>", "|", "a", "b"))


class Made:
    """0.5 s each, which are 12 frames behind a subsampling of 4."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.samples = np.full(len(texts), 8_000)


class Phones:
    """Three for each letter, none of them twice in a row."""

    def encode_known(self, text: str) -> list[int]:
        return [1, 2, 3] * len(text)


def joinable(texts: list[str], phones: Any, probability: float = 0.5) -> list[bool] | None:
    words = ["recipe=an4", f"augment.join.probability={probability}", "model.subsampling=4"]
    split: Any = Made(*texts)
    rows = [(split, list(range(len(texts))))]
    found = _joinable(compose(words), rows, UNITS, phones, Speed((1.0,), 1))
    return None if found is None else found.tolist()


def test_two_frames_are_left_over_for_what_follows() -> None:
    assert joinable(["ab" * 5, "ab" * 5 + "a", "ab" * 6, "aaaaa", "aaaaaa"], None) == [
        *(True, False, False),
        *(True, False),  # between two of a kind is a blank: 9 and 11 frames
    ]


def test_so_there_are_for_the_inner_ctcs_labels() -> None:
    assert joinable(["aba", "abab"], None) == [True, True]
    assert joinable(["aba", "abab"], Phones()) == [True, False]


@pytest.mark.parametrize("phones", [None, Phones()])
def test_where_nothing_is_joined_nobody_asks(phones: Any) -> None:
    assert joinable(["ab"], phones, probability=0.0) is None
