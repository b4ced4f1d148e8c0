"""flashlight-text behind our interface: its scores are exact, and its traps are not ours."""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asr.decoding.beam import BeamDecoder
from asr.decoding.flashlight import FlashlightDecoder
from asr.decoding.hypothesis import Hypothesis
from asr.errors import UserError
from asr.language.ngram import NgramModel
from asr.units.characters import CharacterUnits
from asr.units.phones import PhoneUnits
from asr.units.symbols import Units
from asr.units.words import WordUnits

pytestmark = pytest.mark.usefixtures("compiled_search")

try:
    import flashlight.lib.text.decoder.kenlm  # noqa: F401
except ImportError as error:
    pytest.skip(f"flashlight-text is not installed: {error}", allow_module_level=True)

UNITS = CharacterUnits(("<blank>", "|", "a", "b"))
LEXICON = "a\nab\nbb\n"
WIDE: dict[str, Any] = {"beam": 2000, "nbest": 1000, "beam_threshold": 1e9}
ARPA = r"""
\data\
ngram 1=6
ngram 2=4

\1-grams:
-1.0	<unk>
-99	<s>	-0.3
-0.7	</s>
-0.5	a	-0.2
-0.6	ab	-0.1
-0.9	bb	-0.4

\2-grams:
-0.4	<s> a
-0.8	a ab
-0.3	ab </s>
-0.2	bb bb

\end\
"""
LETTERS = r"""\data\
ngram 1=6

\1-grams:
-1.0	<unk>
-99	<s>
-0.7	</s>
-0.5	a
-0.6	b
-0.9	|

\end\
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A lexicon, a bigram of words with a comment that KenLM refuses, and a model of letters."""
    (tmp_path / "words.txt").write_text(LEXICON)
    (tmp_path / "lm.arpa").write_text("made by hand" + ARPA)
    (tmp_path / "letters.arpa").write_text(LETTERS)
    return tmp_path


def drawn(seed: int, frames: int = 6, scale: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(scale=scale, size=(frames, len(UNITS.symbols)))
    return torch.log_softmax(torch.tensor(logits), dim=-1).float().numpy()  # [T', V]


def peaks(symbols: str, *, units: Units = UNITS) -> np.ndarray:
    """Emissions that are nearly sure of a symbol in each frame; `_` is the blank."""
    labels = [0 if symbol == "_" else units.symbols.index(symbol) for symbol in symbols]
    logits = np.zeros((len(labels), len(units.symbols)))
    logits[np.arange(len(labels)), labels] = 9.0
    return torch.log_softmax(torch.tensor(logits), dim=-1).float().numpy()  # [T', V]


def probabilities(emissions: np.ndarray) -> dict[str, float]:
    """The probability of every text: the sum over each of its paths."""
    found: dict[str, float] = {}
    for path in itertools.product(range(emissions.shape[1]), repeat=len(emissions)):
        text = UNITS.decode([label for label, _ in itertools.groupby(path) if label])
        probability = math.exp(sum(emissions[t, label] for t, label in enumerate(path)))
        found[text] = found.get(text, 0.0) + probability
    return found


@pytest.mark.parametrize("seed", range(3))
def test_without_words_every_text_has_the_probability_of_all_its_paths(seed: int) -> None:
    emissions = drawn(seed)
    decoder = FlashlightDecoder(UNITS, 0.04, **WIDE)
    found = {one.text: one.score for one in decoder.decode_one(emissions)}
    exact = probabilities(emissions)
    assert found.keys() == exact.keys()
    for text, score in found.items():
        assert score == pytest.approx(math.log(exact[text]), abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("lexicon", [True, False])
def test_with_words_a_score_is_paths_and_language_model_and_number_of_words(
    files: Path, seed: int, lexicon: bool
) -> None:
    emissions = drawn(seed)
    given: dict[str, Any] = {"lm": files / "lm.arpa", "alpha": 0.7, "beta": 0.4}
    if lexicon:
        given["lexicon"] = files / "words.txt"
    decoder = FlashlightDecoder(UNITS, 0.04, **given, **WIDE)
    found = {one.text: one.score for one in decoder.decode_one(emissions)}
    model = NgramModel.load(files / "lm.arpa")
    words = set(LEXICON.split())
    exact = {
        text: math.log(probability) + 0.7 * model.score(text.split()) + 0.4 * len(text.split())
        for text, probability in probabilities(emissions).items()
        if set(text.split()) <= words
    }
    assert exact.keys() <= found.keys()
    for text, score in exact.items():
        assert found[text] == pytest.approx(score, abs=1e-5)
    assert decoder.decode_one(emissions)[0].text == max(exact, key=exact.__getitem__)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"lexicon": "words.txt", "beta": 0.5},
        {"lexicon": "words.txt", "lm": "lm.arpa", "alpha": 0.6, "beta": -0.2},
        {"lm": "letters.arpa", "alpha": 0.0},
    ],
)
def test_it_finds_the_texts_that_our_beam_finds(files: Path, given: dict[str, Any]) -> None:
    given = {k: files / v if k in ("lexicon", "lm") else v for k, v in given.items()}
    emissions = torch.stack([torch.from_numpy(drawn(s, frames=30, scale=8.0)) for s in range(8)])
    lengths = torch.tensor([30, 30, 12, 1, 0, 25, 30, 7])
    theirs = FlashlightDecoder(UNITS, 0.04, **given).decode(emissions, lengths)
    ours = BeamDecoder(UNITS, 0.04, token_threshold=50.0, **given).decode(emissions, lengths)
    for one, other in zip(theirs, ours, strict=True):
        assert one[0].text == other[0].text
        if "lexicon" in given:
            assert one[0].score == pytest.approx(other[0].score, abs=2e-2)


def test_letters_are_scored_by_a_model_of_letters(files: Path) -> None:
    decoder = FlashlightDecoder(UNITS, 0.04, lm=files / "letters.arpa", alpha=0.5)
    [best] = decoder.decode_one(peaks("a_b_|_a"))
    without = FlashlightDecoder(UNITS, 0.04).decode_one(peaks("a_b_|_a"))[0].score
    assert best.text == "ab a"
    log_10 = -0.5 - 0.6 - 0.9 - 0.5 - 0.7  # a b | a </s>
    assert best.score == pytest.approx(without + 0.5 * math.log(10) * log_10, abs=1e-3)


@pytest.mark.parametrize("end", ["ab", "abb", "ab_", "ab|", "ab|_", "ab_|_|"])
def test_the_last_word_keeps_its_last_letter_with_a_separator_behind_it_or_without(
    files: Path, end: str
) -> None:
    decoder = FlashlightDecoder(UNITS, 0.04, lexicon=files / "words.txt")
    assert decoder.decode_one(peaks("a|" + end))[0].text == "a ab"


def test_a_word_of_one_letter_that_lasts_is_heard_once(files: Path) -> None:
    decoder = FlashlightDecoder(UNITS, 0.04, lexicon=files / "words.txt")
    assert decoder.decode_one(peaks("aaaa|||aa"))[0].text == "a a"
    assert decoder.decode_one(peaks("aaaa"))[0].text == "a"


def test_nothing_is_heard_in_an_empty_utterance(files: Path) -> None:
    for given in ({}, {"lexicon": files / "words.txt"}):
        decoder = FlashlightDecoder(UNITS, 0.04, **given)
        [[best]] = decoder.decode(torch.zeros(1, 0, 4), torch.tensor([0]))
        assert (best.text, best.score) == ("", 0.0)


def test_a_word_that_is_cut_off_leaves_the_words_before_it(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a\nabbbbb\n")
    decoder = FlashlightDecoder(UNITS, 0.04, lexicon=tmp_path / "words.txt", beam=1)
    [best] = decoder.decode_one(peaks("a_|a_bb"))
    assert best.text == "a"
    assert best.score == pytest.approx(0.0, abs=0.1)  # of the path, which nothing was added to


def test_as_many_readings_are_given_as_asked_for_the_best_first() -> None:
    readings = FlashlightDecoder(UNITS, 0.04, nbest=5).decode_one(drawn(0, frames=9))
    assert len({one.text for one in readings}) == 5
    assert [one.score for one in readings] == sorted((o.score for o in readings), reverse=True)


def test_words_without_language_model_weigh_what_the_paths_weigh(files: Path) -> None:
    decoder = FlashlightDecoder(UNITS, 0.04, lexicon=files / "words.txt", **WIDE)
    found = {one.text: one.score for one in decoder.decode_one(drawn(1))}
    exact = probabilities(drawn(1))
    assert found["a bb"] == pytest.approx(math.log(exact["a bb"]), abs=1e-5)


WHOLE = CharacterUnits(("<blank>", "|", "a", "b", "ab"))
PHONES = PhoneUnits(("<blank>", "AH"), {"a": ("AH",)})


@pytest.mark.parametrize(
    ("units", "given", "message"),
    [
        (WHOLE, {"lexicon": "words.txt"}, "only where all units are single letters"),
        (WHOLE, {"lm": "lm.arpa"}, "only where all units are single letters"),
        (
            WordUnits(("<blank>", "a")),
            {"lexicon": "words.txt"},
            "single letters; others would be heard twice",
        ),
        (PHONES, {}, "where words of phones end: use decoder=beam"),
        (UNITS, {"lexicon": "words.txt", "lm": "letters.arpa"}, "not both: use decoder=beam"),
        (UNITS, {"beta": 0.5}, "decoder.beta=0.5: .* use decoder=beam, or decoder.beta=0"),
        (UNITS, {"lm": "letters.arpa", "beta": 0.5}, "decoder.beta=0.5"),
        (UNITS, {"beam": 0}, "decoder.beam=0 must be at least 1"),
        (UNITS, {"nbest": 0}, "decoder.nbest=0 must be at least 1"),
        (UNITS, {"tokens": 0}, "decoder.tokens=0 must be at least 1"),
        (UNITS, {"alpha": math.nan}, "decoder.alpha=nan is no number"),
        (UNITS, {"beta": math.inf}, "decoder.beta=inf is no number"),
        (UNITS, {"alpha": -0.5}, "decoder.alpha=-0.5 must be 0 or more"),
        (UNITS, {"beam_threshold": math.nan}, "decoder.beam_threshold=nan must be 0 or more"),
        (CharacterUnits(("<blank>", "|", "c")), {"lm": "lm.arpa"}, "can spell none of the lang"),
        (CharacterUnits(("<blank>", "|", "a")), {"lexicon": "words.txt"}, "words.txt:2: .*'ab'"),
    ],
)
def test_what_flashlight_cannot_do_is_said(
    files: Path, units: Units, given: dict[str, Any], message: str
) -> None:
    given = {k: files / v if k in ("lexicon", "lm") else v for k, v in given.items()}
    with pytest.raises(UserError, match=message):
        FlashlightDecoder(units, 0.04, **given)


def test_without_flashlight_text_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flashlight.lib.text.decoder.kenlm", None)
    with pytest.raises(UserError, match=r"pip install '\.\[flashlight\]'"):
        FlashlightDecoder(UNITS, 0.04)


def test_kenlm_is_silent_while_it_loads(files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    FlashlightDecoder(UNITS, 0.04, lm=files / "lm.arpa")
    print("still heard", file=sys.stderr)
    assert capfd.readouterr().err == "still heard\n"


@pytest.mark.parametrize("listed", [True, False])
def test_a_language_model_in_capitals_is_asked_in_capitals(
    files: Path, tmp_path: Path, listed: bool
) -> None:
    raised = ARPA.replace("ab", "AB").replace("a\t", "A\t").replace("bb", "BB")
    raised = raised.replace("> a", "> A").replace("\ta AB", "\tA AB")
    (tmp_path / "capitals.arpa").write_text(raised.lstrip())
    given: dict[str, Any] = {"alpha": 1.0}
    given |= {"lexicon": files / "words.txt"} if listed else {}
    emissions = peaks("a_|_a_b")
    one = FlashlightDecoder(UNITS, 0.04, lm=files / "lm.arpa", **given).decode_one(emissions)
    other = FlashlightDecoder(UNITS, 0.04, lm=tmp_path / "capitals.arpa", **given)
    assert other.decode_one(emissions)[0].score == pytest.approx(one[0].score, abs=1e-5)


def test_a_model_of_too_high_an_order_is_refused(files: Path) -> None:
    counts = "".join(f"ngram {order}=1\n" for order in range(2, 10))
    unigrams = LETTERS.partition("\\1-grams:")[2].partition("\\end\\")[0]
    longer = "".join(
        f"\\{order}-grams:\n-0.1\t{' '.join(['a'] * order)}\n\n" for order in range(2, 10)
    )
    text = f"\\data\\\nngram 1=6\n{counts}\n\\1-grams:{unigrams}{longer}\\end\\\n"
    (files / "long.arpa").write_text(text)
    with pytest.raises(
        UserError, match=r"decoder.lm: KenLM refuses it \(.*order.*use decoder=beam"
    ):
        FlashlightDecoder(UNITS, 0.04, lm=files / "long.arpa")


def test_other_weights_give_what_a_decoder_made_with_them_gives(files: Path) -> None:
    given: dict[str, Any] = {"lm": files / "lm.arpa", "nbest": 5}
    one = FlashlightDecoder(UNITS, 0.04, alpha=0.9, beta=-0.7, **given)
    other = FlashlightDecoder(UNITS, 0.04, alpha=0.1, beta=2.0, **given)
    assert other.weighted(0.9, -0.7).decode_one(drawn(2)) == one.decode_one(drawn(2))
    assert other.decode_one(drawn(2)) != one.decode_one(drawn(2))


@pytest.mark.parametrize("given", [{}, {"lexicon": "words.txt"}])
def test_words_stand_where_our_beam_puts_them(files: Path, given: dict[str, Any]) -> None:
    given = {key: files / name for key, name in given.items()}
    emissions = peaks("__a__|__bb__b__")
    [theirs] = FlashlightDecoder(UNITS, 0.04, 0.01, **given).decode_one(emissions)
    [ours] = BeamDecoder(UNITS, 0.04, 0.01, **given).decode_one(emissions)
    assert [word.word for word in theirs.words] == ["a", "bb"]
    assert times(theirs) == times(ours)
    # Ours is the root of the units' product, and less by the share of other hypotheses.
    for word, same in zip(theirs.words, ours.words, strict=True):
        assert word.confidence**0.5 == pytest.approx(same.confidence, abs=1e-2)
        assert same.confidence <= word.confidence**0.5


def times(hypothesis: Hypothesis) -> list[tuple[str, float, float]]:
    return [(word.word, word.start_s, word.end_s) for word in hypothesis.words]


@pytest.mark.parametrize("given", [{}, {"lexicon": "words.txt"}])
def test_one_label_is_tried_beside_a_likelier_blank(files: Path, given: dict[str, Any]) -> None:
    given = {key: files / name for key, name in given.items()}
    emissions = np.log(np.array([[0.58, 0.01, 0.4, 0.01]] * 2, np.float32))  # a: 0.64 in all
    decoder = FlashlightDecoder(UNITS, 0.04, tokens=1, **given)
    assert decoder.decode_one(emissions)[0].text == "a"


def test_a_word_begun_is_weighed_by_the_likeliest_word_it_may_become(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a\nbb\n")
    arpa = LETTERS.replace("-0.5\ta", "-4.0\ta").replace("-0.6\tb", "-0.1\tbb").replace("|", "cc")
    (tmp_path / "lm.arpa").write_text(arpa)
    emissions = peaks("a_b")
    emissions[0] = np.log([0.01, 0.01, 0.5, 0.48])
    given: dict[str, Any] = {"lexicon": tmp_path / "words.txt", "lm": tmp_path / "lm.arpa"}
    decoder = FlashlightDecoder(UNITS, 0.04, beam=1, alpha=1.0, **given)
    assert decoder.decode_one(emissions)[0].text == "bb"  # of the one path that is kept


@pytest.mark.parametrize("given", [{}, {"lexicon": "words.txt"}])
def test_labels_of_no_probability_are_never_heard(files: Path, given: dict[str, Any]) -> None:
    given = {key: files / name for key, name in given.items()}
    sure = np.where(peaks("a|_abb__") > -1, 0.0, -np.inf).astype(np.float32)
    decoder = FlashlightDecoder(UNITS, 0.04, nbest=3, **given)
    [best] = decoder.decode_one(sure)
    assert (best.text, best.score) == ("a ab", 0.0)
