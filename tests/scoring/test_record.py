"""What an evaluation leaves on disk."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from asr.scoring.rates import Scored
from asr.scoring.record import Hardware, Metrics, Result, Stamp, read_earlier, why_again, write
from asr.scoring.report import build

STAMP = Stamp("b", "c", "l", {"name": "greedy"}, "english")


def metrics(wer: float = 0.25, failed: int = 0) -> Metrics:
    return Metrics(
        rate_name="wer",
        rate=wer,
        cer=0.1,
        ser=0.5,
        count=4,
        substitutions=1,
        deletions=0,
        insertions=0,
        rate_ci95=(0.0, wer),
        rate_ci95_drawn="2 utterances",
        missing=0,
        failed=failed,
        utterances=2,
        audio_seconds=3.5,
        rtfx=9.0,
        normaliser="english",
        trained_on_this_split=False,
        command="asr evaluate",
        recipe="r",
        split="test",
        model="m",
        hardware=Hardware("x86_64", 2, 2),
        date="2025-01-01T00:00:00+00:00",
        stamp=STAMP,
    )


def test_what_was_written_is_found_again_and_still_stands(tmp_path: Path) -> None:
    results = [Result(Scored("1", "", "a", "b")), Result(Scored("2", "", "a b c", "a b c"))]
    write(tmp_path / "eval", metrics(), results, build("t", [one.scored for one in results]))
    earlier = read_earlier(tmp_path / "eval")
    assert earlier is not None
    assert (earlier.rate_name, earlier.rate) == ("wer", 0.25)
    assert why_again(earlier, STAMP) == ""
    lines = (tmp_path / "eval" / "hypotheses.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"id": "1", "speaker": "", "reference": "a", "hypothesis": "b", "errors": 1},
        {"id": "2", "speaker": "", "reference": "a b c", "hypothesis": "a b c", "errors": 0},
    ]


def test_a_rate_that_is_not_defined_is_null_in_json_and_infinite_again_when_read(
    tmp_path: Path,
) -> None:
    write(tmp_path / "eval", metrics(wer=math.inf), [], build("t", []))
    content = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert content["wer"] is None
    assert content["wer_ci95"] == [0.0, None]
    earlier = read_earlier(tmp_path / "eval")
    assert earlier is not None
    assert math.isinf(earlier.rate)


def test_every_figure_has_its_own_name_in_the_order_that_it_always_had() -> None:
    assert list(metrics().to_dict()) == [
        *("wer", "cer", "ser", "words", "substitutions", "deletions", "insertions"),
        *("wer_ci95", "wer_ci95_drawn", "missing", "failed", "utterances", "audio_seconds"),
        *("rtfx", "normaliser", "trained_on_this_split", "command", "recipe", "split", "model"),
        *("hardware", "date", "stamp"),
    ]


def test_of_phones_neither_a_word_nor_a_character_error_rate_is_written(tmp_path: Path) -> None:
    of_phones = dataclasses.replace(metrics(), rate_name="per", cer=None)
    content = of_phones.to_dict()
    assert (content["per"], content["phones"], content["per_ci95"]) == (0.25, 4, [0.0, 0.25])
    assert not {"wer", "cer", "words", "wer_ci95", "wer_ci95_drawn"} & set(content)
    write(tmp_path / "eval", of_phones, [], build("t", []))
    earlier = read_earlier(tmp_path / "eval")
    assert earlier is not None
    assert (earlier.rate_name, earlier.rate) == ("per", 0.25)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"wer": 1', '{"wer": {}, "failed": 0}'])
def test_what_is_no_record_is_as_if_there_were_none(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    assert read_earlier(tmp_path) is None


def test_every_part_of_the_stamp_can_be_why_it_is_done_again(tmp_path: Path) -> None:
    write(tmp_path / "eval", metrics(), [], build("t", []))
    earlier = read_earlier(tmp_path / "eval")
    assert earlier is not None
    for part in dataclasses.fields(Stamp):
        assert why_again(earlier, dataclasses.replace(STAMP, **{part.name: "other"}))
    both = why_again(earlier, dataclasses.replace(STAMP, bundle="other", corpus="other"))
    assert both == "the model and the corpus changed"


def test_it_is_done_again_where_something_failed(tmp_path: Path) -> None:
    write(tmp_path / "eval", metrics(failed=3), [], build("t", []))
    earlier = read_earlier(tmp_path / "eval")
    assert earlier is not None
    assert why_again(earlier, STAMP) == "3 could not be decoded the last time"


def test_words_are_written_with_their_confidence_and_figures_with_their_bins(
    tmp_path: Path,
) -> None:
    results = [
        Result(Scored("1", "", "a b", "a c", (0.91234, 0.3))),
        Result(Scored("2", "", "a", "", ())),
        Result(Scored("3", "", "a", None), missing="no-audio"),
        Result(Scored("4", "", "a", "a")),
    ]
    report = build("t", [one.scored for one in results])
    found = dataclasses.replace(metrics(), reliability=report.reliability)
    write(tmp_path, found, results, report)
    lines = [json.loads(line) for line in (tmp_path / "hypotheses.jsonl").read_text().splitlines()]
    assert [line.get("words") for line in lines] == [
        [{"word": "a", "confidence": 0.9123}, {"word": "c", "confidence": 0.3}],
        [],
        None,
        None,
    ]
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert list(content)[-3:] == ["ece", "nce", "confidence_bins"]
    assert content["ece"] == pytest.approx(((1 - 0.91234) + 0.3) / 2)
    assert content["nce"] == pytest.approx(1 + (math.log2(0.91234) + math.log2(0.7)) / 2)
    filled = [one for one in content["confidence_bins"] if one["words"]]
    assert filled == [
        {"low": 0.2, "high": 0.3, "words": 1, "confidence": 0.3, "right": 0.0},
        {"low": 0.9, "high": 1.0, "words": 1, "confidence": 0.91234, "right": 1.0},
    ]


def test_where_no_word_was_heard_the_figures_are_null(tmp_path: Path) -> None:
    report = build("t", [Scored("1", "", "a", "", ())])
    write(
        tmp_path, dataclasses.replace(metrics(), reliability=report.reliability), [], build("", [])
    )
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert (content["ece"], content["nce"]) == (None, None)
