from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import pytest

from asr.decoding.hypothesis import Transcript
from asr.errors import UserError
from asr.formats.cues import DEFAULT, RANGES, Cue, CueSettings, balanced, cues
from asr.formats.timeline import TimedWord, timeline

Make = Callable[..., Transcript]

NARROW = CueSettings(line_width=10, lines=3, shortest_s=2.0, longest_s=2.0, pause_s=0.1)
WIDE = CueSettings(line_width=200, lines=1, shortest_s=0.0, longest_s=60.0, pause_s=60.0)


def shown(cue: Cue) -> list[str]:
    return cue.rows(str)


def steady(text: str, word_s: float = 0.3) -> list[tuple[str, float, float]]:
    """Words without pauses, all of the same length in time."""
    return [(word, n * word_s, (n + 1) * word_s) for n, word in enumerate(text.split())]


def test_a_pause_ends_a_cue(transcript: Make) -> None:
    words = [("a", 0, 1), ("b", 1.4, 2), ("c", 2.5, 3)]
    assert [shown(cue) for cue in cues(transcript(*words))] == [["a b"], ["c"]]
    longer = cues(transcript(*words), CueSettings(pause_s=0.51))
    assert [shown(cue) for cue in longer] == [["a b c"]]


def test_a_cue_lasts_as_long_as_its_words(transcript: Make) -> None:
    (cue,) = cues(transcript(("a", 1.5, 2.0), ("b", 2.0, 3.25), duration_s=9))
    assert (cue.start_ms, cue.end_ms) == (1500, 3250)


def test_a_short_cue_stays_until_it_can_be_read_where_there_is_room(transcript: Make) -> None:
    words = [("a", 1, 1.1), ("b", 5, 5.1), ("c", 5.7, 5.8), ("d", 9.9, 10)]
    found = cues(transcript(*words), CueSettings(shortest_s=0.8))
    assert [(cue.start_ms, cue.end_ms) for cue in found] == [
        (1000, 1800),
        (5000, 5700),  # the next one begins
        (5700, 6500),
        (9900, 10000),  # the recording ends
    ]


def test_a_word_that_is_drawn_out_is_shown_for_the_longest_time(transcript: Make) -> None:
    (cue,) = cues(transcript(("a", 1, 20)))
    assert (cue.start_ms, cue.end_ms) == (1000, 8000)


def test_slow_words_make_cues_that_end_in_time(transcript: Make) -> None:
    found = list(cues(transcript(*steady("a b c d e f g h", word_s=2.0))))
    assert [shown(cue) for cue in found] == [["a b c"], ["d e"], ["f g h"]]


def test_a_phrase_too_slow_for_a_cue_is_shared_out_evenly(transcript: Make) -> None:
    found = list(cues(transcript(*steady("a " * 11, word_s=1.4))))  # five fit into 7 s
    assert [len(shown(cue)[0].split()) for cue in found] == [4, 3, 4]  # and not 5, 3 and 3


def test_lines_are_balanced_and_not_filled(transcript: Make) -> None:
    text = "the quick brown fox jumps over the lazy dog again"  # 49 characters
    (cue,) = cues(transcript(*steady(text)))
    assert shown(cue) == ["the quick brown fox jumps", "over the lazy dog again"]


def test_what_fits_stays_on_one_line(transcript: Make) -> None:
    text = "x" * 20 + " " + "y" * 21  # 42 characters
    assert [shown(cue) for cue in cues(transcript(*steady(text)))] == [[text]]
    (cue,) = cues(transcript(*steady(text + "y")))
    assert shown(cue) == ["x" * 20, "y" * 22]


def test_a_phrase_too_long_for_a_cue_is_shared_out_evenly(transcript: Make) -> None:
    found = list(cues(transcript(*steady("word " * 18, word_s=0.2))))
    assert [list(map(len, cue.lines)) for cue in found] == [[5, 4], [5, 4]]  # and not 16 and 2


def test_a_phrase_too_long_for_a_cue_is_cut_at_a_pause(transcript: Make) -> None:
    words = [
        (word, start_s + 0.4 * (number >= 7), end_s + 0.4 * (number >= 7))
        for number, (word, start_s, end_s) in enumerate(steady("word " * 18, word_s=0.2))
    ]
    found = [len(" ".join(shown(cue)).split()) for cue in cues(transcript(*words))]
    assert found == [7, 11]


def test_a_word_longer_than_a_line_is_cut(transcript: Make) -> None:
    (cue,) = cues(transcript(("x" * 50, 0, 2)))
    assert shown(cue) == ["x" * 25, "x" * 25]


def test_words_stand_together_where_the_text_has_them_so(transcript: Make) -> None:
    words = [(character, n * 0.1, n * 0.1 + 0.1) for n, character in enumerate("你好世界" * 12)]
    (cue,) = cues(transcript(*words, text="你好世界" * 12))
    assert shown(cue) == ["你好世界" * 6, "你好世界" * 6]


def test_without_words_there_is_no_cue(transcript: Make) -> None:
    assert list(cues(transcript(duration_s=5.0))) == []


def test_highlighted_each_cue_is_shown_once_a_word(transcript: Make) -> None:
    words = [("one", 1, 1.3), ("two", 1.5, 2), ("three", 2, 2.2)]
    found = list(cues(transcript(*words, duration_s=9), CueSettings(highlight=True)))
    assert [(cue.start_ms, cue.end_ms, shown(cue)) for cue in found] == [
        (1000, 1500, ["<u>one</u> two three"]),
        (1500, 2000, ["one <u>two</u> three"]),
        (2000, 2200, ["one two <u>three</u>"]),
    ]


def test_highlighted_words_that_stand_together_stay_so(transcript: Make) -> None:
    words = [("你", 0, 1), ("好", 1, 2)]
    found = cues(transcript(*words, text="你好"), CueSettings(highlight=True))
    assert [shown(cue) for cue in found] == [["<u>你</u>好"], ["你<u>好</u>"]]


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("side", [0, 1])
def test_a_setting_outside_its_range_is_refused(name: str, side: int) -> None:
    limit = RANGES[name][side]
    assert getattr(replace(DEFAULT, **{name: limit}), name) == limit
    for bad in (limit + (-1 if side == 0 else 1), float("nan")):
        with pytest.raises(UserError, match=f"^Cues: {name} is .*must be from"):
            replace(DEFAULT, **{name: bad})


def test_half_a_character_is_refused() -> None:
    with pytest.raises(UserError, match=r"line_width is 20\.5, but must be whole"):
        CueSettings(line_width=20.5)  # type: ignore[arg-type]


def longest_line(lines: Sequence[Sequence[TimedWord]]) -> int:
    return max(len(shown_line(line)) for line in lines)


def shown_line(line: Sequence[TimedWord]) -> str:
    return "".join(" " * (n > 0 and word.spaced) + word.text for n, word in enumerate(line))


def partings(words: Sequence[TimedWord], count: int) -> list[list[Sequence[TimedWord]]]:
    """Every way to put words into so many lines."""
    if count == 1:
        return [[words]]
    return [
        [words[:cut], *rest]
        for cut in range(1, len(words))
        for rest in partings(words[cut:], count - 1)
    ]


@pytest.mark.parametrize("settings", [DEFAULT, NARROW, WIDE], ids=["default", "narrow", "wide"])
def test_any_cue_can_be_read(settings: CueSettings, transcripts: list[Transcript]) -> None:
    pause_ms, longest_ms = 1000 * settings.pause_s, 1000 * settings.longest_s
    for transcript in transcripts:
        content = timeline(transcript, settings.line_width)
        found = list(cues(transcript, settings))
        words = [word for cue in found for line in cue.lines for word in line]
        assert tuple(words) == content.words
        for cue in found:
            assert 1 <= len(cue.lines) <= settings.lines
            assert longest_line(cue.lines) <= settings.line_width
            assert shown(cue) == [shown_line(line) for line in cue.lines]
            own = [word for line in cue.lines for word in line]
            assert cue.start_ms == own[0].start_ms
            assert 0 < cue.end_ms - cue.start_ms <= longest_ms
            assert cue.end_ms >= min(own[-1].end_ms, cue.start_ms + longest_ms)
            assert all(b.start_ms - a.end_ms < pause_ms for a, b in pairwise(own))
        limits = [*(cue.start_ms for cue in found[1:]), content.end_ms]
        for cue, limit_ms in zip(found, limits, strict=False):
            assert cue.end_ms <= limit_ms
            room_ms = limit_ms - cue.start_ms
            assert cue.end_ms - cue.start_ms >= min(1000 * settings.shortest_s, room_ms)
        if found and len(content.words) <= 1000 * transcript.duration_s:
            assert found[-1].end_ms <= 1000 * transcript.duration_s + 1e-3


def test_no_other_lines_are_shorter(transcripts: list[Transcript]) -> None:
    for settings in (DEFAULT, NARROW):
        for transcript in transcripts[:60]:
            for cue in cues(transcript, settings):
                own = tuple(word for line in cue.lines for word in line)
                assert balanced(own, settings) == cue.lines
                best = min(map(longest_line, partings(own, len(cue.lines))))
                assert longest_line(cue.lines) == best
                fewer = len(cue.lines) - 1
                if fewer:
                    narrowest = min(map(longest_line, partings(own, fewer)))
                    assert narrowest > settings.line_width


def test_highlighting_changes_nothing_but_what_is_underlined(transcripts: list[Transcript]) -> None:
    for transcript in transcripts:
        plain = list(cues(transcript))
        states = list(cues(transcript, CueSettings(highlight=True)))
        lit = [state.lit for state in states]
        assert tuple(lit) == timeline(transcript, DEFAULT.line_width).words
        for cue in plain:
            own = [state for state in states if cue.start_ms <= state.start_ms < cue.end_ms]
            assert [own[0].start_ms, own[-1].end_ms] == [cue.start_ms, cue.end_ms]
            assert all(a.end_ms == b.start_ms for a, b in pairwise(own))
            for state in own:
                assert state.start_ms < state.end_ms
                rows = state.rows(lambda text: text.replace("<", "&lt;"))
                assert "\n".join(rows).count("<u>") == 1
                bare = [re.sub("</?u>", "", row) for row in rows]
                assert bare == cue.rows(lambda text: text.replace("<", "&lt;"))


def test_the_documented_defaults_and_ranges_are_those_of_the_settings() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "formats.md"
    rows = re.findall(
        r"^\| `([a-z_]+)` \| (\S+) \| (\S*) ?\| (\S*) ?\|", page.read_text("utf-8"), re.MULTILINE
    )
    assert [(name, default) for name, default, *_ in rows] == [
        (field.name, str(field.default)) for field in fields(CueSettings)
    ]
    limits = {name: (float(low), float(high)) for name, _, low, high in rows if low}
    assert limits == RANGES
