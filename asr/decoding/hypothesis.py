"""What decoding gives: words in time, hypotheses, transcripts. All frozen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A word, where it is in seconds from the start of the recording, and how sure (0 to 1)."""

    word: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True)
class Hypothesis:
    """One reading of an utterance.

    `score` is a natural log: greedily, of the probability of the likeliest path; of a search, of
    the text's probability and what language model, words and hotwords add, which may be above 0.
    """

    text: str
    score: float
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class Transcript:
    """What was recognised in one recording: the best hypothesis first in `nbest`.

    `source` is the path or name the audio came under. `channel` counts from 1; it is None where the
    recording has one, or where its channels were averaged. A stretch of a recording begins at
    `start_s` in it; its words have the recording's times.
    """

    source: str
    duration_s: float
    nbest: tuple[Hypothesis, ...]
    channel: int | None = None
    start_s: float = 0.0

    @property
    def text(self) -> str:
        """The best hypothesis as text."""
        return self.nbest[0].text

    @property
    def score(self) -> float:
        """The best hypothesis's score."""
        return self.nbest[0].score

    @property
    def words(self) -> tuple[Word, ...]:
        """The best hypothesis's words with times and confidence."""
        return self.nbest[0].words
