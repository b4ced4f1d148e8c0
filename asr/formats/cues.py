"""Cues: words in groups that can be read on a screen, for subtitles.

Widths and durations are those of the Netflix timed text style guide, which much of the field
follows: two lines of 42 characters, from 5/6 of a second to 7 seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from asr.decoding.hypothesis import Transcript
from asr.errors import UserError
from asr.formats.timeline import TimedWord, timeline

Line = tuple[TimedWord, ...]

RANGES: dict[str, tuple[float, float]] = {
    "line_width": (10, 200),
    "lines": (1, 4),
    "shortest_s": (0, 2),
    "longest_s": (2, 60),
    "pause_s": (0.1, 60),
}


@dataclass(frozen=True)
class CueSettings:
    """How words become cues.

    `line_width` characters (10 to 200) and `lines` (1 to 4) a cue at most; a cue lasts from
    `shortest_s` (0 to 2), where the next one leaves room, to `longest_s` (2 to 60); a pause of
    `pause_s` (0.1 to 60) ends it. `highlight` shows each cue once a word, that word underlined.

    Raises:
        UserError: a value is outside its range.
    """

    line_width: int = 42
    lines: int = 2
    shortest_s: float = 0.8
    longest_s: float = 7.0
    pause_s: float = 0.5
    highlight: bool = False

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UserError(f"Cues: {name} is {value}, but must be from {low:g} to {high:g}.")
        for name in ("line_width", "lines"):
            if getattr(self, name) != int(getattr(self, name)):
                raise UserError(f"Cues: {name} is {getattr(self, name)}, but must be whole.")


DEFAULT = CueSettings()


@dataclass(frozen=True)
class Cue:
    """What is on the screen from one time to another; `lit` is the word that is underlined."""

    start_ms: int
    end_ms: int
    lines: tuple[Line, ...]
    lit: TimedWord | None = None

    def rows(self, escape: Callable[[str], str]) -> list[str]:
        """Its lines as text, the underlined word within `<u>`; `escape` is applied to the rest."""
        return [_row(line, self.lit, escape) for line in self.lines]


def cues(transcript: Transcript, settings: CueSettings = DEFAULT) -> Iterator[Cue]:
    """A transcript's cues in the order of time; none overlaps another or outlasts the recording.

    A word longer than a line is cut into even pieces. Words stand together where the text has no
    white space between them.
    """
    content = timeline(transcript, longest=settings.line_width)
    groups = [
        group for phrase in _phrases(content.words, settings) for group in _groups(phrase, settings)
    ]
    limits_ms = [*(group[0].start_ms for group in groups[1:]), content.end_ms]
    for group, limit_ms in zip(groups, limits_ms, strict=False):
        start_ms = group[0].start_ms
        wanted_ms = max(group[-1].end_ms, start_ms + round(1000 * settings.shortest_s))
        end_ms = min(wanted_ms, start_ms + round(1000 * settings.longest_s), limit_ms)
        cue = Cue(start_ms, end_ms, balanced(group, settings))
        yield from _states(cue, group) if settings.highlight else [cue]


def balanced(words: Line, settings: CueSettings) -> tuple[Line, ...]:
    """Words in as few lines as they need, the longest of which is as short as can be."""
    count = len(filled(words, settings.line_width))
    width = math.ceil(sum(map(_advance, words)) / count) - 1  # the first space is not written
    while len(lines := filled(words, width)) > count:
        width += 1
    return lines


def filled(words: Sequence[TimedWord], width: int) -> tuple[Line, ...]:
    """Words in lines of `width` characters, each as full as can be; a longer word has its own."""
    lines: list[list[TimedWord]] = []
    used = 0
    for word in words:
        if lines and used + _advance(word) <= width:
            lines[-1].append(word)
            used += _advance(word)
        else:
            lines.append([word])
            used = len(word.text)
    return tuple(map(tuple, lines))


def _advance(word: TimedWord) -> int:
    """Characters by which a word makes a line longer."""
    return len(word.text) + word.spaced


def _phrases(words: Sequence[TimedWord], settings: CueSettings) -> Iterator[Line]:
    """Words between pauses."""
    pause_ms = 1000 * settings.pause_s
    first = 0
    for position in range(1, len(words) + 1):
        if (
            position == len(words)
            or words[position].start_ms - words[position - 1].end_ms >= pause_ms
        ):
            yield tuple(words[first:position])
            first = position


def _groups(phrase: Line, settings: CueSettings) -> Iterator[Line]:
    """A phrase in parts that fit into a cue, of similar length, cut at pauses where it has some.

    Of all places where the next part can end the best one has the least sum of its distance from an
    even share of what is left, as a share of what a cue can hold, minus the pause after it, as a
    share of one that ends a cue.
    """
    room = settings.line_width * settings.lines
    ends = list(accumulate(map(_advance, phrase)))  # characters up to the end of each word
    first = 0
    while first < len(phrase):
        before = ends[first - 1] if first else 0
        last = _last_that_fits(phrase, first, settings)
        if last == len(phrase) - 1:
            yield phrase[first:]
            return
        left = ends[-1] - before
        left_ms = phrase[-1].end_ms - phrase[first].start_ms
        parts = max(math.ceil(left / room), math.ceil(left_ms / (1000 * settings.longest_s)), 2)

        def cost(position: int, before: int = before, share: float = left / parts) -> float:
            gap_ms = phrase[position + 1].start_ms - phrase[position].end_ms
            distance = abs(ends[position] - before - share)
            return distance / room - gap_ms / (1000 * settings.pause_s)

        best = min(range(first, last + 1), key=cost)
        yield phrase[first : best + 1]
        first = best + 1


def _last_that_fits(phrase: Line, first: int, settings: CueSettings) -> int:
    """The last word that a cue from the word `first` on can hold, by its lines and its duration."""
    end_ms = phrase[first].start_ms + 1000 * settings.longest_s
    lines, used = 1, len(phrase[first].text)
    for position in range(first + 1, len(phrase)):
        word = phrase[position]
        used += _advance(word)
        if used > settings.line_width:
            lines, used = lines + 1, len(word.text)
        if lines > settings.lines or word.end_ms > end_ms:
            return position - 1
    return len(phrase) - 1


def _states(cue: Cue, words: Line) -> Iterator[Cue]:
    """A cue once for each word, from the word's beginning to the next one's."""
    ends_ms = [*(word.start_ms for word in words[1:]), cue.end_ms]
    for word, end_ms in zip(words, ends_ms, strict=True):
        yield Cue(word.start_ms, end_ms, cue.lines, lit=word)


def _row(line: Line, lit: TimedWord | None, escape: Callable[[str], str]) -> str:
    place = next((position for position, word in enumerate(line) if word is lit), None)
    if place is None:
        return escape(_joined(line))
    before = _joined(line[:place]) + " " * (place > 0 and line[place].spaced)
    after = _joined(line[place + 1 :])
    gap = " " * (place + 1 < len(line) and line[place + 1].spaced)
    return f"{escape(before)}<u>{escape(line[place].text)}</u>{escape(gap + after)}"


def _joined(words: Sequence[TimedWord]) -> str:
    return "".join(
        " " * (word.spaced and position > 0) + word.text for position, word in enumerate(words)
    )
