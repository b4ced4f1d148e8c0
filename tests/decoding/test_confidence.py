"""Calibrations fitted against a grid, and shares of words against an alignment of all texts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from asr.decoding import beam
from asr.decoding.beam import BeamDecoder
from asr.decoding.confidence import Calibration, NotCalibratedError, calibrated
from asr.decoding.grammar import labels_of
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.hypothesis import Word
from asr.decoding.shares import word_shares
from asr.errors import UserError
from asr.units.characters import CharacterUnits
from asr.units.phones import PhoneUnits
from asr.units.pieces import SentencePieceUnits
from asr.units.symbols import BLANK, Units

pytestmark = pytest.mark.usefixtures("compiled_search")

LETTERS = CharacterUnits((BLANK, "|", "a", "b", "ab", "ba"))
PHONES = PhoneUnits.from_pronunciations({"to": ("T", "U"), "two": ("T", "U"), "toe": ("T",)})
EXACT = {"beam": 20_000, "nbest": 20_000, "token_threshold": 1e9, "beam_threshold": 1e9}


def words_heard(count: int, seed: int = 0) -> tuple[list[float], list[bool]]:
    """Raw confidences, too sure of themselves, and which words are right."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(2.0, 2.0, count)
    right = generator.uniform(size=count) < 1 / (1 + np.exp(-(0.5 * logits + 0.3)))
    return list(1 / (1 + np.exp(-logits))), [bool(one) for one in right]


def loss(slope: float, intercept: float, raw: list[float], right: list[bool]) -> float:
    """Cross entropy with Platt's targets, word by word."""
    many, total = sum(right), 0.0
    for confidence, one in zip(raw, right, strict=True):
        target = (many + 1) / (many + 2) if one else 1 / (len(right) - many + 2)
        logit = math.log(confidence / (1 - confidence))
        probability = 1 / (1 + math.exp(-slope * logit - intercept))
        total -= target * math.log(probability) + (1 - target) * math.log(1 - probability)
    return total


@pytest.mark.parametrize("seed", range(3))
def test_no_calibration_of_a_grid_around_it_is_likelier(seed: int) -> None:
    raw, right = words_heard(400, seed)
    found = Calibration.fit(raw, right)
    least = loss(found.slope, found.intercept, raw, right)
    for slope in np.linspace(0.05, 2.0, 40):
        for intercept in np.linspace(-2.0, 2.0, 41):
            assert loss(slope, intercept, raw, right) >= least - 1e-9
    for step in (-1e-4, 1e-4):  # and none right beside it
        assert loss(found.slope + step, found.intercept, raw, right) > least
        assert loss(found.slope, found.intercept + step, raw, right) > least


def test_what_made_the_words_right_is_found_again() -> None:
    found = Calibration.fit(*words_heard(100_000))
    assert (found.slope, found.intercept) == (
        pytest.approx(0.5, abs=0.02),
        pytest.approx(0.3, abs=0.04),
    )


def test_a_confidence_that_parts_right_from_wrong_has_a_calibration_all_the_same() -> None:
    found = Calibration.fit([0.9] * 40 + [0.2] * 20, [True] * 40 + [False] * 20)
    assert found(0.9) == pytest.approx(41 / 42, abs=1e-6)  # Platt's targets
    assert found(0.2) == pytest.approx(1 / 22, abs=1e-6)


@pytest.mark.parametrize(
    ("raw", "right", "why"),
    [
        ([0.9] * 49, [True] * 48 + [False], "49 words were heard, 50 are needed"),
        ([], [], "0 words were heard"),
        ([0.5, 0.9] * 30, [True] * 60, "all 60 words were right"),
        ([0.5, 0.9] * 30, [False] * 60, "all 60 words were wrong"),
        ([0.2, 0.9] * 30, [True, False] * 30, "words of higher confidence were not more often"),
        ([0.9] * 60, [True, True, False] * 20, "all 60 words had the same confidence"),
    ],
)
def test_what_cannot_be_calibrated_says_why(raw: list[float], right: list[bool], why: str) -> None:
    with pytest.raises(NotCalibratedError, match=why):
        Calibration.fit(raw, right)


def test_what_is_surer_stays_surer_and_within_0_and_1() -> None:
    generator = np.random.default_rng(1)
    raw = np.sort(np.concatenate([generator.uniform(size=500), [0.0, 1.0, 1e-300, 1 - 1e-12]]))
    for slope, intercept in [(0.01, 0.0), (1.0, -3.0), (40.0, 700.0), (1e6, 0.0)]:
        found = [Calibration(slope, intercept)(one) for one in raw.tolist()]
        assert found == sorted(found)
        assert 0 <= found[0] <= found[-1] <= 1
    found = [Calibration(0.4, 0.5)(one) for one in raw.tolist() if 1e-5 < one < 1 - 1e-5]
    assert len(set(found)) == len(found)


def test_slope_1_and_intercept_0_change_nothing() -> None:
    for confidence in (0.001, 0.3, 0.99):
        assert Calibration(1.0, 0.0)(confidence) == pytest.approx(confidence)


@pytest.mark.parametrize(
    "settings",
    [
        {"slope": 0.0, "intercept": 1.0},
        {"slope": -1.0, "intercept": 1.0},
        {"slope": math.nan, "intercept": 1.0},
        {"slope": 1.0, "intercept": math.inf},
        {"slope": 1.0},
        {"slope": 1.0, "intercept": "much"},
        {"slope": 1.0, "intercept": 0.0, "more": 1},
        0.5,
        [1.0, 0.0],
    ],
)
def test_a_calibration_that_is_none_is_refused(settings: object) -> None:
    with pytest.raises(UserError, match=r"^decoder\.calibration"):
        Calibration.of_settings(settings)  # type: ignore[arg-type]


def test_without_a_calibration_words_stay_as_they_are() -> None:
    words = (Word("a", 0.0, 0.1, 0.3),)
    assert calibrated(words, None) == words
    assert calibrated(words, Calibration(1.0, 1.0))[0].confidence > 0.3


def emissions(units: Units, frames: int, seed: int, peaks: float = 2.0) -> torch.Tensor:
    values = np.random.default_rng(seed).normal(size=(frames, len(units.symbols))) * peaks
    return torch.log_softmax(torch.tensor(values), dim=-1).float()


PIECES = SentencePieceUnits.from_texts(["ab a b ba ab ab"] * 3, 6)


def common(words: list[str], others: list[str]) -> tuple[int, list[set[int]]]:
    """The fewest errors between two texts, and of each alignment with so few its common words."""
    if not words or not others:
        return len(words) + len(others), [set()]
    found: dict[int, list[set[int]]] = {}
    for taken, other_taken in ((1, 1), (1, 0), (0, 1)):
        same = taken and other_taken and words[-1] == others[-1]
        errors, kept = common(words[: len(words) - taken], others[: len(others) - other_taken])
        here = {len(words) - 1} if same else set()
        found.setdefault(errors + (0 if same else 1), []).extend(one | here for one in kept)
    return min(found), found[min(found)]


@pytest.mark.parametrize("units", [LETTERS, PIECES, PHONES], ids=["letters", "pieces", "phones"])
@pytest.mark.parametrize("seed", range(4))
def test_in_the_beam_a_word_counts_as_much_as_the_hypotheses_that_have_it_there(
    units: Units, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_probs = emissions(units, 5, seed)[None]
    decoder = BeamDecoder(units, 0.1, **EXACT)  # type: ignore[arg-type]
    (nbest,) = decoder.decode(log_probs, torch.tensor([5]))
    words = nbest[0].text.split()
    weights = np.exp([one.score for one in nbest])
    least, most = np.zeros(len(words)), np.zeros(len(words))
    for one, weight in zip(nbest, weights / weights.sum(), strict=True):
        _, alignments = common(words, one.text.split())
        for place in range(len(words)):
            least[place] += weight * all(place in kept for kept in alignments)
            most[place] += weight * any(place in kept for kept in alignments)
    assert len(nbest) > 20
    assert words
    monkeypatch.setattr(beam, "shared", lambda confidence, _: math.sqrt(confidence))
    ((alone, *_),) = decoder.decode(log_probs, torch.tensor([5]))
    for place, (word, without) in enumerate(zip(nbest[0].words, alone.words, strict=True)):
        share = word.confidence / without.confidence
        assert least[place] - 1e-6 <= share <= most[place] + 1e-6
        assert share < 1


def heard(texts: list[str], scores: list[float]) -> np.ndarray:
    """The shares of the first text's words among these, each a path of labels of its own."""
    nodes, places = [], []
    for text in texts:
        last = -1
        for symbol in text.replace(" ", "|"):
            nodes.append((last, LETTERS.symbols.index(symbol), -1))
            last = len(nodes) - 1
        places.append((last, -1))
    table = np.array(nodes, np.int32).reshape(-1, 3)
    both = np.stack([np.array(scores)] * 2, axis=1)
    return word_shares(table, np.array(places, np.int32), both, 0, labels_of(LETTERS, None, {}))


@pytest.mark.parametrize(
    ("texts", "shares"),
    [
        (["a b", "a b"], [1, 1]),
        (["a b", "a a"], [1, 0.5]),
        (["a b", "b"], [0.5, 1]),
        (["a b", ""], [0.5, 0.5]),
        (["a b", "b a b"], [1, 1]),
        (["a b aa", "a bb b aa"], [1, 1, 1]),
        (["aa b bb ab a", "aa bb ab a a"], [1, 0.5, 1, 1, 1]),
        (["b b b", "a a a"], [0.5, 0.5, 0.5]),
        (["", "a"], []),
    ],
)
def test_a_word_stands_in_another_text_where_the_fewest_errors_put_it(
    texts: list[str], shares: list[float]
) -> None:
    assert heard(texts, [-3.0, -3.0]) == pytest.approx(shares)


def test_a_hypothesis_weighs_its_probability() -> None:
    found = heard(["a b", "a a", "b b"], [math.log(0.5), math.log(0.2), math.log(0.1)])
    assert found == pytest.approx([0.7 / 0.8, 0.6 / 0.8])
    assert heard(["a", "b"], [-5000.0, -6000.0]) == pytest.approx([1.0])
    assert heard(["a", "b"], [-math.inf, -math.inf]) == pytest.approx([0.0])


def test_words_are_found_again_as_far_as_ten_words_away_however_long_the_texts_are() -> None:
    generator = np.random.default_rng(5)
    many = ["".join(generator.choice(["a", "b"], 6)) for _ in range(3000)]
    other = [*many[:1000], "a", *many[1000:2000], *many[2003:], "b"]
    shares = heard([" ".join(many), " ".join(other)], [0.0, 0.0])
    assert shares.min() == 0.5
    assert list(np.flatnonzero(shares < 1)) == [2000, 2001, 2002]


def test_the_peaks_of_a_words_units_are_multiplied_in_the_beam_too() -> None:
    posteriors = torch.full((6, 6), 0.02)
    for frame, (label, peak) in enumerate([(2, 0.7), (2, 0.9), (0, 0.9), (3, 0.8), (1, 0.9)]):
        posteriors[frame, label] = peak
    posteriors[5, 2] = 0.9
    log_probs = (posteriors / posteriors.sum(dim=1, keepdim=True)).log()
    peaks = log_probs.exp()
    (greedy,) = GreedyDecoder(LETTERS, 0.1).decode(log_probs[None], torch.tensor([6]))
    assert [word.word for word in greedy[0].words] == ["ab", "a"]
    product = float(peaks[1, 2] * peaks[3, 3])
    assert greedy[0].words[0].confidence == pytest.approx(product, rel=1e-5)
    (narrow,) = BeamDecoder(LETTERS, 0.1, beam=1).decode(log_probs[None], torch.tensor([6]))
    assert narrow[0].text == "ab a"
    assert narrow[0].words[0].confidence == pytest.approx(math.sqrt(product), rel=1e-5)


@pytest.mark.parametrize("frames", [0, 1])
def test_where_nothing_is_heard_no_word_has_a_confidence(frames: int) -> None:
    silent = torch.log_softmax(
        torch.tensor([[9.0, 0, 0, 0, 0, 0]] * frames).reshape(1, frames, 6), -1
    )
    for decoder in (GreedyDecoder(LETTERS, 0.1), BeamDecoder(LETTERS, 0.1)):
        assert decoder.decode(silent, torch.tensor([frames]))[0][0].words == ()


def test_calibration_changes_neither_text_nor_score_nor_times() -> None:
    log_probs = emissions(LETTERS, 12, 3)[None]
    lengths = torch.tensor([12])
    settings = {"slope": 0.4, "intercept": -0.5}
    for kind in (GreedyDecoder, BeamDecoder):
        (plain,) = kind(LETTERS, 0.1).decode(log_probs, lengths)
        (other,) = kind(LETTERS, 0.1, calibration=settings).decode(log_probs, lengths)
        assert (plain[0].text, plain[0].score) == (other[0].text, other[0].score)
        assert len(plain[0].words) > 1
        for word, same in zip(plain[0].words, other[0].words, strict=True):
            assert (word.start_s, word.end_s) == (same.start_s, same.end_s)
            assert same.confidence == pytest.approx(Calibration(0.4, -0.5)(word.confidence))
