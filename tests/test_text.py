"""Normalisers against hand-written cases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import UserError
from asr.text import normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUBOUT G M E F", "rubout g m e f"),
        ("Don’t stop — it's 'quoted'!", "don't stop it's quoted"),
        ("  tabs\tand\nlines ", "tabs and lines"),
        ("twenty-one", "twenty one"),
        ("snake_case", "snake case"),
        ("ﬁne", "fine"),
        ("...", ""),
        ("Straße", "straße"),
    ],
)
def test_english_keeps_words_and_apostrophes_within_them(text: str, expected: str) -> None:
    assert normalise("english", text) == expected


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise("english", text)
    assert normalise("english", once) == once


def test_a_mistyped_normaliser_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean 'english'"):
        normalise("englsh", "x")
