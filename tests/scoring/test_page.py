"""The page: whole, offline, and safe whatever the texts are."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from asr.scoring.page import page
from asr.scoring.rates import Scored
from asr.scoring.report import build

VOID = {"meta", "input", "br"}


class Reader(HTMLParser):
    """Checks that tags nest; keeps the text of table cells and what would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.fetched: list[str | None] = []
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value for key, value in attributes if key in {"src", "href", "action"}]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open:
            self.rows[-1][-1] += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


UTTERANCES = [
    Scored("right", "anna", "one two", "one two"),
    Scored("wrong", "bert", "go to marseille now", "go two marseille right now"),
    Scored("lost", "bert", "six", None),
]


def test_every_utterance_is_in_the_page_with_its_errors_the_worst_first() -> None:
    rows = [row for row in read(page(build("t", UTTERANCES))).rows if len(row) == 6]
    assert [(row[0], row[1], row[2], row[3]) for row in rows] == [
        ("wrong", "bert", "2", "4"),
        ("lost", "bert", "1", "1"),
        ("right", "anna", "0", "2"),
    ]
    assert rows[0][5].split() == ["go", "totwo", "marseille", "***right", "now"]
    assert rows[1][5] == "missing: six"


def test_the_page_fetches_nothing() -> None:
    html = page(build("t", UTTERANCES))
    assert read(html).fetched == []
    assert not re.search(r"https?://|@import|url\(|<link|fetch\(", html)


def test_texts_ids_and_facts_cannot_become_markup() -> None:
    evil = "</td><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
    plain = read(page(build("t", [Scored("1", "s", "a b", "c")], [("command", "x")], ["w"])))
    attacked = read(
        page(build(evil, [Scored(evil, evil, f"{evil} b", evil)], [(evil, evil)], [evil]))
    )
    assert attacked.tags.count("script") == plain.tags.count("script") == 1
    assert "img" not in attacked.tags
    assert attacked.fetched == []


def test_a_page_of_nothing_can_be_made() -> None:
    assert "0.0 %" in page(build("nothing", []))


def test_a_rate_over_no_words_is_called_undefined() -> None:
    rows = read(page(build("t", [Scored("silence", "s", "", "a")]))).rows
    assert "undefined" in next(row for row in rows if row and row[0] == "silence")


def test_a_page_of_phones_tells_phones_and_no_word_error_rate() -> None:
    html = page(build("t", [Scored("1", "s", "R AH B", "R AH P")], rate_name="per"))
    read(html)
    for expected in ("33.3 %</b><span>phone error rate", "3</b><span>phones in", ">PER<"):
        assert expected in html
    for absent in ("word error rate", "character error rate", ">WER<"):
        assert absent not in html
    assert "WER" in page(build("t", UTTERANCES))
    assert "character error rate" in page(build("t", UTTERANCES))


def test_the_page_draws_how_often_words_of_a_confidence_are_right() -> None:
    heard = Scored("1", "s", "a b c d", "a b x d", (0.95, 0.97, 0.32, 0.99))
    reader = read(page(build("t", [heard])))
    assert reader.tags.count("rect") == reader.tags.count("circle") == 2
    html = page(build("t", [heard]))
    assert "3 words of 97.0 % confidence: 100.0 % right" in html
    assert "1 words of 32.0 % confidence: 0.0 % right" in html
    bar = next(line for line in html.splitlines() if "97.0 %" in line)
    y, height = (float(re.findall(rf' {name}="([\d.]+)"', bar)[0]) for name in ("y", "height"))
    assert (y, height) == (pytest.approx(14), pytest.approx(230))  # up to the line of 100 %
    assert re.findall(r'class="middle count" x="[\d.]+" y="276">(\d+)<', html) == [*"0001000003"]
    ece = (3 * 0.03 + 0.32) / 4
    assert f"{100 * ece:.1f} % calibration error (ECE), 0." in html


def test_a_page_without_confidences_draws_none() -> None:
    for utterance in (UTTERANCES[0], Scored("1", "s", "a", "", ()), UTTERANCES[2]):
        html = page(build("t", [utterance]))
        assert "svg" not in read(html).tags
        assert "calibration error" not in html
        assert "<dt>confidence</dt>" not in html
