"""Word, phone, character and sentence error rates: errors are summed, rates never averaged."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import jiwer

from asr.scoring.alignment import Op, align


@dataclass(frozen=True)
class Measure:
    """An error rate: its name in files, and what it counts."""

    name: str
    noun: str

    @property
    def title(self) -> str:
        """'WER'."""
        return self.name.upper()

    @property
    def nouns(self) -> str:
        """'words'."""
        return f"{self.noun}s"


WER, PER = Measure("wer", "word"), Measure("per", "phone")
MEASURES = {measure.name: measure for measure in (WER, PER)}


@dataclass(frozen=True)
class Scored:
    """What was said and what was heard, both already normalised, or both as phones with spaces.

    `hypothesis` None means that there is none, because the utterance could not be decoded: it is
    missing. '' means that nothing was heard. `speaker` is '' where unknown. `confidences` are those
    of the hypothesis's words, None where unknown.
    """

    id: str
    speaker: str
    reference: str
    hypothesis: str | None
    confidences: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Counts:
    """How many words (or characters) were right, and how the others were wrong."""

    correct: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.correct + other.correct,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_length(self) -> int:
        """How many there are in the reference."""
        return self.correct + self.substitutions + self.deletions

    @property
    def rate(self) -> float:
        """Errors per word (or character) of the reference; above 1 where much was inserted."""
        return ratio(self.errors, self.reference_length)


@dataclass(frozen=True)
class Scores:
    """The counts of one or many utterances, which add up, and the rates that follow from them.

    Where the texts are phones, `word_counts` and all that follows from them is of phones.
    """

    word_counts: Counts = field(default_factory=Counts)
    character_counts: Counts = field(default_factory=Counts)
    utterances: int = 0
    wrong: int = 0
    missing: int = 0

    def __add__(self, other: Scores) -> Scores:
        return Scores(
            self.word_counts + other.word_counts,
            self.character_counts + other.character_counts,
            self.utterances + other.utterances,
            self.wrong + other.wrong,
            self.missing + other.missing,
        )

    @property
    def rate(self) -> float:
        """Errors per word, or per phone, of the reference: what a model is chosen by."""
        return self.word_counts.rate

    @property
    def wer(self) -> float:
        """Word error rate: errors per word of the reference."""
        return self.rate

    @property
    def cer(self) -> float:
        """Character error rate; the single space between two words is a character."""
        return self.character_counts.rate

    @property
    def ser(self) -> float:
        """Sentence error rate: the share of utterances with an error or without a hypothesis."""
        return ratio(self.wrong, self.utterances)

    @property
    def words(self) -> int:
        """Words in the references."""
        return self.word_counts.reference_length

    @property
    def substitutions(self) -> int:
        """Words heard as another."""
        return self.word_counts.substitutions

    @property
    def deletions(self) -> int:
        """Words not heard."""
        return self.word_counts.deletions

    @property
    def insertions(self) -> int:
        """Words heard that were not said."""
        return self.word_counts.insertions

    @property
    def errors(self) -> int:
        """Wrong words, of all three kinds."""
        return self.word_counts.errors


def ratio(errors: float, length: float) -> float:
    """`errors` / `length`; over no length 0 without errors and infinity with any."""
    if length == 0:
        return math.inf if errors else 0.0
    return errors / length


def score_one(utterance: Scored) -> Scores:
    """The counts of one utterance. A missing one loses all its words and is always wrong."""
    missing = utterance.hypothesis is None
    reference = " ".join(utterance.reference.split())
    hypothesis = " ".join((utterance.hypothesis or "").split())
    ops = Counter(pair.op for pair in align(reference, hypothesis))
    characters = jiwer.process_characters(reference, hypothesis)
    words = Counts(ops[Op.CORRECT], ops[Op.SUBSTITUTION], ops[Op.DELETION], ops[Op.INSERTION])
    return Scores(
        words,
        Counts(
            characters.hits, characters.substitutions, characters.deletions, characters.insertions
        ),
        utterances=1,
        wrong=int(missing or words.errors > 0),
        missing=int(missing),
    )


def score(utterances: Iterable[Scored]) -> Scores:
    """The counts of all utterances, summed; each counts once, missing ones too."""
    return sum(map(score_one, utterances), Scores())
