"""The report: what it picks out, and that the screen shows it."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from asr.scoring.rates import Scored
from asr.scoring.report import Confusion, Report, build, interval_text, percent, show

UTTERANCES = [
    Scored("good", "anna", "one two", "one two"),
    Scored("bad", "bert", "b d b", "v d v"),
    Scored("worse", "bert", "", "b c d e"),
    Scored("lost", "anna", "six", None),
    Scored("odd", "anna", "b", "v"),
]


def screen(report: Report, width: int = 80) -> str:
    stream = io.StringIO()
    show(report, Console(file=stream, width=width, color_system=None))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def test_the_worst_come_first_and_the_faultless_and_the_missing_not_at_all() -> None:
    report = build("t", UTTERANCES)
    assert [line.utterance.id for line in report.worst] == ["worse", "bad", "odd"]


def test_confusions_are_counted_over_all_utterances_but_the_missing() -> None:
    confusions = build("t", UTTERANCES).confusions
    assert confusions[0] == Confusion("b", "v", 3)
    assert Confusion(None, "c", 1) in confusions
    assert all(confusion.reference != "six" for confusion in confusions)


def test_a_speakers_errors_are_summed() -> None:
    bert, anna = build("t", UTTERANCES).speakers
    assert (bert.speaker, bert.scores.errors, bert.scores.words) == ("bert", 6, 3)
    assert (anna.speaker, anna.scores.errors, anna.scores.words) == ("anna", 2, 4)
    assert build("t", [Scored("x", "", "a", "a")]).speakers == []


def test_the_screen_shows_figures_errors_and_words_under_words() -> None:
    report = build("an4 · test", UTTERANCES, [("speed", "fast")], ["Mind the gap."])
    assert screen(report).startswith("an4 · test\nwords wrong (WER)       114.3 %, ")
    for expected in (
        "utterances wrong (SER)  80.0 %: 4 of 5\n",
        "3 substituted, 1 deleted, 4 inserted (7 words said)\n",
        "missing                 1 of them; all their words count as deleted\n",
        "speed                   fast\n",
        "Mind the gap.\n",
        "      3   b      v\n",
        "  REF: b d b\n  HYP: v d v\n       S   S\n",
        "\nbad  66.7 %\n",
    ):
        assert expected in screen(report)


def test_brackets_in_texts_are_text_and_no_markup() -> None:
    assert "[red]" in screen(build("[b]t", [Scored("[i]", "", "[red] a", "b c")]))


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0.0, "0.0 %"), (0.0784, "7.8 %"), (1.5, "150.0 %"), (math.inf, "undefined")],
)
def test_rates_are_written_in_percent(rate: float, text: str) -> None:
    assert percent(rate) == text


def test_the_interval_says_what_was_drawn() -> None:
    utterances = [Scored(str(n), f"s{n % 4}", "a b", "a b") for n in range(8)]
    assert interval_text(build("t", utterances).interval) == "0.0 – 0.0 % (95 %, 4 speakers drawn)"


PHONES = [
    Scored("rubout", "anna", "R AH B AW T", "R AH P AW"),
    Scored("g", "bert", "JH IY", "JH IY IY"),
]


def test_phones_are_called_phones_and_no_word_error_rate_is_shown() -> None:
    report = build("an4 · test", PHONES, rate_name="per")
    shown = screen(report)
    # By hand: B heard as P, T not heard, an IY too many; 3 of 7.
    assert shown.startswith("an4 · test\nphones wrong (PER)      42.9 %, ")
    assert "words wrong (WER)       not counted: " in shown
    assert "1 substituted, 1 deleted, 1 inserted (7 phones said)\n" in shown
    assert "CER" not in shown
    assert "words said" not in shown
    assert [row.scores.rate for row in report.speakers] == [1 / 2, 2 / 5]


def test_long_stretches_of_right_phones_are_told_as_phones() -> None:
    phones = " ".join(["AH"] * 40)
    assert "... 36 phones correct" in screen(
        build("t", [Scored("1", "", f"{phones} B", f"{phones} P")], rate_name="per"), 60
    )
