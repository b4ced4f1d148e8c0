"""What an evaluation found: on the screen, and as the rows that the page shows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from asr.scoring.alignment import ABSENT, Op, Pair, align, draw
from asr.scoring.confidence import Reliability, reliability, right_words
from asr.scoring.intervals import Interval, bootstrap
from asr.scoring.rates import MEASURES, PER, Measure, Scored, Scores, score_one


@dataclass(frozen=True)
class Confusion:
    """A word, or a phone, heard as another, `count` times; None stands for none at all."""

    reference: str | None
    hypothesis: str | None
    count: int


@dataclass(frozen=True)
class Line:
    """One utterance with its counts and its alignment."""

    utterance: Scored
    scores: Scores
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class SpeakerLine:
    """One speaker with the sum of their counts."""

    speaker: str
    scores: Scores


@dataclass(frozen=True)
class Report:
    """Everything that is shown. `title` says what was scored on what, `facts` what else to know.

    `measure` is what was counted: words, or phones where the model emits those. `reliability` is of
    all words whose confidence is known, None where there is no such hypothesis.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    measure: Measure
    scores: Scores
    interval: Interval
    lines: tuple[Line, ...]
    reliability: Reliability | None

    @property
    def worst(self) -> list[Line]:
        """The utterances heard wrong, those with most errors first; none that is missing."""
        wrong = [line for line in self.lines if line.scores.errors and not line.scores.missing]
        return sorted(wrong, key=lambda line: (-line.scores.errors, -line.scores.rate))

    @property
    def confusions(self) -> list[Confusion]:
        """Every kind of error, the most frequent first. What is missing confuses nothing."""
        counter = Counter(
            (pair.reference, pair.hypothesis)
            for line in self.lines
            for pair in line.pairs
            if pair.op is not Op.CORRECT and not line.scores.missing
        )
        return [Confusion(*words, count) for words, count in counter.most_common()]

    @property
    def speakers(self) -> list[SpeakerLine]:
        """The speakers with their sums, the worst first; empty where none is known."""
        sums: dict[str, Scores] = {}
        for line in self.lines:
            speaker = line.utterance.speaker
            sums[speaker] = sums.get(speaker, Scores()) + line.scores
        if set(sums) <= {""}:
            return []
        rows = [SpeakerLine(speaker or "(unknown)", scores) for speaker, scores in sums.items()]
        return sorted(rows, key=lambda row: -row.scores.rate)


def build(
    title: str,
    utterances: Iterable[Scored],
    facts: Sequence[tuple[str, str]] = (),
    warnings: Sequence[str] = (),
    rate_name: str = "wer",
) -> Report:
    """Score the utterances (normalised on both sides) and put together what there is to show.

    `rate_name` is the units': "per" where the texts are phones.
    """
    lines = tuple(
        Line(
            utterance, score_one(utterance), align(utterance.reference, utterance.hypothesis or "")
        )
        for utterance in utterances
    )
    interval = bootstrap(
        [line.scores.errors for line in lines],
        [line.scores.words for line in lines],
        [line.utterance.speaker for line in lines],
    )
    scores = sum((line.scores for line in lines), Scores())
    measure = MEASURES[rate_name]
    return Report(
        title,
        tuple(facts),
        tuple(warnings),
        measure,
        scores,
        interval,
        lines,
        _reliability(lines),
    )


def _reliability(lines: Sequence[Line]) -> Reliability | None:
    known = [line for line in lines if line.utterance.confidences is not None]
    if not known:
        return None
    return reliability(
        [one for line in known for one in line.utterance.confidences or ()],
        [one for line in known for one in right_words(line.pairs)],
    )


def percent(rate: float) -> str:
    """A rate for people: '7.8 %', and 'undefined' for errors over no words at all."""
    return "undefined" if math.isinf(rate) else f"{100 * rate:.1f} %"


def interval_text(interval: Interval) -> str:
    """'6.1 – 9.6 % (95 %, 10 speakers drawn)'."""
    low, high = (percent(bound).removesuffix(" %") for bound in (interval.low, interval.high))
    return f"{low} – {high} % (95 %, {interval.count} {interval.drawn} drawn)"


def confidence_text(reliability: Reliability) -> str:
    """'2.4 % calibration error (ECE), 0.41 normalised cross entropy (NCE)'."""
    parts = []
    if reliability.ece is not None:
        parts.append(f"{percent(reliability.ece)} calibration error (ECE)")
    if reliability.nce is not None:
        parts.append(f"{reliability.nce:.2f} normalised cross entropy (NCE)")
    return ", ".join(parts)


def summary_rows(report: Report) -> list[tuple[str, str]]:
    """The figures in words: names on the left, values on the right."""
    scores, measure = report.scores, report.measure
    rate = f"{percent(scores.rate)}, {interval_text(report.interval)}"
    other = ("characters wrong (CER)", percent(scores.cer))
    if measure is PER:
        other = ("words wrong (WER)", "not counted: no decoder here makes words of phones")
    rows = [
        (f"{measure.nouns} wrong ({measure.title})", rate),
        other,
        ("utterances wrong (SER)", f"{percent(scores.ser)}: {scores.wrong} of {scores.utterances}"),
        (
            "errors",
            f"{scores.substitutions} substituted, {scores.deletions} deleted, "
            f"{scores.insertions} inserted ({scores.words} {measure.nouns} said)",
        ),
    ]
    if report.reliability is not None and report.reliability.words:
        rows.append(("confidence", confidence_text(report.reliability)))
    if scores.missing:
        lost = f"{scores.missing} of them; all their {measure.nouns} count as deleted"
        rows.append(("missing", lost))
    return rows + list(report.facts)


def show(report: Report, console: Console, worst: int = 5, confusions: int = 10) -> None:
    """Print the figures, the most frequent confusions and the worst utterances word by word."""
    rows = summary_rows(report)
    wide = max(len(name) for name, _ in rows) + 2
    lines = [Text(report.title, style="bold")]
    lines += [Text.assemble((name.ljust(wide), "dim"), value) for name, value in rows]
    lines += [Text(warning, style="yellow") for warning in report.warnings]
    for line in lines:  # not broken, so that a command can be copied
        console.print(line, soft_wrap=True)
    frequent = [row for row in report.confusions if row.count > 1][:confusions]
    if frequent:
        table = Table(box=box.SIMPLE_HEAD, title="\nMost frequent errors", title_justify="left")
        table.add_column("times", justify="right")
        table.add_column("said")
        table.add_column("heard")
        for row in frequent:
            said, heard = row.reference or ABSENT, row.hypothesis or ABSENT
            table.add_row(str(row.count), Text(said), Text(heard))
        console.print(table)
    if report.worst:
        console.print(Text("\nWorst utterances", style="italic"))
    for wrong in report.worst[:worst]:
        heading = f"\n{wrong.utterance.id}  {percent(wrong.scores.rate)}"
        console.print(Text(heading, style="bold"), soft_wrap=True)
        for line in draw(wrong.pairs, console.width - 2, report.measure.nouns).split("\n"):
            console.print(Text("  ") + line if line else "", soft_wrap=True)
