"""`asr evaluate` on a tiny corpus with an untrained model: what it counts, writes and redoes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
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
from asr.commands.evaluate import evaluate
from asr.config import Config
from asr.corpus import Corpus
from asr.errors import UserError
from asr.utterance import Listing, Rejection, Utterance

TARGET = Path("runs/an4/base/eval/test-greedy")
TEXTS = {"one": "nine a b", "two": "C, c?", "three": "b", "four": "", "five": "a b c nine"}
LOST = Rejection("lost", "lost.wav", "test", "no-audio", "there is no lost.wav", "a b c", "s1")


def noise(seconds: float, seed: int) -> np.ndarray:
    samples = 0.1 * np.random.default_rng(seed).standard_normal(round(16_000 * seconds))
    return samples.astype(np.float32)


def prepare(rejected: Sequence[Rejection] = (), texts: dict[str, str] = TEXTS) -> Corpus:
    utterances = []
    for number, (id, text) in enumerate(texts.items()):
        path = Path(f"{id}.wav").absolute()
        soundfile.write(path, noise(0.3 + 0.2 * number, seed=number), 16_000)
        utterances.append(Utterance(id, str(path), text, "test", speaker=f"s{number % 2}"))
    utterances.append(dataclasses.replace(utterances[0], id="seen", split="train"))
    inputs = gather_inputs("an4", Listing(utterances, list(rejected)), "english")
    prepare_corpus(inputs, Path("corpora/an4"), LocalExecutor())
    return Corpus.open("corpora/an4")


def settings(*words: str) -> Config:
    return compose(["recipe=an4", "trainer.threads=1", *words])


def read(name: str, folder: Path = TARGET) -> Any:
    text = (folder / name).read_text()
    return json.loads(text) if name.endswith(".json") else list(map(json.loads, text.splitlines()))


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with a prepared corpus and a run's model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    prepare()
    tiny_bundle.save("runs/an4/base/model")


def test_the_figures_are_those_of_the_transcripts_that_the_model_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/asr", "evaluate", "recipe=an4"])
    prepare([LOST])
    assert evaluate(settings()) == 0
    transcripts = asr.load("runs/an4/base/model").transcribe([f"{id}.wav" for id in TEXTS])
    references = ["nine a b", "c c", "b", "", "a b c nine", "a b c"]
    hypotheses = [*(transcript.text for transcript in transcripts), ""]
    words = jiwer.process_words(references, hypotheses)
    characters = jiwer.process_characters(references, hypotheses)
    metrics = read("metrics.json")
    assert metrics["wer"] == pytest.approx(words.wer)
    assert metrics["cer"] == pytest.approx(characters.cer)
    assert metrics["words"] == 13
    assert metrics["substitutions"] == words.substitutions
    assert metrics["deletions"] == words.deletions
    assert metrics["insertions"] == words.insertions > 0
    assert (metrics["utterances"], metrics["missing"], metrics["failed"]) == (6, 1, 0)
    assert metrics["ser"] == sum(r != h for r, h in zip(references, hypotheses, strict=True)) / 6
    assert metrics["wer_ci95"][0] <= metrics["wer"] <= metrics["wer_ci95"][1]
    assert metrics["wer_ci95_drawn"] == "2 speakers"
    assert metrics["audio_seconds"] == pytest.approx(0.3 + 0.5 + 0.7 + 0.9 + 1.1)
    assert metrics["rtfx"] > 0
    assert metrics["normaliser"] == "english"
    assert metrics["command"] == "asr evaluate recipe=an4"
    lines = read("hypotheses.jsonl")
    assert [line["id"] for line in lines] == [*TEXTS, "lost"]
    assert [line["reference"] for line in lines] == references
    assert [line["hypothesis"] for line in lines] == [*hypotheses[:-1], None]
    assert sum(line["errors"] for line in lines) == words.substitutions + words.deletions + (
        words.insertions
    )
    assert lines[-1]["missing"] == "no-audio"


def test_results_go_to_stdout_with_the_missing_named_and_stderr_is_silent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wordless = Rejection("unsaid", "unsaid.wav", "test", "no-transcript", "no text")
    elsewhere = dataclasses.replace(LOST, id="other", split="train")
    prepare([LOST, wordless, elsewhere])
    evaluate(settings())
    output, errors = capsys.readouterr()
    assert "Missing, all words counted as deletions: lost (no-audio)\n" in output
    assert "Not scored, since there is no transcript: unsaid (no-transcript)\n" in output
    assert "(WER)" in output
    assert "REF: " in output
    assert "Written to runs/an4/base/eval/test-greedy" in output
    assert "other" not in output
    assert errors == ""


def test_nothing_is_done_again_that_would_come_out_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(settings())
    before = {path.name: path.stat().st_mtime_ns for path in TARGET.iterdir()}
    capsys.readouterr()
    monkeypatch.setattr(Bundle, "recognise", None)  # would fail if it were called
    prepare()  # the same content, other files
    assert evaluate(settings()) == 0
    assert {path.name: path.stat().st_mtime_ns for path in TARGET.iterdir()} == before
    output, errors = capsys.readouterr()
    wer = read("metrics.json")["wer"]
    assert output == f"Evaluated already: WER {100 * wer:.1f} %, see {TARGET}\n"
    assert errors == ""


def other_model() -> None:
    bundle = asr.load("runs/an4/base/model")
    bundle.features.mean += 0.1
    bundle.save("runs/an4/base/model")


def other_corpus() -> None:
    prepare(texts={**TEXTS, "three": "a"})


def more_left_out() -> None:
    prepare([LOST])


def other_decoder_settings() -> None:
    metrics = read("metrics.json")
    metrics["stamp"]["decoder"]["beam"] = 8
    (TARGET / "metrics.json").write_text(json.dumps(metrics))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (other_model, "Evaluating again: the model changed.\n"),
        (other_corpus, "Evaluating again: the corpus changed.\n"),
        (more_left_out, "Evaluating again: what preparation left out changed.\n"),
        (other_decoder_settings, "Evaluating again: the decoder's settings changed.\n"),
    ],
)
def test_it_is_done_again_with_a_reason_where_something_changed(
    change: Callable[[], None], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(settings())
    change()
    capsys.readouterr()
    evaluate(settings())
    output, errors = capsys.readouterr()
    assert errors == line
    assert "Written to" in output


def test_an_utterance_that_cannot_be_decoded_is_missing_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    transcripts = asr.load("runs/an4/base/model").transcribe([f"{id}.wav" for id in TEXTS])
    recognise = Bundle.recognise

    def stumble(
        self: Bundle, waveforms: Sequence[np.ndarray], sources: Sequence[str]
    ) -> list[asr.Transcript]:
        if "three" in sources:
            raise RuntimeError("out of luck")
        return recognise(self, waveforms, sources)

    monkeypatch.setattr(Bundle, "recognise", stumble)
    assert evaluate(settings()) == 1
    assert "three (not-decoded)" in capsys.readouterr().out
    assert read("failures.jsonl") == [{"id": "three", "error": "RuntimeError: out of luck"}]
    metrics = read("metrics.json")
    assert (metrics["missing"], metrics["failed"], metrics["utterances"]) == (1, 1, 5)
    assert [line["hypothesis"] for line in read("hypotheses.jsonl")] == [
        None if id == "three" else transcript.text
        for id, transcript in zip(TEXTS, transcripts, strict=True)
    ]
    assert asr.load("runs/an4/base/model").scores == []  # it is not what the model can do
    monkeypatch.setattr(Bundle, "recognise", recognise)
    capsys.readouterr()
    assert evaluate(settings()) == 0
    assert capsys.readouterr().err == "Evaluating again: 1 could not be decoded the last time.\n"
    assert not (TARGET / "failures.jsonl").exists()


def test_the_runs_own_model_keeps_its_score() -> None:
    evaluate(settings())
    metrics = read("metrics.json")
    bundle = asr.load("runs/an4/base/model")
    (score,) = bundle.scores
    assert (score["recipe"], score["split"], score["decoder"]) == ("an4", "test", "greedy")
    assert (score["wer"], score["wer_ci95"]) == (metrics["wer"], metrics["wer_ci95"])
    assert bundle.digest == metrics["stamp"]["bundle"]


def test_a_model_from_elsewhere_is_scored_beside_the_runs_own_and_left_alone(
    make_bundle: Callable[..., Bundle],
) -> None:
    stranger = make_bundle(normalisation="utterance")
    stranger.save("stranger")
    evaluate(settings())
    before = (TARGET / "metrics.json").read_bytes()
    assert evaluate(settings("bundle=stranger")) == 0
    other = Path(f"{TARGET}-{stranger.digest[:8]}")
    assert read("metrics.json", other)["model"] == "stranger"
    assert (TARGET / "metrics.json").read_bytes() == before
    assert asr.load("stranger").scores == []


def test_a_model_scored_on_what_it_was_trained_on_says_so(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    fingerprint = Corpus.open("corpora/an4").fingerprint
    tiny_bundle.trained |= {"corpus": fingerprint, "splits": ["train"]}
    tiny_bundle.save("runs/an4/base/model")
    evaluate(settings("split=test"))
    assert "was trained on this split" not in capsys.readouterr().out
    assert read("metrics.json")["trained_on_this_split"] is False
    evaluate(settings("split=train"))
    assert "This model was trained on this split" in capsys.readouterr().out
    assert read("metrics.json", TARGET.with_name("train-greedy"))["trained_on_this_split"] is True


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["split=validation"], "has nothing in a split 'validation'. It has: test, train."),
        (["name=mine"], "There is no model in runs/an4/mine/model. Train one"),
        (["bundle=nowhere"], "There is no model nowhere"),
        (["prepare.folder=nowhere"], "There is no prepared corpus in nowhere"),
    ],
)
def test_what_is_not_there_is_named_with_what_to_do(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        evaluate(settings(*words))
    assert not TARGET.exists()


def test_a_killed_evaluation_leaves_the_earlier_one_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(settings())
    before = {path.name: path.read_bytes() for path in TARGET.iterdir()}
    other_model()

    def interrupt(report: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("asr.scoring.record.page", interrupt)
    with pytest.raises(KeyboardInterrupt):
        evaluate(settings())
    assert {path.name: path.read_bytes() for path in TARGET.iterdir()} == before
