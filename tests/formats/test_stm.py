"""STM, and CTM and STM together as NIST's sclite reads them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from asr.decoding.hypothesis import Transcript
from asr.formats.columns import column
from asr.formats.ctm import CtmWriter
from asr.formats.stm import StmWriter
from asr.formats.timeline import timeline

Make = Callable[..., Transcript]
Written = Callable[[object, Transcript], str]

SCLITE = shutil.which("sclite") or "/usr/lib/sctk/bin/sclite"
needs_sclite = pytest.mark.skipif(
    not Path(SCLITE).is_file(), reason="needs NIST's sclite (package sctk)"
)


def rows(text: str) -> list[tuple[list[str], float, float, str, list[str]]]:
    """Name, channel and speaker; beginning; end; label; words of each line."""
    lines = [line.split(" ") for line in text.removesuffix("\n").split("\n")]
    return [
        (line[:3], float(line[3]), float(line[4]), line[5], [word for word in line[6:] if word])
        for line in lines
    ]


def test_a_line_is_name_channel_speaker_start_end_label_and_words(
    transcript: Make, written: Written
) -> None:
    words = [("a", 0.5, 1), ("b", 1.4, 2), ("c", 3, 4)]
    assert written(StmWriter(), transcript(*words, duration_s=5, channel=2)) == (
        "a 2 a-2 0.000 2.500 <NA> a b\na 2 a-2 2.500 5.000 <NA> c\n"
    )


def test_nothing_recognised_is_a_line_without_words(transcript: Make, written: Written) -> None:
    assert written(StmWriter(), transcript(duration_s=5)) == "a 1 a-1 0.000 5.000 <NA>\n"


def test_speech_without_a_pause_is_cut_between_words(transcript: Make, written: Written) -> None:
    words = [("a", n * 0.25, n * 0.25 + 0.25) for n in range(400)]
    lines = rows(written(StmWriter(), transcript(*words)))
    assert [(start_s, end_s, len(said)) for _, start_s, end_s, _, said in lines] == [
        (0, 30, 120),
        (30, 60, 120),
        (60, 90, 120),
        (90, 100, 40),
    ]


def test_lines_cover_the_recording_and_hold_every_word(
    transcripts: list[Transcript], written: Written
) -> None:
    for transcript in transcripts:
        content = timeline(transcript)
        lines = rows(written(StmWriter(), transcript))
        assert [word for *_, said in lines for word in said] == [
            column(word.text) for word in content.words
        ]
        edges = [(start_s, end_s) for _, start_s, end_s, *_ in lines]
        assert (edges[0][0], edges[-1][1]) == (0, content.duration_ms / 1000)
        assert all(one[1] == other[0] for one, other in pairwise(edges))
        middles = iter((word.start_ms + word.end_ms) / 2000 for word in content.words)
        for _, start_s, end_s, _, said in lines:
            assert all(start_s < next(middles) < end_s for _ in said)


def scored(folder: Path, stm: Sequence[str], ctm: Sequence[str]) -> dict[str, list[int]]:
    """What sclite counts for each speaker: lines, words, right, substituted, deleted, inserted."""
    for name, parts in (("ref.stm", stm), ("hyp.ctm", ctm)):
        (folder / name).write_text("".join(parts), encoding="utf-8", newline="\n")
    command = [SCLITE, "-r", "ref.stm", "stm", "-h", "hyp.ctm", "ctm", "-e", "utf-8"]
    run = subprocess.run(
        [*command, "-o", "rsum", "stdout"], cwd=folder, capture_output=True, check=True
    )
    table = re.findall(r"^ *\| (\S+) *\|((?: +\d+)+) \|((?: +\d+)+) \|", run.stdout.decode(), re.M)
    return {
        speaker: [int(count) for count in f"{sizes} {counts}".split()[:6]]
        for speaker, sizes, counts in table
    }
