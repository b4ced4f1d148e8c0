"""What the tests of formats share: transcripts of every kind, and how one is written."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any

import pytest

from asr.decoding.hypothesis import Hypothesis, Transcript, Word

SPOKEN = [
    *("a", "i", "the", "seven", "rubout", "january", "o'clock", "twenty-three", "déjà", "straße"),
    *(
        "Привет",
        "мир",
        "שלום",
        "مرحبا",
        "नमस्ते",
        "你",
        "好",
        "世界",
        "🙂",
        "👩‍👩‍👧",
        "e\u0301te\u0301",
    ),
]
AWKWARD = [
    *("<i>", "</b>", "a<b", "&", "&amp;", "{\\i1}", "{", "}", "\\N", "\\h", "\\n", "c:\\new", "\\"),
    *(
        "-->",
        "--",
        ">",
        '"',
        'say"so"',
        "a/b",
        "/",
        "@",
        ";;",
        ";",
        "*",
        "<NA>",
        "(uh)",
        "-",
        "%hes",
    ),
    *("<ALT>", "1", "WEBVTT", "NOTE", "Donaudampfschifffahrtselektrizitätenhauptbetriebswerk"),
    *("x" * 100, "https://example.org/a/rather/long/path?with=a&query=string#and-more", "\u200f"),
]


def one_of_many(seed: int) -> Transcript:
    """A made-up transcript: pauses, runs without any, words of no length, overlaps, odd words."""
    rng = random.Random(seed)
    pauses, awkward = rng.choice([0.0, 0.05, 0.5]), rng.choice([0.0, 0.0, 0.3])
    words, time_s = [], rng.choice([0.0, 0.0, rng.random() * 20000])
    for _ in range(rng.choice([0, 1, 2, 5, 20, 120])):
        time_s += rng.uniform(0.5, 9) if rng.random() < pauses else rng.choice([0, 0, 0.02, 0.2])
        length_s = rng.choice([0.0, 0.02, *(rng.uniform(0.05, 0.9) for _ in range(8)), 9.0])
        overlap_s = rng.choice([0.0] * 20 + [0.3, 3.0])
        start_s = max(0.0, time_s - overlap_s)
        word = rng.choice(AWKWARD if rng.random() < awkward else SPOKEN)
        words.append(Word(word, start_s, start_s + length_s, rng.random()))
        time_s = start_s + length_s
    end_s = max((word.end_s for word in words), default=0.0)
    duration_s = max(0.0, end_s + rng.choice([0.0, 0.0004, 0.5, 30.0, -0.01, -1.0]))
    text = rng.choice([" ", " ", ""]).join(word.word for word in words)
    channel = rng.choice([None, None, 1, 2])
    source = f"calls/{rng.choice(['a b', 'c.d', 'é', ';;e'])}{seed}.wav"
    return Transcript(source, duration_s, (Hypothesis(text, -1.0, tuple(words)),), channel)


@pytest.fixture(scope="session")
def transcripts() -> list[Transcript]:
    """Three hundred made-up transcripts, the same each time."""
    return [one_of_many(seed) for seed in range(300)]


@pytest.fixture(scope="session")
def transcript() -> Callable[..., Transcript]:
    """A function that makes a transcript of words, each as (word, start, end) in seconds."""

    def make(
        *words: tuple[str, float, float], duration_s: float | None = None, **rest: Any
    ) -> Transcript:
        timed = tuple(Word(word, start_s, end_s, 0.5) for word, start_s, end_s in words)
        text = rest.pop("text", " ".join(word.word for word in timed))
        if duration_s is None:
            duration_s = max((word.end_s for word in timed), default=0.0)
        source = rest.pop("source", "a.wav")
        return Transcript(source, duration_s, (Hypothesis(text, -1.0, timed),), **rest)

    return make


@pytest.fixture(scope="session")
def written() -> Callable[[Any, Transcript], str]:
    """What a writer writes."""

    def write(writer: Any, transcript: Transcript) -> str:
        stream = io.StringIO()
        writer.write(transcript, stream)
        return stream.getvalue()

    return write
