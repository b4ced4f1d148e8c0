from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from asr.bundle import Bundle, add_score
from asr.commands.describe import describe
from asr.errors import UserError
from asr.units.pieces import SentencePieceUnits
from asr.units.symbols import Units
from asr.units.words import WordUnits


@pytest.fixture
def model(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    tiny_bundle.save(tmp_path / "model")
    score = {"recipe": "[an4]", "split": "test", "decoder": "greedy", "wer": 0.078}
    add_score(tmp_path / "model", score)
    return tmp_path / "model"


def test_a_person_reads_what_it_is_was_trained_on_and_scored(
    model: Path, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert describe(str(model), as_json=False) == 0
    shown = capsys.readouterr().out
    for part in ("lstm", "hidden 16", "40 ms", tiny_bundle.digest, "tiny", "[an4]", "7.8"):
        assert part in shown


def test_a_program_reads_json(
    model: Path, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert describe(str(model), as_json=True) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["digest"] == tiny_bundle.digest
    assert record["model"]["name"] == "lstm"
    assert record["units"][0] == "<blank>"
    assert record["unit_kind"] == "characters"
    assert record["trained"]["recipe"] == "tiny"
    assert record["scores"][0]["wer"] == 0.078


@pytest.mark.parametrize(
    ("units", "shown"),
    [
        (WordUnits(("<blank>", "[no]", "yes")), "3: blank, words ([no], yes)"),
        (SentencePieceUnits.from_texts(["ab ab"], 4), "4: blank, pieces of words (▁, b, a)"),
    ],
)
def test_units_are_told_in_a_few_words(
    units: Units,
    shown: str,
    make_bundle: Callable[..., Bundle],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = replace(make_bundle(units.symbols[1:]), units=units)
    bundle.save(tmp_path / "model")
    describe(str(tmp_path / "model"), as_json=False)
    assert shown in capsys.readouterr().out


def test_a_model_that_has_no_scores_is_described_as_well(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_bundle.save(tmp_path / "model")
    assert describe(str(tmp_path / "model"), as_json=False) == 0
    assert "Scores" not in capsys.readouterr().out


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no model"):
        describe(str(tmp_path), as_json=False)
