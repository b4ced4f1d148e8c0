"""Words as units against hand-written cases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.units.symbols import UnknownSymbolError
from asr.units.words import WordUnits


def test_every_word_of_the_texts_is_a_unit_and_nothing_else() -> None:
    units = WordUnits.from_texts(["yes no", "", "no go"])
    assert units.symbols == ("<blank>", "go", "no", "yes")
    assert units.encode("no yes no") == [2, 3, 2]
    assert units.decode([1, 1, 3]) == "go go yes"


@given(
    st.lists(st.text().map(lambda text: " ".join(text.split())), min_size=1).filter(
        lambda texts: "<blank>" not in " ".join(texts).split()
    )
)
def test_decoding_undoes_encoding(texts: list[str]) -> None:
    units = WordUnits.from_texts(texts)
    for text in texts:
        assert units.decode(units.encode(text)) == text
        assert 0 not in units.encode(text)


@pytest.mark.parametrize("word", ["gone", "<blank>"])
def test_an_unknown_word_is_named(word: str) -> None:
    units = WordUnits.from_texts(["go no", "<blank>"])
    with pytest.raises(UnknownSymbolError, match=f"'{word}' in 'go {word}'") as caught:
        units.encode(f"go {word}")
    assert caught.value.symbol == word
