"""ARPA files: anyone's are read, ours are read by KenLM, and bad ones are named with their line."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import UserError
from asr.language.arpa import write_arpa
from asr.language.counting import Scratch, count_ngrams
from asr.language.kneser_ney import estimate
from asr.language.ngram import NgramModel

LN_10 = math.log(10)

GOOD = r"""\data\
ngram 1=4
ngram 2=2

\1-grams:
-1.5	<unk>
-99	<s>	-0.5
-0.7	</s>
-0.6	word	-0.2

\2-grams:
-0.3	<s> word
-0.4	word </s>

\end\
"""


def load(folder: Path, text: str | bytes) -> NgramModel:
    path = folder / "lm.arpa"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return NgramModel.load(path)


def unigram(model: NgramModel, word: str) -> float:
    return float(model.log_prob[1 + model.word_id(word)]) / LN_10


@pytest.mark.parametrize(
    "same",
    [
        "# written by hand\nThe mark is \\data\\ and ngram 1=7\n\n" + GOOD,
        GOOD.replace("\t", "  "),
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", " \n"),
        GOOD.replace("ngram 1=4", "ngram  1 = 4"),
        GOOD.replace("\n\n", "\n\n\n"),
        GOOD.removesuffix("\n"),
        GOOD + "what follows is not read\n",
        GOOD.replace("-1.5	<unk>", "-1.5	<unk>	0"),
        GOOD.replace("word </s>", "word </s>	0.0"),
        GOOD.replace("-0.3	<s> word\n-0.4	word </s>", "-0.4	word </s>\n-0.3	<s> word"),
        gzip.compress(GOOD.encode()),
    ],
    ids=[
        *("comments", "spaces", "windows", "trailing", "blanks in counts", "blank lines"),
        *("no last newline", "a tail", "zero backoff", "zero backoff of the longest", "unsorted"),
        "gzip",
    ],
)
def test_anyones_way_of_writing_it_is_the_same_model(tmp_path: Path, same: str | bytes) -> None:
    expected, found = load(tmp_path, GOOD), load(tmp_path, same)
    assert found.words == expected.words
    for one, other in zip(found.arrays, expected.arrays, strict=True):
        assert np.array_equal(one, other)


def test_an_unknown_word_in_capitals_is_the_unknown_word(tmp_path: Path) -> None:
    model = load(tmp_path, GOOD.replace("<unk>", "<UNK>"))
    assert model.words[model.unknown_id] == "<UNK>"
    assert unigram(model, "nobody") == pytest.approx(-1.5)


def test_without_an_unknown_word_it_is_as_unlikely_as_kenlm_has_it(tmp_path: Path) -> None:
    text = GOOD.replace("-1.5	<unk>\n", "").replace("ngram 1=4", "ngram 1=3")
    model = load(tmp_path, text)
    assert model.words == ("<s>", "</s>", "word", "<unk>")
    assert unigram(model, "nobody") == pytest.approx(-100)


def test_minus_infinity_is_read_as_never(tmp_path: Path) -> None:
    model = load(tmp_path, GOOD.replace("-0.6	word	-0.2", "-inf	word	-inf"))
    assert unigram(model, "word") == pytest.approx(-99)
    assert model.backoff[1 + model.word_id("word")] == pytest.approx(-99 * LN_10)


def test_words_of_a_single_character_with_a_bar_among_them_are_characters(tmp_path: Path) -> None:
    letters = GOOD.replace("word", "w").replace("<unk>", "|").replace("-1.5	|", "-1.5	|")
    assert load(tmp_path, letters).kind == "characters"
    assert load(tmp_path, letters.replace("w", "wo")).kind == "words"
    assert load(tmp_path, letters.replace("|", "<unk>")).kind == "words"


BAD = [
    ("", 0, "no line before this one is \\data\\"),
    ("hello\n", 1, "no line before this one is \\data\\"),
    (GOOD.replace("ngram 1=4\n", ""), 2, "`ngram 1=COUNT`"),
    (GOOD.replace("ngram 1=4", "ngram 1=four"), 2, "`ngram 1=COUNT`"),
    (GOOD.replace("ngram 2=2", "ngram 3=2"), 3, "`ngram 2=COUNT`"),
    (GOOD.replace("\\1-grams:", "\\2-grams:"), 5, "\\1-grams: is missing"),
    (GOOD.replace("ngram 1=4", "ngram 1=5"), 10, "fewer 1-grams"),
    (GOOD.replace("ngram 1=4", "ngram 1=3"), 9, "more 1-grams"),
    (GOOD.replace("ngram 2=2", "ngram 2=3"), 14, "fewer 2-grams"),
    (GOOD.replace("ngram 2=2", "ngram 2=1"), 13, "more 2-grams"),
    (GOOD.replace("\\2-grams:", "\\3-grams:"), 11, "\\2-grams: should stand here, not \\3-grams:"),
    (GOOD.replace("\\end\\\n", ""), 14, "no \\end\\"),
    (GOOD.replace("\\end\\", "\\3-grams:"), 15, "\\end\\ should stand here"),
    (GOOD[: GOOD.index("word")], 9, "cut short"),
    (GOOD.replace("-0.7", "-0,7"), 8, "'-0,7' is no logarithm"),
    (GOOD.replace("-0.7", "nan"), 8, "'nan' is no logarithm"),
    (GOOD.replace("-0.7", "inf"), 8, "'inf' is no logarithm"),
    (GOOD.replace("-0.5", "x"), 7, "'x' is no logarithm"),
    (GOOD.replace("-0.7", "0.7"), 8, "above 1"),
    (GOOD.replace("word </s>", "word </s>	-0.1"), 13, "a backoff belongs to no 2-gram"),
    (GOOD.replace("<s> word", "<s> world"), 12, "'world' is none of the 1-grams"),
    (GOOD.replace("<s> word", "<s>"), 12, "2 fields"),
    (GOOD.replace("<s> word", "<s> word word 1"), 12, "5 fields"),
    (GOOD.replace("<unk>", "word"), 9, "'word' stands twice"),
    (GOOD.replace("word </s>", "<s> word"), 13, "this 2-gram stands twice"),
    (GOOD.encode().replace(b"<unk>", b"caf\xe9"), 6, "not UTF-8"),
]


@pytest.mark.parametrize(("text", "line", "message"), BAD, ids=[message for *_, message in BAD])
def test_a_bad_file_is_an_error_with_its_line(
    tmp_path: Path, text: str | bytes, line: int, message: str
) -> None:
    with pytest.raises(UserError) as refused:
        load(tmp_path, text)
    said = str(refused.value)
    assert said.startswith(f"{tmp_path / 'lm.arpa'}:{line}: ")
    assert message in said
    assert "\n" not in said


def test_a_file_cut_off_anywhere_is_an_error(tmp_path: Path) -> None:
    for size in range(len(GOOD) - len("\\\n")):
        with pytest.raises(UserError, match=r"lm\.arpa:\d+: "):
            load(tmp_path, GOOD[:size])


def test_a_gzipped_file_cut_off_is_an_error(tmp_path: Path) -> None:
    zipped = gzip.compress(GOOD.encode())
    with pytest.raises(UserError, match=r"lm\.arpa cannot be unpacked"):
        load(tmp_path, zipped[: len(zipped) // 2])


@pytest.mark.parametrize("mark", ["<s>", "</s>"])
def test_a_model_without_a_mark_of_the_sentence_is_an_error(tmp_path: Path, mark: str) -> None:
    with pytest.raises(UserError, match=f"has no {mark} among its 1-grams"):
        load(tmp_path, GOOD.replace(mark, "other"))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Cannot read the language model .*none\.arpa"):
        NgramModel.load(tmp_path / "none.arpa")


WORDS = ["<unk>", "<s>", "</s>", "a", "b", "été", "x" * 40]
logs = st.floats(-30, 0, width=32)


@st.composite
def models(draw: st.DrawFn) -> dict[tuple[str, ...], tuple[float, float]]:
    """Any n-grams up to order 3, in any order, with any holes."""
    ngrams = {(word,): (draw(logs), draw(logs)) for word in WORDS}
    for order in (2, 3):
        keys = st.tuples(*[st.sampled_from(WORDS)] * order)
        for key in draw(st.lists(keys, min_size=1, max_size=12, unique=True)):
            ngrams[key] = (draw(logs), draw(logs) if order < 3 else 0.0)
    return ngrams


@settings(max_examples=60, deadline=None)
@given(ngrams=models())
def test_what_is_written_is_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, ngrams: dict[tuple[str, ...], tuple[float, float]]
) -> None:
    folder = tmp_path_factory.mktemp("arpa")
    lines = ["\\data\\"]
    orders = [[item for item in ngrams.items() if len(item[0]) == order] for order in (1, 2, 3)]
    lines += [f"ngram {order}={len(rows)}" for order, rows in enumerate(orders, start=1)]
    for order, rows in enumerate(orders, start=1):
        lines += ["", f"\\{order}-grams:"]
        lines += [f"{prob!r} {' '.join(key)} {backoff!r}" for key, (prob, backoff) in rows]
    model = load(folder, "\n".join([*lines, "", "\\end\\", ""]))
    for key, (prob, backoff) in ngrams.items():
        node = 0
        for word in key:
            low, high = model.first_child[node : node + 2]
            node = low + model.word[low:high].tolist().index(model.word_id(word))
        assert model.log_prob[node] == np.float32(prob * LN_10)
        assert model.backoff[node] == np.float32(backoff * LN_10)
    write_arpa(model, folder / "again.arpa.gz")
    again = NgramModel.load(folder / "again.arpa.gz")
    assert again.words == model.words
    for one, other in zip(again.arrays, model.arrays, strict=True):
        assert np.array_equal(one, other)


Score = Callable[[Sequence[str]], float]


def kenlm(path: Path, words: Sequence[str]) -> Score:
    """Base-10 logarithms of sentences by KenLM's reader, which flashlight carries."""
    kenlm = pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    dictionary = pytest.importorskip("flashlight.lib.text.dictionary").Dictionary()
    for word in words:
        dictionary.add_entry(word)
    model = kenlm.KenLM(str(path), dictionary)

    def score(sentence: Sequence[str]) -> float:
        state, total = model.start(False), 0.0
        for word in sentence:
            state, step = model.score(state, dictionary.get_index(word))
            total += step
        return total + float(model.finish(state)[1])

    return score


def compare(model: NgramModel, score: Score, words: Sequence[str], sentences: int) -> None:
    random = np.random.default_rng(0)
    for _ in range(sentences):
        sentence = list(random.choice(words, random.integers(0, 12)))
        steps = model.log_probs(sentence).sum() / LN_10
        assert steps == pytest.approx(score(sentence), abs=1e-5 * (1 + abs(steps) / 10))


def markov_text(sentences: int, seed: int = 0) -> list[list[str]]:
    """Sentences in which words depend on the one before."""
    random = np.random.default_rng(seed)
    words = [f"w{number}" for number in range(40)]
    likely = random.dirichlet(np.full(40, 0.1), size=41)
    texts = []
    for _ in range(sentences):
        row, text = 40, []
        for _ in range(random.integers(1, 12)):
            row = random.choice(40, p=likely[row])
            text.append(words[row])
        texts.append(text)
    return texts


@pytest.mark.parametrize(("order", "prune"), [(2, (0,)), (3, (0,)), (4, (0, 0, 1))])
def test_kenlm_gives_our_models_the_same_probabilities(
    tmp_path: Path, order: int, prune: tuple[int, ...]
) -> None:
    scratch = Scratch(tmp_path)
    counts = count_ngrams(markov_text(300), order, scratch)
    model = estimate(counts, scratch, prune).model
    write_arpa(model, tmp_path / "lm.arpa")
    words = [*(f"w{number}" for number in range(40)), "never", "heard"]
    score = kenlm(tmp_path / "lm.arpa", words)
    compare(NgramModel.load(tmp_path / "lm.arpa"), score, words, sentences=400)


def test_kenlm_gives_a_model_of_somebody_else_the_same_probabilities(tmp_path: Path) -> None:
    """One with `<UNK>`, missing backoffs, -99 and an n-gram whose beginning is missing."""
    text = GOOD.replace("<unk>", "<UNK>").replace("ngram 2=2", "ngram 2=3\nngram 3=2")
    text = text.replace("word </s>", "word </s>\n-0.2	word word")
    text = text.replace("\n\\end", "\n\\3-grams:\n-0.1 <s> word </s>\n-99 word word </s>\n\n\\end")
    model = load(tmp_path, text)
    words = ["word", "other"]
    compare(model, kenlm(tmp_path / "lm.arpa", words), words, sentences=300)


def test_the_model_of_an4_is_read_as_it_is(
    real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    path = real_data("an4") / "etc" / "an4.lm"
    model = NgramModel.load(path)
    assert model.counts == (107, 1)
    assert model.words[:4] == ("<UNK>", "</s>", "<s>", "A")
    # All words are in capitals and equally likely; our texts are in small letters.
    assert model.word_id("rubout") == model.word_id("RUBOUT") != model.unknown_id
    assert unigram(model, "rubout") == pytest.approx(-2.0253)
    text = path.read_text()
    plain = tmp_path / "plain.arpa"  # KenLM refuses what stands before
    plain.write_text(text[text.index("\n\\data\\\n") :])
    words = [*model.words[3:], "NOBODY"]
    compare(model, kenlm(plain, words), words, sentences=300)
