"""`asr evaluate`, `describe` and `transcribe` with a model that emits phones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import soundfile

import asr
from asr.bundle import Bundle
from asr.cluster.executor import LocalExecutor
from asr.cluster.inputs import gather_inputs
from asr.cluster.preprocess import prepare_corpus
from asr.commands.compose import compose
from asr.commands.describe import describe
from asr.commands.evaluate import evaluate
from asr.commands.transcribe import Options, transcribe
from asr.config import Config
from asr.errors import UserError
from asr.units.phones import PhoneUnits
from asr.utterance import Listing, Rejection, Utterance

pytestmark = pytest.mark.usefixtures("compiled_search")

TARGET = Path("runs/an4/base/eval/test-greedy")
MODEL = "runs/an4/base/model"
LEXICON = {"nine": ("N", "AY", "N"), "a": ("EY",), "b": ("B", "IY"), "c": ("S", "IY")}
TEXTS = {"one": "nine a b", "two": "C, c?", "three": "b", "four": ""}
LOST = Rejection("lost", "lost.wav", "test", "no-audio", "there is no lost.wav", "a nine", "s1")


def prepare(texts: dict[str, str], rejected: tuple[Rejection, ...] = ()) -> None:
    utterances = []
    for number, (id, text) in enumerate(texts.items()):
        path = Path(f"{id}.wav").absolute()
        samples = 0.1 * np.random.default_rng(number).standard_normal(4_800 + 3_200 * number)
        soundfile.write(path, samples, 16_000)
        utterances.append(Utterance(id, str(path), text, "test", speaker=f"s{number % 2}"))
    inputs = gather_inputs("an4", Listing(utterances, list(rejected)), "english")
    prepare_corpus(inputs, Path("corpora/an4"), LocalExecutor())


def settings() -> Config:
    return compose(["recipe=an4", "trainer.threads=1"])


def metrics() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((TARGET / "metrics.json").read_text())
    return content


@pytest.fixture(autouse=True)
def _place(
    tmp_path: Path, make_bundle: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A working folder with a prepared corpus and a model of phones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    prepare(TEXTS, (LOST,))
    units = PhoneUnits.from_pronunciations(LEXICON)
    replace(make_bundle(units.symbols[1:]), units=units).save(MODEL)


def test_phones_are_counted_against_the_phones_of_the_references() -> None:
    assert evaluate(settings()) == 0
    heard = [one.text for one in asr.load(MODEL).transcribe([f"{id}.wav" for id in TEXTS])]
    said = ["N AY N EY B IY", "S IY S IY", "B IY", "", "EY N AY N"]
    expected = jiwer.process_words(said, [*heard, ""])
    found = metrics()
    assert any(heard)
    assert found["per"] == pytest.approx(expected.wer)
    assert found["per_ci95"][0] <= found["per"] <= found["per_ci95"][1]
    assert found["per_ci95_drawn"] == "2 speakers"
    assert (found["phones"], found["utterances"], found["missing"]) == (16, 5, 1)
    assert [found[key] for key in ("substitutions", "deletions", "insertions")] == [
        expected.substitutions,
        expected.deletions,
        expected.insertions,
    ]
    assert not {"wer", "cer", "words", "wer_ci95"} & set(found)
    lines = [json.loads(line) for line in (TARGET / "hypotheses.jsonl").read_text().splitlines()]
    assert [line["reference"] for line in lines] == said
    assert [line["hypothesis"] for line in lines] == [*heard, None]


def test_it_says_phone_error_rate_everywhere_and_that_words_are_not_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    evaluate(settings())
    shown = capsys.readouterr().out
    assert "phones wrong (PER)" in shown
    assert "words wrong (WER)       not counted: no decoder here makes words of phones" in shown
    assert "Missing, all phones counted as deletions: lost (no-audio)" in shown
    assert evaluate(settings()) == 0
    per = f"{100 * metrics()['per']:.1f}"
    assert capsys.readouterr().out == f"Evaluated already: PER {per} %, see {TARGET}\n"
    (score,) = asr.load(MODEL).scores
    assert score["per"] == metrics()["per"]
    assert not {"wer", "cer", "words"} & set(score)
    describe(MODEL, as_json=False)
    shown = capsys.readouterr().out
    assert "7: blank, phones, no words (AY, B, EY, IY, N …)" in shown
    for part in ("PER, %", per, "phones"):
        assert part in shown
    assert "WER" not in shown
    assert "CER" not in shown


def test_what_nobody_can_say_the_phones_of_is_named_and_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    unheard = replace(LOST, id="unheard", text="a bird")
    prepare({**TEXTS, "five": "a dog nine"}, (LOST, unheard))
    assert evaluate(settings()) == 0
    shown = capsys.readouterr().out
    assert (
        "Not scored, 2, since a word is not in the model's lexicon: five ('dog'), unheard ('bird')"
        in shown
    )
    assert (metrics()["utterances"], metrics()["phones"]) == (5, 16)


def test_a_split_without_any_phones_is_refused_before_anything_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare({"five": "a dog nine"})
    monkeypatch.setattr(Bundle, "recognise", None)  # would fail if it were called
    with pytest.raises(UserError, match=r"Nothing can be scored: .*, as in five \('dog'\)"):
        evaluate(settings())
    assert not TARGET.exists()


def test_a_transcript_of_phones_comes_with_a_word_of_warning(
    capsys: pytest.CaptureFixture[str], tiny_bundle: Bundle
) -> None:
    assert transcribe(Options(MODEL, ["three.wav"])) == 0
    phones = capsys.readouterr()
    assert phones.err == "asr: this model emits phones: what is written are phones, no words\n"
    assert set(phones.out.split()) <= {phone for word in LEXICON.values() for phone in word}
    assert transcribe(Options(MODEL, ["three.wav"], decoder={"name": "beam"})) == 0
    words = capsys.readouterr()
    assert words.err == ""
    assert set(words.out.split()) <= set(LEXICON)
    tiny_bundle.save("words")
    assert transcribe(Options("words", ["three.wav"])) == 0
    assert capsys.readouterr().err == ""
