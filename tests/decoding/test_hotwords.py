from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decoding.hotwords import HotwordList
from asr.errors import UserError

pytestmark = pytest.mark.usefixtures("compiled_search")

ALPHABET = frozenset("abc'")


def read(tmp_path: Path, text: str, weight: float = 3.0) -> dict[str, float]:
    (tmp_path / "hot.txt").write_text(text)
    return dict(HotwordList.read(tmp_path / "hot.txt", "english", weight, ALPHABET).weights)


def test_a_line_is_a_phrase_as_texts_write_it_and_may_have_a_weight_of_its_own(
    tmp_path: Path,
) -> None:
    found = read(tmp_path, "# names\nAB\nA  b,\t1.5\n\nC\t-2\n")
    assert found == {"ab": 3.0, "a b": 1.5, "c": -2.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ab\nxa\n", r"hot.txt:2: the model cannot spell 'x' of 'xa'"),
        (
            "ab\nab 8\n",
            r"hot.txt:2: .* spell '8' of 'ab 8': if 8 is the phrase's weight, write a tab",
        ),
        ("ab 8.5\n", r"hot.txt:1: .* if 8.5 is the phrase's weight, write a tab before it\.$"),
        ("x\t8\n", r"hot.txt:1: the model cannot spell 'x' of 'x': take the line out\.$"),
        ("ab\tmuch\n", r"hot.txt:1: the weight 'much' is no number"),
        ("ab\tnan\n", r"hot.txt:1: the weight 'nan' is no number"),
        ("ab\n...\n", r"hot.txt:2: '...' has nothing to hear in it"),
        ("# only\n", r"hot.txt hold no phrase"),
    ],
)
def test_what_cannot_be_heard_or_weighed_is_named_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


def test_a_phrase_of_a_word_that_cannot_be_heard_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "hot.txt").write_text("\ufeffAB\nab ca\n")
    with pytest.raises(
        UserError,
        match=r"hot.txt:2: 'ca' is none of the words that can be heard: take the line out, or add"
        r" the word to the lexicon\.$",
    ):
        HotwordList.read(tmp_path / "hot.txt", "english", 1.0, ALPHABET, frozenset({"ab"}))


@given(
    phrases=st.dictionaries(
        st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=2).map(" ".join),
        st.floats(-5, 5).map(lambda weight: round(weight, 2)),
        min_size=1,
        max_size=6,
    ),
    text=st.lists(st.text("ab", min_size=1, max_size=3), max_size=6).map(" ".join),
)
def test_the_automaton_gives_what_counting_words_gives(
    phrases: dict[str, float], text: str
) -> None:
    listed = HotwordList(phrases)
    automaton, numbers = listed.automaton(), listed.characters
    state, given_, lent = automaton.start, 0.0, automaton.lent[automaton.start]
    for character in f"{text} " if text else "":
        state = automaton.following[state, numbers.get(character, 0)]
        given_ += automaton.given[state]
        lent = automaton.lent[state]
    words = text.split()
    expected = 0.0
    for phrase, weight in phrases.items():
        wanted = phrase.split()
        places = range(len(words) - len(wanted) + 1)
        expected += weight * sum(words[i : i + len(wanted)] == wanted for i in places)
    assert given_ == pytest.approx(expected)
    # After a whole word only the longer phrases that it begins lend anything.
    begun = [
        weight * len(f"{' '.join(wanted[:n])} ") / len(f"{phrase} ")
        for phrase, weight in phrases.items()
        for wanted in [phrase.split()]
        for n in range(1, len(wanted))
        if words[-n:] == wanted[:n]
    ]
    if not begun:
        assert lent == pytest.approx(0.0)


def test_what_is_lent_grows_with_the_phrase_and_is_gone_where_it_breaks_off() -> None:
    listed = HotwordList({"ab": 6.0})
    automaton, numbers = listed.automaton(), listed.characters
    state, lent = automaton.start, []
    for character in "ab":
        state = automaton.following[state, numbers[character]]
        lent.append(automaton.lent[state])
    assert lent == [pytest.approx(2.0), pytest.approx(4.0)]
    assert automaton.lent[automaton.following[state, numbers["a"]]] == 0.0
