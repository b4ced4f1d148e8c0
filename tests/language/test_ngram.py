"""The compiled model: its layout, its states, and what a file of it may not hold."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr.errors import UserError
from asr.language.ngram import NgramModel, advance, tokens

LN_10 = math.log(10)

# The bigram `b a` and its backoff, and a trigram `a b a` whose first words `a b` are no bigram.
SMALL = r"""
\data\
ngram 1=5
ngram 2=2
ngram 3=2

\1-grams:
-1.0	<unk>
-99	<s>	-0.5
-0.7	</s>
-0.6	a	-0.2
-0.5	b	-0.3

\2-grams:
-0.3	<s> b	-0.1
-0.4	b a	-0.15

\3-grams:
-0.05	a b a
-0.25	<s> b a

\end\
"""
UNKNOWN, START, END, A, B = range(5)

Ngrams = dict[tuple[str, ...], tuple[float, float]]


def write(folder: Path, text: str) -> Path:
    path = folder / "lm.arpa"
    path.write_text(text)
    return path


@pytest.fixture
def small(tmp_path: Path) -> NgramModel:
    return NgramModel.load(write(tmp_path, SMALL))


def by_definition(ngrams: Ngrams, context: tuple[str, ...], word: str) -> float:
    """The base-10 logarithm that backing off defines."""
    if (*context, word) in ngrams:
        return ngrams[(*context, word)][0]
    backoff = ngrams[context][1] if context in ngrams else 0.0
    return backoff + by_definition(ngrams, context[1:], word)


def after(model: NgramModel, words: Sequence[str], state: int = 0) -> tuple[float, int]:
    """The last word's base-10 logarithm after the others, and the state after all."""
    step = 0.0
    for word in words:
        step, state = advance(*model.arrays, np.int32(state), model.word_id(word))
    return step / LN_10, int(state)


def test_nodes_are_numbered_order_by_order_and_a_missing_context_is_among_them(
    small: NgramModel,
) -> None:
    #  0: empty   1-5: the words   6: <s> b   7: a b (which the file lacks)   8: b a
    #  9: <s> b a   10: a b a
    assert small.word.tolist() == [0, UNKNOWN, START, END, A, B, B, B, A, A, A]
    assert small.first_child.tolist() == [1, 6, 6, 7, 7, 8, 9, 10, 11, 11, 11, 11]
    assert small.suffix.tolist() == [0, 0, 0, 0, 0, 0, 5, 5, 4, 8, 8]
    assert small.counts == (5, 3, 2)
    assert (small.order, small.kind) == (3, "words")
    assert small.words == ("<unk>", "<s>", "</s>", "a", "b")
    assert (small.start_id, small.end_id, small.unknown_id) == (START, END, UNKNOWN)
    assert [str(array.dtype) for array in small.arrays] == [
        "int32", "int32", "float32", "float32", "int32",
    ]  # fmt: skip


def test_a_missing_context_has_the_probability_of_backing_off(small: NgramModel) -> None:
    # p(b | a) = backoff(a) p(b)
    assert small.log_prob[7] == pytest.approx((-0.2 - 0.5) * LN_10, abs=1e-6)
    assert small.backoff[7] == 0


def test_a_sentence_is_scored_as_by_hand(small: NgramModel) -> None:
    # <s> b: -0.3;  <s> b a: -0.25;  b a </s>: bo(b a) bo(a) p(</s>) = -0.15 - 0.2 - 0.7
    expected = LN_10 * (-0.3 - 0.25 - 1.05)
    assert small.score(["b", "a"]) == pytest.approx(expected, abs=1e-6)
    assert small.perplexity([["b", "a"]]) == pytest.approx(math.exp(-expected / 3), rel=1e-6)
    # <s> zzz: bo(<s>) p(<unk>) = -1.5;  zzz </s>: p(</s>) = -0.7
    assert small.score(["zzz"]) == pytest.approx(-2.2 * LN_10, abs=1e-6)
    # both sentences: 3 + 2 tokens
    both = small.perplexity([["b", "a"], ["zzz"]])
    assert both == pytest.approx(math.exp(-(expected - 2.2 * LN_10) / 5), rel=1e-6)


def test_no_sentence_has_no_perplexity(small: NgramModel) -> None:
    with pytest.raises(ValueError, match="no sentence"):
        small.perplexity([])


def test_pasts_with_one_future_are_one_state(small: NgramModel) -> None:
    assert small.start == 1 + START
    # Nothing follows `<s> b a` and it is of the highest order: `b a` with its backoff is left.
    assert after(small, ["<s>", "b", "a"])[1] == after(small, ["a", "b", "a"])[1] == 8
    assert after(small, ["</s>"])[1] == after(small, ["<unk>"])[1] == after(small, [])[1] == 0
    assert after(small, ["a", "a"])[1] == after(small, ["a"])[1] == 4


def test_a_suffix_that_no_future_depends_on_is_passed_over(tmp_path: Path) -> None:
    """Without its backoff `b a` has no influence on what follows `<s> b a` and `a b a`."""
    model = NgramModel.load(write(tmp_path, SMALL.replace("b a\t-0.15", "b a")))
    assert model.suffix.tolist() == [0, 0, 0, 0, 0, 0, 5, 5, 4, 4, 4]
    assert after(model, ["<s>", "b", "a"])[1] == after(model, ["b", "a"])[1] == 4


@pytest.mark.parametrize("seed", range(8))
def test_probabilities_are_those_that_backing_off_defines(tmp_path: Path, seed: int) -> None:
    """Of models with holes: n-grams whose beginnings or ends are not in them."""
    random = np.random.default_rng(seed)
    words = ["<unk>", "<s>", "</s>", *"abcd"]
    ngrams: Ngrams = {(word,): tuple(-random.random(2).round(4)) for word in words}
    for order, share in ((2, 0.3), (3, 0.1), (4, 0.02)):
        for ngram in itertools.product(words, repeat=order):
            if random.random() < share:
                prob, backoff = -random.random(2).round(4)
                ngrams[ngram] = (prob, backoff if order < 4 and random.random() < 0.7 else 0.0)
    sections = []
    for order in (1, 2, 3, 4):
        rows = [(key, value) for key, value in ngrams.items() if len(key) == order]
        random.shuffle(rows)  # type: ignore[arg-type]
        if order == 1:
            rows.sort(key=lambda row: words.index(row[0][0]))
        lines = [
            f"{prob}\t{' '.join(key)}" + (f"\t{backoff}" if backoff else "")
            for key, (prob, backoff) in rows
        ]
        sections.append((len(rows), f"\\{order}-grams:\n" + "\n".join(lines)))
    head = "\n".join(f"ngram {order}={count}" for order, (count, _) in enumerate(sections, start=1))
    text = "\\data\\\n" + "\n\n".join([head, *(body for _, body in sections), "\\end\\"]) + "\n"
    model = NgramModel.load(write(tmp_path, text))
    futures: dict[int, list[float]] = {}
    for length in range(4):
        for context in itertools.product(words, repeat=length):
            _, state = after(model, context)
            expected = [by_definition(ngrams, context, word) for word in words]
            found = [after(model, [word], state)[0] for word in words]
            assert found == pytest.approx(expected, abs=2e-6)
            assert futures.setdefault(state, expected) == pytest.approx(expected, abs=2e-6)
    assert model.fault() == ""


def test_words_in_capitals_are_found_in_any_case(tmp_path: Path) -> None:
    text = re.sub(r"\b[ab]\b", lambda word: word[0].upper(), SMALL)
    capitals = NgramModel.load(write(tmp_path, text))
    assert capitals.words[A:] == ("A", "B")
    assert [capitals.word_id(word) for word in ("a", "A", "b", "c")] == [A, A, B, UNKNOWN]


def test_words_in_both_cases_are_found_as_they_are_written(small: NgramModel) -> None:
    assert (small.word_id("a"), small.word_id("A")) == (A, UNKNOWN)


def test_characters_are_tokens_with_a_bar_between_words() -> None:
    assert tokens("a bc  d", "characters") == ["a", "|", "b", "c", "|", "d"]
    assert tokens("a bc  d", "words") == ["a", "bc", "d"]


@pytest.fixture
def compiled(small: NgramModel, tmp_path: Path) -> Path:
    small.save(tmp_path / "lm.bin")
    return tmp_path / "lm.bin"


@pytest.mark.parametrize("read", [NgramModel.open, NgramModel.load])
def test_a_compiled_model_is_the_model(small: NgramModel, compiled: Path, read: type) -> None:
    model: NgramModel = read(compiled)
    for one, other in zip(model.arrays, small.arrays, strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)
    assert (model.words, model.kind, model.order, model.start) == (
        small.words, small.kind, small.order, small.start,
    )  # fmt: skip
    assert model.score(["b", "a"]) == small.score(["b", "a"])


def test_opening_maps_the_file_and_reads_nothing_of_its_arrays(compiled: Path) -> None:
    model = NgramModel.open(compiled)
    for array in (*model.arrays, model.text, model.ends):
        while not isinstance(array, np.memmap):
            assert isinstance(array.base, np.ndarray), "a copy, not a view of the file"
            array = array.base
        assert array.offset % 64 == 0


def test_what_is_written_into_an_open_model_stays_out_of_its_file(compiled: Path) -> None:
    before = compiled.read_bytes()
    for array in NgramModel.open(compiled).arrays:
        array[:] = 7  # Numba knows arrays that can be written by another type, and compiles twice
    assert compiled.read_bytes() == before


def test_one_model_gives_the_same_bytes(small: NgramModel, compiled: Path, tmp_path: Path) -> None:
    NgramModel.open(compiled).save(tmp_path / "again.bin")
    assert (tmp_path / "again.bin").read_bytes() == compiled.read_bytes()


@pytest.mark.parametrize("read", [NgramModel.open, NgramModel.load])
def test_a_compiled_model_that_is_cut_off_anywhere_is_refused(compiled: Path, read: type) -> None:
    whole = compiled.read_bytes()
    suffix = NgramModel.open(compiled).suffix  # the last array, which padding follows
    end = whole.rindex(suffix.tobytes()) + suffix.nbytes
    for size in [*range(0, end, 37), end - 1]:
        compiled.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"lm\.bin"):
            read(compiled)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"RIFF" + bytes(100), "is no compiled language model"),
        (b"asr-lm\r\n\x02\0\0\0" + bytes(100), "of version 2"),
        (b"asr-lm\r\n\x01\0\0\0\x08\0\0\0no json!" + bytes(100), "its header cannot be read"),
        (b"asr-lm\r\n\x01\0\0\0\x02\0\0\0[]" + bytes(100), "its header cannot be read"),
        (b"asr-lm\r\n\x01\0\0\0\x02\0\0\0{}" + bytes(100), "is damaged"),
        (b"asr-lm\r\n\x01\0\0\0\0\0\1\0" + b"[" * 2**16, "its header cannot be read"),
        (b"asr-lm\r\n\x01\0\0\0\xff\xff\xff\xff{}" + bytes(100), "its header cannot be read"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "lm.bin").write_bytes(content)
    with pytest.raises(UserError, match=message):
        NgramModel.open(tmp_path / "lm.bin")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    for read in (NgramModel.open, NgramModel.load):
        with pytest.raises(UserError, match=r"Cannot read the language model .*no\.bin"):
            read(tmp_path / "no.bin")


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"suffix": {"offset": 2**40}}, "cut off in its array 'suffix'"),
        ({"suffix": {"length": 2**40}}, "cut off in its array 'suffix'"),
        ({"word": {"offset": -64}}, "its array 'word' has no place"),
        ({"word": {"length": -1}}, "its array 'word' has no place"),
        ({"word": {"length": 0}}, "its array 'word' has no place"),
        ({"word": {"offset": 3}}, "its array 'word' has no place"),
        ({"word": {"length": 7}}, "do not belong together"),
        ({"ends": {"length": 40}}, "do not belong together"),
        ({"first_child": {"length": 11}}, "do not belong together"),
    ],
)
def test_places_outside_the_file_are_refused(
    compiled: Path, places: dict[str, dict[str, int]], message: str
) -> None:
    content = compiled.read_bytes()
    length = int.from_bytes(content[12:16], "little")
    header = json.loads(content[16 : 16 + length])
    for name, change in places.items():
        header["arrays"][name] |= change
    compiled.write_bytes(
        content[:16] + json.dumps(header).encode().ljust(length) + content[16 + length :]
    )
    with pytest.raises(UserError, match=message):
        NgramModel.open(compiled)


@pytest.mark.parametrize(
    ("name", "index", "value"),
    [
        ("word", 8, 5), ("word", 8, -1), ("word", 3, 3), ("word", 8, B + 100),
        ("first_child", 0, 2), ("first_child", 1, 5), ("first_child", 4, 2),
        ("first_child", 4, 1000), ("first_child", -1, 10), ("first_child", -1, 1000),
        ("first_child", 6, 6),
        ("suffix", 0, 1), ("suffix", 6, -1), ("suffix", 6, 6), ("suffix", 6, 9),
        ("log_prob", 4, np.nan), ("backoff", 4, np.nan), ("backoff", 4, -np.inf),
        ("ends", 1, 0), ("ends", -1, 999), ("text", 0, 0xFF), ("text", -1, ord("a")),
        ("log_prob", 4, np.inf), ("log_prob", 4, -np.inf),
    ],
)  # fmt: skip
def test_a_damaged_index_is_found_on_loading(
    small: NgramModel, tmp_path: Path, name: str, index: int, value: float
) -> None:
    array = getattr(small, name).copy()
    array[index] = value
    replace(small, **{name: array}).save(tmp_path / "lm.bin")
    with pytest.raises(UserError, match=r"lm\.bin is damaged"):
        NgramModel.load(tmp_path / "lm.bin")


@pytest.mark.parametrize("order", [1, 2, 4])
def test_an_order_that_is_not_that_of_the_ngrams_is_found_on_loading(
    small: NgramModel, order: int
) -> None:
    assert replace(small, order=order).fault() == "its order is not that of its n-grams"


def test_a_context_that_follows_itself_is_found_on_loading(small: NgramModel) -> None:
    first_child = small.first_child.copy()
    first_child[3:7] = 6  # so that node 6 is a child of node 6, and yet none falls
    assert replace(small, first_child=first_child).fault() == "an n-gram comes before its context"


def test_unsorted_words_after_a_context_are_found_on_loading(tmp_path: Path) -> None:
    text = SMALL.replace("ngram 2=2", "ngram 2=3").replace("\\2-grams:", "\\2-grams:\n-1 b b")
    model = NgramModel.load(write(tmp_path, text))
    word = model.word.copy()
    word[8:10] = word[8:10][::-1]  # `b a` and `b b`
    assert model.fault() == ""
    assert replace(model, word=word).fault() == "the words after a context are not sorted"
