from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asr.decoding.greedy import GreedyDecoder
from asr.decoding.hypothesis import Hypothesis
from asr.units.characters import CharacterUnits

UNITS = CharacterUnits(("<blank>", "|", "a", "b", "nine"))
FRAME_S = 0.04
PEAK = 0.8


def emissions_of(paths: list[str], padding: int = 0) -> tuple[Tensor, Tensor]:
    """Log-probabilities whose likeliest units are the paths' (`-` is the blank, `9` is "nine")."""
    indices = {"-": 0, "|": 1, "a": 2, "b": 3, "9": 4}
    size = max(map(len, paths)) + padding
    rest = (1 - PEAK) / (len(indices) - 1)
    emissions = torch.full((len(paths), size, len(indices)), math.nan)
    for item, path in enumerate(paths):
        for frame, symbol in enumerate(path):
            emissions[item, frame] = math.log(rest)
            emissions[item, frame, indices[symbol]] = math.log(PEAK)
    return emissions, torch.tensor([len(path) for path in paths])


def decode(paths: list[str], offset_s: float = 0.0) -> list[Hypothesis]:
    decoder = GreedyDecoder(UNITS, seconds_per_frame=FRAME_S, offset_s=offset_s)
    return [best for (best,) in decoder.decode(*emissions_of(paths))]


def collapsed(path: str) -> str:
    """The plain definition of CTC's map from paths to texts."""
    merged = (symbol for symbol, _ in itertools.groupby(path))
    text = "".join(symbol for symbol in merged if symbol != "-")
    return " ".join(text.replace("|", " ").replace("9", " nine ").split())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("-----", ""),
        ("a", "a"),
        ("aaaa", "a"),
        ("a-a", "aa"),
        ("aa--ab", "aab"),
        ("ab|ba", "ab ba"),
        ("||a||", "a"),
        ("a|-|b", "a b"),
        ("a9b", "a nine b"),
        ("99-9", "nine nine"),
    ],
)
def test_paths_built_by_hand_give_their_text(path: str, text: str) -> None:
    assert decode([path])[0].text == text


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("-|ab9", min_size=1, max_size=12), min_size=1, max_size=4))
def test_any_batch_of_paths_collapses_as_the_definition_says(paths: list[str]) -> None:
    hypotheses = decode(paths)
    assert [hypothesis.text for hypothesis in hypotheses] == [collapsed(path) for path in paths]
    for hypothesis in hypotheses:
        assert " ".join(word.word for word in hypothesis.words) == hypothesis.text


def test_a_unit_that_ends_one_utterance_does_not_merge_with_the_next_ones_first() -> None:
    assert [hypothesis.text for hypothesis in decode(["ba", "ab"])] == ["ba", "ab"]


@pytest.mark.parametrize("padding", [[math.nan] * 5, [-9.0, -9.0, 0.0, -9.0, -9.0]])
def test_padding_never_leaks_whatever_it_holds(padding: list[float]) -> None:
    paths = ["ab|", "a-9--b|a", ""]
    emissions, lengths = emissions_of(paths, padding=3)
    for item, length in enumerate(lengths):
        emissions[item, length:] = torch.tensor(padding)
    padded = GreedyDecoder(UNITS, FRAME_S).decode(emissions, lengths)
    assert [best for (best,) in padded] == [decode([path])[0] for path in paths]


def test_an_utterance_without_frames_is_empty_and_certain() -> None:
    (empty,) = decode([""])
    assert empty == Hypothesis(text="", score=0.0, words=())


def test_a_batch_of_none_gives_none() -> None:
    decoder = GreedyDecoder(UNITS, seconds_per_frame=FRAME_S)
    assert decoder.decode(torch.zeros(0, 5, 5), torch.zeros(0, dtype=torch.long)) == []


def test_the_score_is_the_log_probability_of_the_path() -> None:
    assert decode(["a-b", "ab-ba"])[1].score == pytest.approx(5 * math.log(PEAK))


def test_words_stand_where_their_units_were_emitted() -> None:
    first, second = decode(["-aab-|-b---"])[0].words
    # Frames 1 to 3, and frame 7, of 0.04 s each; from 0.04 s before to 0.08 s after the last unit.
    assert (first.word, first.start_s, first.end_s) == ("ab", 0.0, 0.2)
    assert (second.word, second.start_s, second.end_s) == ("b", 0.24, 0.36)


def test_the_offset_moves_words_in_time() -> None:
    (word,) = decode(["-a"], offset_s=10.0)[0].words
    assert (word.start_s, word.end_s) == (10.0, 10.12)


def test_a_words_confidence_is_the_product_of_its_units_highest_posteriors() -> None:
    # "a" peaks at 0.9 in its second frame, "b" at 0.6 in its only one.
    posteriors = torch.tensor(
        [[[0.1, 0.1, 0.7, 0.1], [0.05, 0.03, 0.9, 0.02], [0.2, 0.1, 0.1, 0.6]]]
    )
    decoder = GreedyDecoder(CharacterUnits(("<blank>", "|", "a", "b")), FRAME_S)
    ((best,),) = decoder.decode(posteriors.log(), torch.tensor([3]))
    assert best.words[0].confidence == pytest.approx(0.9 * 0.6)
