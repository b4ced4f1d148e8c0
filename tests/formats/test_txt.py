from __future__ import annotations

import io

from asr.decoding.hypothesis import Hypothesis, Transcript
from asr.formats.txt import TxtWriter


def test_the_text_stands_on_a_line_of_its_own() -> None:
    stream = io.StringIO()
    TxtWriter().write(Transcript("a.wav", 1.0, (Hypothesis("rubout g m", -1.0),)), stream)
    assert stream.getvalue() == "rubout g m\n"


def test_nothing_recognised_is_an_empty_line() -> None:
    stream = io.StringIO()
    TxtWriter().write(Transcript("a.wav", 1.0, (Hypothesis("", 0.0),)), stream)
    assert stream.getvalue() == "\n"
