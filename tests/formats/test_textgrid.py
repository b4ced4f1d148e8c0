from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from asr.decoding.hypothesis import Transcript
from asr.formats.textgrid import TextGridWriter
from asr.formats.timeline import timeline

Make = Callable[..., Transcript]
Written = Callable[[object, Transcript], str]
Interval = tuple[float, float, str]

PRAAT = shutil.which("praat")

# Prints each interval of each tier as a line: tier, beginning, end, label.
SCRIPT = """
form Read
  sentence Listing
endform
files = Read Strings from raw text file: listing$
count = Get number of strings
for f to count
  selectObject: files
  path$ = Get string: f
  grid = Read from file: path$
  tiers = Get number of tiers
  for t to tiers
    tier$ = Get tier name: t
    n = Get number of intervals: t
    for i to n
      start = Get start time of interval: t, i
      end = Get end time of interval: t, i
      label$ = Get label of interval: t, i
      line$ = fixed$ (f, 0) + tab$ + tier$ + tab$ + fixed$ (start, 6) + tab$ + fixed$ (end, 6)
      appendInfoLine: line$, tab$, label$
    endfor
  endfor
  removeObject: grid
endfor
"""


def read(text: str) -> tuple[float, dict[str, list[Interval]]]:
    """The end and the tiers of a TextGrid in long form, by its description in Praat's manual.

    Praat's reader takes from such a text what is a number, a quoted text or a `<flag>` standing
    free, and nothing else.
    """
    items = re.findall(r'"((?:[^"]|"")*)"|(?<!\S)(-?\d[\d.eE+-]*|<exists>)(?!\S)', text)
    values = iter(free if free else quoted.replace('""', '"') for quoted, free in items)
    assert [next(values) for _ in range(2)] == ["ooTextFile", "TextGrid"]
    start_s, end_s = float(next(values)), float(next(values))
    assert start_s == 0
    assert next(values) == "<exists>"
    tiers = {}
    for _ in range(int(next(values))):
        assert next(values) == "IntervalTier"
        name = next(values)
        assert (float(next(values)), float(next(values))) == (start_s, end_s)
        tiers[name] = [
            (float(next(values)), float(next(values)), next(values))
            for _ in range(int(next(values)))
        ]
    assert next(values, None) is None
    return end_s, tiers


def test_words_and_confidence_fill_the_recording(transcript: Make, written: Written) -> None:
    words = [("hello", 0.25, 0.5), ("world", 0.5, 1.0)]
    end_s, tiers = read(written(TextGridWriter(), transcript(*words, duration_s=2.0)))
    assert end_s == 2.0
    assert tiers == {
        "words": [(0, 0.25, ""), (0.25, 0.5, "hello"), (0.5, 1, "world"), (1, 2, "")],
        "confidence": [(0, 0.25, ""), (0.25, 0.5, "0.5000"), (0.5, 1, "0.5000"), (1, 2, "")],
    }


def test_without_words_it_is_one_empty_interval(transcript: Make, written: Written) -> None:
    _, tiers = read(written(TextGridWriter(), transcript(duration_s=2.0)))
    assert tiers == {"words": [(0, 2, "")], "confidence": [(0, 2, "")]}


def test_quotes_are_doubled(transcript: Make, written: Written) -> None:
    text = written(TextGridWriter(), transcript(('say"so"', 0, 1)))
    assert 'text = "say""so"""' in text


def checked(transcript: Transcript, tiers: dict[str, list[Interval]]) -> None:
    """Every word is there, and each tier fills the recording without a gap or an empty interval."""
    content = timeline(transcript)
    assert [label for _, _, label in tiers["words"] if label] == [
        word.text for word in content.words
    ]
    for tier in tiers.values():
        spoken = [(start_s, end_s) for start_s, end_s, label in tier if label]
        assert spoken == [(word.start_ms / 1000, word.end_ms / 1000) for word in content.words]
        assert (tier[0][0], tier[-1][1]) == (0, content.end_ms / 1000)
        assert all(start_s < end_s for start_s, end_s, _ in tier)
        assert all(one[1] == other[0] for one, other in pairwise(tier))
        assert not any(one[2] == other[2] == "" for one, other in pairwise(tier))
    confidence = [float(label) for _, _, label in tiers["confidence"] if label]
    assert confidence == pytest.approx([word.confidence for word in content.words], abs=5e-5)


def test_another_reader_finds_every_interval(
    transcripts: list[Transcript], written: Written
) -> None:
    for transcript in transcripts:
        _, tiers = read(written(TextGridWriter(), transcript))
        checked(transcript, tiers)


@pytest.mark.skipif(PRAAT is None, reason="needs Praat (package praat)")
def test_praat_finds_every_interval(
    transcripts: list[Transcript], written: Written, tmp_path: Path
) -> None:
    chosen = transcripts[::4]
    paths = [tmp_path / f"{number}.TextGrid" for number in range(len(chosen))]
    for path, transcript in zip(paths, chosen, strict=True):
        path.write_text(written(TextGridWriter(), transcript), encoding="utf-8", newline="\n")
    (tmp_path / "script.praat").write_text(SCRIPT)
    (tmp_path / "listing.txt").write_text("".join(f"{path}\n" for path in paths))
    command = [str(PRAAT), "--run", str(tmp_path / "script.praat"), str(tmp_path / "listing.txt")]
    output = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    found: list[dict[str, list[Interval]]] = [{} for _ in chosen]
    for line in output.removesuffix("\n").split("\n"):
        number, tier, start, end, label = line.split("\t")
        intervals = found[int(number) - 1].setdefault(tier, [])
        intervals.append((float(start), float(end), label))
    for transcript, tiers in zip(chosen, found, strict=True):
        checked(transcript, tiers)
