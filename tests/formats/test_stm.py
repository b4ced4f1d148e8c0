"""STM, and CTM and STM together as NIST's sclite reads them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path, PurePath

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


HEADER = ';; LABEL "O" "Overall" "Everything that is spoken"\n'


def rows(text: str) -> list[tuple[list[str], float, float, str, list[str]]]:
    """Name, channel and speaker; beginning; end; label; words of each line."""
    assert text.startswith(HEADER)
    lines = [line.split(" ") for line in text[len(HEADER) : -1].split("\n")]
    return [
        (line[:3], float(line[3]), float(line[4]), line[5], [word for word in line[6:] if word])
        for line in lines
    ]


def test_a_line_is_name_channel_speaker_start_end_label_and_words(
    transcript: Make, written: Written
) -> None:
    words = [("a", 0.5, 1), ("b", 1.4, 2), ("c", 2.5, 3)]
    assert written(StmWriter(), transcript(*words, duration_s=5, channel=2)) == (
        f"{HEADER}a 2 a-2 0.000 2.250 <O> a b\na 2 a-2 2.250 5.000 <O> c\n"
    )


def test_nothing_recognised_is_a_line_without_words(transcript: Make, written: Written) -> None:
    lines = written(StmWriter(), transcript(duration_s=5))
    assert lines == f"{HEADER}a 1 a-1 0.000 5.000 <O>\n"


def test_speech_without_a_pause_is_cut_between_words(transcript: Make, written: Written) -> None:
    words = [("a", n * 0.25, n * 0.25 + 0.25) for n in range(400)]
    lines = rows(written(StmWriter(), transcript(*words)))
    assert [(start_s, end_s, len(said)) for _, start_s, end_s, _, said in lines] == [
        (0, 30, 120),
        (30, 60, 120),
        (60, 90, 120),
        (90, 100, 40),
    ]


def test_words_too_short_to_cut_between_stay_on_a_line(transcript: Make, written: Written) -> None:
    words = [("a", n * 0.03, n * 0.03 + 0.03) for n in range(2000)]
    assert len(rows(written(StmWriter(), transcript(*words)))) == 1


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
        assert (edges[0][0], edges[-1][1]) == (0, content.end_ms / 1000)
        assert all(one[1] == other[0] for one, other in pairwise(edges))
        middles = iter((word.start_ms + word.end_ms) / 2000 for word in content.words)
        for _, start_s, end_s, _, said in lines:
            assert all(start_s < next(middles) < end_s for _ in said)


Counts = dict[str, tuple[int, int, int, int, int]]


def scored(folder: Path, references: Sequence[str], recognised: Sequence[str]) -> Counts:
    """What sclite counts for each speaker: words, and right, substituted, deleted, inserted."""
    (folder / "ref.stm").write_text("".join(references), encoding="utf-8", newline="\n")
    (folder / "hyp.ctm").write_text("".join(recognised), encoding="utf-8", newline="\n")
    command = [SCLITE, "-r", "ref.stm", "stm", "-h", "hyp.ctm", "ctm", "-e", "utf-8", "-s"]
    run = subprocess.run(
        [*command, "-o", "rsum", "lur", "stdout"], cwd=folder, capture_output=True, check=True
    )
    assert b"LABEL" not in run.stderr
    assert b"Warning" not in run.stderr
    table = re.findall(r"^ *\| *(\S+) *\| +\d+ +(\d+) \|((?: +\d+){4})", run.stdout.decode(), re.M)
    return {
        speaker: (int(words), *map(int, counts.split()))  # type: ignore[misc]
        for speaker, words, counts in table
    }


@needs_sclite
def test_what_was_recognised_scored_against_itself_has_no_errors(
    transcripts: list[Transcript], written: Written, tmp_path: Path
) -> None:
    counts = scored(
        tmp_path,
        [written(StmWriter(), transcript) for transcript in transcripts],
        [written(CtmWriter(), transcript) for transcript in transcripts],
    )
    total = sum(len(timeline(transcript).words) for transcript in transcripts)
    assert counts["Sum"] == (total, total, 0, 0, 0)
    names = {PurePath(transcript.source).stem for transcript in transcripts}
    assert len(counts.keys() - {"Sum"}) == len(names)  # those without words as well


@needs_sclite
def test_errors_are_found_in_the_recording_that_has_them(
    transcript: Make, written: Written, tmp_path: Path
) -> None:
    spoken = [("one", 0, 1), ("two", 2, 3), ("three", 4, 5)]
    heard = {
        "right": spoken,
        "wrong": [("one", 0, 1), ("too", 2, 3), ("three", 4, 5)],
        "less": spoken[:2],
        "nothing": [],
    }
    counts = scored(
        tmp_path,
        [
            *(written(StmWriter(), transcript(*spoken, source=name)) for name in sorted(heard)),
            written(StmWriter(), transcript(source="silence", duration_s=5.0)),
        ],
        [
            *(
                written(CtmWriter(), transcript(*heard[name], source=name, duration_s=5))
                for name in sorted(heard)
            ),
            written(CtmWriter(), transcript(("ah", 1, 2), source="silence")),
        ],
    )
    assert counts == {
        "less-1": (3, 2, 0, 1, 0),
        "nothing-1": (3, 0, 0, 3, 0),
        "right-1": (3, 3, 0, 0, 0),
        "wrong-1": (3, 2, 1, 0, 0),
        "silence-1": (0, 0, 0, 0, 1),
        "Sum": (12, 7, 1, 4, 1),
    }


@needs_sclite
def test_channels_are_scored_each_by_itself(
    transcript: Make, written: Written, tmp_path: Path
) -> None:
    channels = [
        transcript(("one", 0, 1), ("two", 2, 3), channel=1),
        transcript(channel=2, duration_s=3.0),
        transcript(("three", 0.5, 1), channel=3),
    ]
    counts = scored(
        tmp_path,
        [written(StmWriter(), one) for one in channels],
        [written(CtmWriter(), one) for one in channels],
    )
    assert counts == {
        "a-1": (2, 2, 0, 0, 0),
        "a-2": (0, 0, 0, 0, 0),
        "a-3": (1, 1, 0, 0, 0),
        "Sum": (3, 3, 0, 0, 0),
    }


@needs_sclite
@pytest.mark.parametrize("name", [";;a", "**a", "*", ";", "a b", "", "é", "x" * 250, "{a", "<a>"])
def test_any_name_can_be_scored(
    name: str, transcript: Make, written: Written, tmp_path: Path
) -> None:
    one = transcript(("one", 0, 1), ("two", 2, 3), source=f"calls/{name}.wav")
    counts = scored(tmp_path, [written(StmWriter(), one)], [written(CtmWriter(), one)])
    assert counts["Sum"] == (2, 2, 0, 0, 0)


@needs_sclite
@pytest.mark.parametrize(
    "word", ["{", "a{b", "{\\i1}", "@", "<ALT>", "<alt_begin>", "a b", "<b>", ";;"]
)
def test_any_word_counts_as_one(
    word: str, transcript: Make, written: Written, tmp_path: Path
) -> None:
    one = transcript((word, 0, 1), ("two", 2, 3), (word, 5, 6))
    counts = scored(tmp_path, [written(StmWriter(), one)], [written(CtmWriter(), one)])
    assert counts["Sum"] == (3, 3, 0, 0, 0)


@needs_sclite
def test_times_late_in_a_long_recording_are_told_apart(
    transcript: Make, written: Written, tmp_path: Path
) -> None:
    words = [
        (("one", "two", "three")[n % 3], 86_000 + n * 0.2, 86_000.2 + n * 0.2) for n in range(200)
    ]
    one = transcript(*words)
    stm = written(StmWriter(), one)
    assert len(rows(stm)) == 2
    counts = scored(tmp_path, [stm], [written(CtmWriter(), one)])
    assert counts["Sum"] == (200, 200, 0, 0, 0)
