"""Where the emissions of a long recording are cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from asr import pauses
from asr.decoding.greedy import GreedyDecoder
from asr.units.characters import CharacterUnits
from asr.units.phones import PhoneUnits
from asr.units.symbols import BLANK, Units
from asr.units.words import WordUnits

FRAME_S = 0.04
LETTERS = CharacterUnits((BLANK, "|", "a", "b", "c", "nine"))
KINDS = (
    LETTERS,
    WordUnits((BLANK, "go", "six", "no")),
    PhoneUnits((BLANK, "A", "B", "C"), {"ab": ("A", "B")}),
)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of two to four seconds: of 50 to 100 frames."""
    monkeypatch.setattr(pauses, "SHORTEST_S", 2.0)
    monkeypatch.setattr(pauses, "LONGEST_S", 4.0)


def sure(path: Sequence[int], size: int = 6, certainty: float = 0.99) -> np.ndarray:
    """Emissions in which each frame's label is clear."""
    posteriors = np.full((len(path), size), (1 - certainty) / (size - 1))
    posteriors[np.arange(len(path)), path] = certainty
    return np.log(posteriors).astype(np.float32)


def labels(text: str) -> list[int]:
    """A path: a letter a frame, `-` the blank, `9` the word nine."""
    return ["-|abc9".index(letter) for letter in text]


def cut(
    emissions: np.ndarray, units: Units = LETTERS, part: int = 17
) -> Iterator[tuple[int, np.ndarray]]:
    parts = (emissions[start : start + part] for start in range(0, len(emissions), part))
    return pauses.pieces(parts, units, FRAME_S)


def random_emissions(seed: int, units: Units, frames: int = 1000) -> np.ndarray:
    """Runs of labels of random lengths, the blank a half of them, none of them sure."""
    generator = np.random.default_rng(seed)
    size = len(units.symbols)
    runs = generator.integers(1, 6, frames)
    names = generator.integers(1, size, frames)
    ends = (units.kind == "characters") & (generator.random(frames) < 0.5)
    names = np.where(ends, 1, names) * generator.integers(0, 2, frames)
    path = np.repeat(names, runs)[:frames]
    noise = generator.standard_normal((frames, size))
    logits = noise + 4 * np.eye(size)[path]
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


@pytest.mark.parametrize("units", KINDS, ids=lambda units: units.kind)
@pytest.mark.parametrize("seed", range(20))
def test_pieces_are_the_whole_and_spell_what_it_spells(seed: int, units: Units) -> None:
    emissions = random_emissions(seed, units)
    decoder = GreedyDecoder(units, FRAME_S)

    def text(frames: np.ndarray) -> str:
        ((best,),) = decoder.decode(torch.from_numpy(frames)[None], torch.tensor([len(frames)]))
        return best.text

    pieces = list(cut(emissions, units))
    assert np.array_equal(np.concatenate([frames for _, frames in pieces]), emissions)
    lengths = [len(frames) for _, frames in pieces]
    assert [start for start, _ in pieces] == [sum(lengths[:n]) for n in range(len(lengths))]
    assert len(pieces) > 5
    assert all(50 <= length < 100 for length in lengths[:-1])
    assert 0 < lengths[-1] <= 100
    assert " ".join(filter(None, (text(frames) for _, frames in pieces))) == text(emissions)


@pytest.mark.parametrize("part", [1, 7, 100, 101, 1000])
def test_how_the_emissions_come_changes_nothing(part: int) -> None:
    emissions = random_emissions(0, LETTERS)
    starts = [start for start, _ in cut(emissions, part=part)]
    assert starts == [start for start, _ in cut(emissions)]


def test_the_cut_lies_in_the_middle_of_the_longest_pause() -> None:
    path = "a" * 30 + "|" + "-" * 10 + "a" * 12 + "|---" + "b" * 9 + "|" + "-" * 8 + "c" * 60
    starts = [start for start, _ in cut(sure(labels(path)))]
    assert starts[1] == path.index("-" * 8 + "c") + 4


def test_a_surer_pause_is_better_than_a_longer_one() -> None:
    path = "a" * 50 + "|" + "------" + "b|" + "-----" + "c" * 60
    emissions = sure(labels(path))
    longer = path.index("------")
    emissions[longer : longer + 6] = sure([0] * 6, certainty=0.4)
    assert [start for start, _ in cut(emissions)][1] == path.index("-----c") + 2


@pytest.mark.parametrize("within", ["a---b", "ab--c"])
def test_blanks_within_a_word_are_no_pause(within: str) -> None:
    path = "a" * 51 + within + "|--" + "c" * 60
    assert [start for start, _ in cut(sure(labels(path)))][1] == path.index("|--c") + 2


def test_a_whole_word_needs_no_separator_beside_it() -> None:
    path = "a" * 51 + "--b" + "----99---" + "c" * 60
    assert [start for start, _ in cut(sure(labels(path)))][1] == path.index("----99") + 2


def test_words_that_follow_one_another_without_a_blank_are_parted() -> None:
    path = "abc" * 20 + "9" + "abc" * 40
    assert [start for start, _ in cut(sure(labels(path)))][1] == path.index("9")


def test_where_no_word_ends_the_cut_is_at_the_surest_blank() -> None:
    emissions = sure(labels("abc" * 50))
    assert next(len(frames) for _, frames in cut(emissions)) >= 50
    emissions[73] = sure([2], certainty=0.5)
    emissions[73, 0] = np.log(0.45)
    assert [start for start, _ in cut(emissions)][1] == 73


def test_no_emissions_are_no_piece_and_an_empty_one_is_one() -> None:
    assert list(pauses.pieces([], LETTERS, FRAME_S)) == []
    ((start, frames),) = pauses.pieces([np.zeros((0, 6), np.float32)], LETTERS, FRAME_S)
    assert (start, frames.shape) == (0, (0, 6))
