"""Beam search against sums over all paths, with language models, lexicons and hotwords."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.decoding.beam import BeamDecoder
from asr.errors import UserError
from asr.units.characters import CharacterUnits
from asr.units.phones import PhoneUnits
from asr.units.pieces import SentencePieceUnits
from asr.units.symbols import BLANK, Units
from asr.units.words import WordUnits

pytestmark = pytest.mark.usefixtures("compiled_search")

EXACT = {"beam": 20_000, "nbest": 20_000, "token_threshold": 1e9, "beam_threshold": 1e9}
LETTERS = CharacterUnits((BLANK, "|", "a", "b"))
WHOLE = CharacterUnits((BLANK, "|", "a", "b", "ab"))
PHONES = PhoneUnits.from_pronunciations({"to": ("T", "U"), "two": ("T", "U"), "toe": ("T",)})

ARPA = """\\data\\
ngram 1=5
ngram 2=4
ngram 3=1

\\1-grams:
-99 <s> -0.3
-0.9 </s>
-1.5 <unk> -0.1
-0.6 a -0.2
-0.5 ab -0.4

\\2-grams:
-0.3 <s> ab -0.25
-0.7 ab a
-0.4 a </s>
-0.2 a a -0.05

\\3-grams:
-0.1 <s> ab a

\\end\\
"""
LETTER_ARPA = (
    ARPA.replace("<s> ab a", "<s> b a")
    .replace("-0.5 ab", "-0.5 b")
    .replace("<s> ab", "<s> b")
    .replace("ab a", "b a")
    .replace("ngram 1=5", "ngram 1=6")
    .replace("-0.6 a -0.2", "-0.6 a -0.2\n-0.8 | -0.15")
)


def emissions(frames: int, size: int, seed: int = 0, peaks: float = 2.0) -> torch.Tensor:
    values = np.random.default_rng(seed).normal(size=(frames, size)) * peaks
    return torch.log_softmax(torch.tensor(values, dtype=torch.float64), dim=-1)


def summed(
    log_probs: torch.Tensor, readings: Callable[[tuple[int, ...]], Iterator[str]]
) -> dict[str, float]:
    """The probability of each text: all paths to it, one after the other."""
    frames, size = log_probs.shape
    values = log_probs.exp().tolist()
    totals: dict[str, float] = {}
    for path in itertools.product(range(size), repeat=frames):
        probability = math.prod(values[t][label] for t, label in enumerate(path))
        labels = tuple(label for label, _ in itertools.groupby(path) if label)
        for text in set(readings(labels)):
            totals[text] = totals.get(text, 0.0) + probability
    return totals


def spelled(units: Units) -> Callable[[tuple[int, ...]], Iterator[str]]:
    return lambda labels: iter([units.decode(labels)])


def backed_off(arpa: str, tokens: Sequence[str]) -> float:
    """Natural log-probability of a sentence, as the format's comment has defined it since 1994."""
    probability: dict[tuple[str, ...], float] = {}
    backoff: dict[tuple[str, ...], float] = {}
    order = 0
    for line in arpa.splitlines():
        fields = line.split()
        if line.endswith("-grams:"):
            order = int(line[1])
        elif order and fields and not line.startswith("\\"):
            words = tuple(fields[1 : 1 + order])
            probability[words] = float(fields[0])
            backoff[words] = float(fields[1 + order]) if len(fields) > 1 + order else 0.0

    def of(context: tuple[str, ...], word: str) -> float:
        if (*context, word) in probability:
            return probability[(*context, word)]
        return backoff.get(context, 0.0) + of(context[1:], word)

    known = [token if (token,) in probability else "<unk>" for token in tokens]
    sentence = ["<s>", *known, "</s>"]
    log10 = sum(
        of(tuple(sentence[max(0, i - 2) : i]), sentence[i]) for i in range(1, len(sentence))
    )
    return log10 * math.log(10)


def decoded(
    units: Units, log_probs: torch.Tensor, **settings: object
) -> tuple[dict[str, float], list[str]]:
    decoder = BeamDecoder(units, 0.04, **{**EXACT, **settings})  # type: ignore[arg-type]
    (nbest,) = decoder.decode(log_probs[None].float(), torch.tensor([len(log_probs)]))
    assert [one.score for one in nbest] == sorted((one.score for one in nbest), reverse=True)
    return {one.text: one.score for one in nbest}, [one.text for one in nbest]


def check(found: dict[str, float], expected: dict[str, float]) -> None:
    assert found.keys() == expected.keys()
    for text, score in expected.items():
        assert found[text] == pytest.approx(score, abs=1e-5), text


@pytest.mark.parametrize("units", [LETTERS, WHOLE, WordUnits((BLANK, "one", "two", "three"))])
@pytest.mark.parametrize("seed", range(3))
def test_every_text_has_the_probability_of_all_its_paths(units: Units, seed: int) -> None:
    log_probs = emissions(5, len(units.symbols), seed)
    expected = {text: math.log(p) for text, p in summed(log_probs, spelled(units)).items()}
    found, texts = decoded(units, log_probs)
    check(found, expected)
    assert texts[0] == max(expected, key=expected.__getitem__)


def test_pieces_of_words_are_put_together_whatever_the_pieces_are() -> None:
    units = SentencePieceUnits.from_texts(["ab a b ba ab ab"] * 3, 6)
    log_probs = emissions(4, len(units.symbols))
    expected = {text: math.log(p) for text, p in summed(log_probs, spelled(units)).items()}
    check(decoded(units, log_probs)[0], expected)


@pytest.mark.parametrize("units", [LETTERS, WHOLE])
def test_words_are_weighed_by_their_model_and_counted(tmp_path: Path, units: Units) -> None:
    (tmp_path / "lm.arpa").write_text(ARPA)
    log_probs = emissions(5, len(units.symbols), 1)
    expected = {
        text: math.log(p) + 0.7 * backed_off(ARPA, text.split()) + 0.4 * len(text.split())
        for text, p in summed(log_probs, spelled(units)).items()
    }
    check(decoded(units, log_probs, lm=tmp_path / "lm.arpa", alpha=0.7, beta=0.4)[0], expected)


def test_a_model_in_capitals_gives_what_the_same_in_small_letters_gives(tmp_path: Path) -> None:
    (tmp_path / "lm.arpa").write_text(ARPA)
    in_capitals = re.sub(r"\b(ab?|unk)\b", lambda found: found[0].upper(), ARPA)
    (tmp_path / "capitals.arpa").write_text(in_capitals)
    log_probs = emissions(5, len(LETTERS.symbols), 1)
    found = decoded(LETTERS, log_probs, lm=tmp_path / "capitals.arpa", alpha=0.7)[0]
    check(found, decoded(LETTERS, log_probs, lm=tmp_path / "lm.arpa", alpha=0.7)[0])


@pytest.mark.parametrize("units", [LETTERS, WHOLE])
def test_letters_are_weighed_by_theirs_and_counted_with_the_spaces(
    tmp_path: Path, units: Units
) -> None:
    (tmp_path / "lm.arpa").write_text(LETTER_ARPA)
    log_probs = emissions(5, len(units.symbols), 2)
    expected = {}
    for text, p in summed(log_probs, spelled(units)).items():
        tokens = list(text.replace(" ", "|"))
        language = backed_off(LETTER_ARPA, tokens)
        expected[text] = math.log(p) + 0.7 * language + 0.4 * len(tokens)
    check(decoded(units, log_probs, lm=tmp_path / "lm.arpa", alpha=0.7, beta=0.4)[0], expected)


@pytest.mark.parametrize("units", [LETTERS, WHOLE])
def test_a_lexicon_leaves_only_texts_of_its_words(tmp_path: Path, units: Units) -> None:
    (tmp_path / "words.txt").write_text("AB\nB\n")
    log_probs = emissions(5, len(units.symbols), 3)
    expected = {
        text: math.log(p)
        for text, p in summed(log_probs, spelled(units)).items()
        if set(text.split()) <= {"ab", "b"}
    }
    settings = {"lexicon": tmp_path / "words.txt", "normaliser": "english"}
    check(decoded(units, log_probs, **settings)[0], expected)


def test_an_unknown_word_costs_what_is_said_and_is_unknown_to_the_model(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("ab\nb\n")
    (tmp_path / "lm.arpa").write_text(ARPA)
    log_probs = emissions(5, 4, 4)
    expected = {}
    for text, p in summed(log_probs, spelled(LETTERS)).items():
        words = text.split()
        known = [word if word in ("ab", "b") else "<unk>" for word in words]
        outside = sum(word not in ("ab", "b") for word in words)
        expected[text] = math.log(p) + 0.7 * backed_off(ARPA, known) - 2.5 * outside
    settings = {"lexicon": tmp_path / "words.txt", "lm": tmp_path / "lm.arpa", "alpha": 0.7}
    check(decoded(LETTERS, log_probs, unknown_score=-2.5, **settings)[0], expected)


def segmented(labels: tuple[int, ...], words: dict[tuple[int, ...], list[str]]) -> Iterator[str]:
    """Every reading of phones as words."""
    if not labels:
        yield ""
    for end in range(1, len(labels) + 1):
        for word in words.get(labels[:end], []):
            for rest in segmented(labels[end:], words):
                yield f"{word} {rest}".strip()


@pytest.mark.parametrize("modelled", [False, True])
def test_phones_are_read_as_words_in_every_way_that_the_dictionary_allows(
    tmp_path: Path, modelled: bool
) -> None:
    dictionary = tmp_path / "words.dic"
    dictionary.write_text(";;; spoken\na T U\nab T U\nb T\nb(2) U T\n")
    (tmp_path / "lm.arpa").write_text(ARPA)
    index = {symbol: label for label, symbol in enumerate(PHONES.symbols)}
    t, u = index["T"], index["U"]
    words = {(t, u): ["a", "ab"], (t,): ["b"], (u, t): ["b"]}
    log_probs = emissions(5, 3, 5)
    expected = {}
    for text, p in summed(log_probs, lambda labels: segmented(labels, words)).items():
        language = 0.7 * backed_off(ARPA, text.split()) if modelled else 0.0
        expected[text] = math.log(p) + language + 0.4 * len(text.split())
    lm = tmp_path / "lm.arpa" if modelled else None
    found, _ = decoded(PHONES, log_probs, lexicon=dictionary, lm=lm, alpha=0.7, beta=0.4)
    check(found, expected)


def test_a_model_of_phones_knows_the_words_of_its_own_lexicon() -> None:
    found, texts = decoded(PHONES, emissions(3, 3, 6))
    assert {"to", "two", "toe"} < set(texts)
    assert found["to"] == found["two"]
    assert BeamDecoder(PHONES, 0.04).rate_name == "wer"


@pytest.mark.parametrize("units", [LETTERS, WHOLE])
def test_a_hotword_counts_where_it_stands_as_a_word_and_each_time(
    tmp_path: Path, units: Units
) -> None:
    (tmp_path / "hot.txt").write_text("# names\nab\na b\t1.5\nb\t-0.75\n")
    log_probs = emissions(5, len(units.symbols), 7)
    expected = {}
    for text, p in summed(log_probs, spelled(units)).items():
        words = text.split()
        pairs = list(itertools.pairwise(words))
        bonus = 2.0 * words.count("ab") + 1.5 * pairs.count(("a", "b")) - 0.75 * words.count("b")
        expected[text] = math.log(p) + bonus
    found, _ = decoded(units, log_probs, hotwords=tmp_path / "hot.txt", hotword_weight=2.0)
    check(found, expected)


def test_a_hotword_is_heard_in_phones_too(tmp_path: Path) -> None:
    (tmp_path / "hot.txt").write_text("two\n")
    log_probs = emissions(3, 3, 8)
    without, _ = decoded(PHONES, log_probs)
    found, _ = decoded(PHONES, log_probs, hotwords=tmp_path / "hot.txt", hotword_weight=2.0)
    for text, score in without.items():
        assert found[text] == pytest.approx(score + 2.0 * text.split().count("two"), abs=1e-6)


def test_a_hotword_that_can_never_be_heard_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hot.txt").write_text("ab\n")
    (tmp_path / "words.txt").write_text("b\na\n")
    listed = {"lexicon": tmp_path / "words.txt", "hotwords": tmp_path / "hot.txt"}
    with pytest.raises(UserError, match=r"hot.txt:1: 'ab' is none of the words"):
        BeamDecoder(LETTERS, 0.04, **listed)
    BeamDecoder(LETTERS, 0.04, **listed, unknown_score=-1.0)
    with pytest.raises(UserError, match=r"hot.txt:1: 'ab' is none of the words"):
        BeamDecoder(WordUnits((BLANK, "a", "b")), 0.04, hotwords=tmp_path / "hot.txt")
    BeamDecoder(WHOLE, 0.04, hotwords=tmp_path / "hot.txt")


def test_a_narrow_beam_finds_nothing_better_than_a_wide_one_and_mostly_the_same() -> None:
    same = 0
    for seed in range(20):
        log_probs = emissions(40, 4, 100 + seed, peaks=6.0)
        wide, texts = decoded(LETTERS, log_probs, beam=1000, nbest=1)
        narrow, narrow_texts = decoded(LETTERS, log_probs, beam=50, nbest=1)
        assert narrow[narrow_texts[0]] <= wide[texts[0]] + 1e-9
        same += texts == narrow_texts
    assert same >= 18


def test_a_text_is_the_same_alone_in_a_batch_and_with_padding() -> None:
    decoder = BeamDecoder(LETTERS, 0.04, nbest=3)
    items = [emissions(frames, 4, frames).float() for frames in (3, 9, 6, 0)]
    batch = torch.zeros(4, 12, 4)
    for row, item in zip(batch, items, strict=True):
        row[: len(item)] = item
    together = decoder.decode(batch, torch.tensor([len(item) for item in items]))
    alone = [decoder.decode(item[None], torch.tensor([len(item)]))[0] for item in items]
    assert together == alone
    assert (together[3][0].text, together[3][0].score) == ("", 0.0)


def test_the_last_letter_stays_where_no_space_follows_and_a_word_of_one_unit_is_not_doubled(
    tmp_path: Path,
) -> None:
    (tmp_path / "words.txt").write_text("ab\nb\n")
    sure = torch.full((4, 5), -10.0)
    for frame, label in enumerate([4, 4, 1, 3]):  # "ab" for two frames, a space, "b"
        sure[frame, label] = -0.01
    _, texts = decoded(WHOLE, sure, lexicon=tmp_path / "words.txt")
    assert texts[0] == "ab b"


def test_words_have_times_from_the_path_of_their_labels() -> None:
    sure = torch.full((10, 4), -10.0)
    for frame, label in enumerate([0, 2, 3, 0, 0, 1, 0, 3, 0, 0]):
        sure[frame, label] = -0.01
    decoder = BeamDecoder(LETTERS, 0.1)
    words = decoder.decode(sure[None], torch.tensor([10]))[0][0].words
    assert [word.word for word in words] == ["ab", "b"]
    times = [(word.start_s, word.end_s) for word in words]
    assert times == [pytest.approx((0.1, 0.35), abs=0.1), pytest.approx((0.65, 0.85), abs=0.15)]
    # The roots of two units' product and of one's, and hardly a hypothesis without the words.
    assert words[0].confidence == pytest.approx(math.exp(-0.01), abs=1e-3)
    assert words[1].confidence == pytest.approx(math.exp(-0.005), abs=1e-3)


def test_where_no_word_of_the_lexicon_fits_to_the_end_the_unfinished_one_is_left_out(
    tmp_path: Path,
) -> None:
    (tmp_path / "words.txt").write_text("ab\nb\n")
    none = -np.inf
    impossible = torch.tensor(
        [[none, none, none, 0.0], [none, 0.0, none, none], [none, none, 0.0, none]]
    )
    assert decoded(LETTERS, impossible, lexicon=tmp_path / "words.txt")[1] == ["b"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beam": 0}, "decoder.beam=0 must be at least 1"),
        ({"nbest": 0}, "decoder.nbest=0 must be at least 1"),
        ({"alpha": math.nan}, "decoder.alpha=nan is no number"),
        ({"beta": math.inf}, "decoder.beta=inf is no number"),
        ({"hotword_weight": math.nan}, "decoder.hotword_weight=nan is no number"),
        ({"alpha": -0.5}, "decoder.alpha=-0.5 must be 0 or more"),
        ({"token_threshold": math.nan}, "decoder.token_threshold=nan must be 0 or more"),
        ({"beam_threshold": -1.0}, "decoder.beam_threshold=-1.0 must be 0 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        BeamDecoder(LETTERS, 0.04, **settings)  # type: ignore[arg-type]


def test_a_model_of_letters_is_no_help_to_phones(tmp_path: Path) -> None:
    (tmp_path / "lm.arpa").write_text(LETTER_ARPA)
    with pytest.raises(UserError, match="a model of letters needs units that spell"):
        BeamDecoder(PHONES, 0.04, lm=tmp_path / "lm.arpa")


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_emissions_that_are_no_probabilities_have_no_text_and_no_score(value: float) -> None:
    broken = torch.full((6, 4), -1.4)
    broken[3] = value
    (best,) = BeamDecoder(LETTERS, 0.04).decode(broken[None], torch.tensor([6]))[0]
    assert (best.text, best.score) == ("", -math.inf)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_utterances_are_read_alone_together_and_in_threads_alike(threads: int) -> None:
    lengths = [7, 0, 12, 3, 12]
    items = [emissions(length, 4, seed) for seed, length in enumerate(lengths)]
    batch = torch.nn.utils.rnn.pad_sequence(items, batch_first=True)
    units = CharacterUnits((BLANK, "|", "a", "b"))
    decoder = BeamDecoder(units, 0.04, beam=20, nbest=3)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = decoder.decode(batch, torch.tensor(lengths))
    finally:
        torch.set_num_threads(before)
    assert found == [decoder.decode_one(item.numpy()) for item in items]
    assert [len(nbest) for nbest in found] == [3, 1, 3, 3, 3]
    assert found[1][0].text == ""


def test_a_text_too_long_for_one_trellis_is_placed_all_the_same() -> None:
    labels = [1, 2] * 1100  # with 4,400 frames it would take 19 MB
    logits = torch.zeros(2 * len(labels), 3)
    logits[::2].scatter_(1, torch.tensor(labels)[:, None], 9.0)
    logits[1::2, 0] = 9.0
    units = CharacterUnits((BLANK, "a", "b"))
    log_probs = logits.log_softmax(dim=1)
    (best,) = BeamDecoder(units, 0.04, beam=4).decode_one(log_probs.numpy())
    assert best.text == "ab" * 1100
    (word,) = best.words
    # Begins no earlier than the recording, ends LETTER_S after its last letter began.
    assert (word.start_s, word.end_s) == (0.0, pytest.approx(4398 * 0.04 + 0.08, abs=1e-3))
    (short,) = BeamDecoder(units, 0.04, beam=4).decode_one(log_probs[:40].numpy())
    product = float(log_probs[0, 1].exp()) ** 20
    (word,) = short.words
    assert word.confidence == pytest.approx(math.sqrt(product), rel=0.05)  # its share is near 1
