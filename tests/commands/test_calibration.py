"""`asr evaluate … decoder.calibrate=true` on a tiny model that babbles, whose references are made
of what it babbles: the words that it is least sure of are wrong.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import asr
from asr.bundle import Bundle
from asr.cluster.executor import LocalExecutor
from asr.cluster.inputs import gather_inputs
from asr.cluster.preprocess import prepare_corpus
from asr.commands import output, weights
from asr.commands.compose import compose
from asr.commands.evaluate import evaluate
from asr.commands.transcribe import Options, transcribe
from asr.corpus import Corpus
from asr.decoding.confidence import Calibration
from asr.decoding.hypothesis import Hypothesis, Transcript, Word
from asr.errors import UserError
from asr.scoring.confidence import reliability
from asr.utterance import Listing, Utterance

pytestmark = pytest.mark.usefixtures("compiled_search")

MODEL = Path("runs/an4/base/model")
RECORDINGS = 12
LM = """\\data\\
ngram 1=6

\\1-grams:
-1.0 </s>
-99 <s>
-2.0 <unk>
-0.5 a
-0.7 b
-0.8 nine

\\end\\
"""


def write_recordings() -> list[str]:
    paths = []
    for number in range(RECORDINGS):
        samples = 0.1 * np.random.default_rng(number).standard_normal(24_000)
        paths.append(str(Path(f"{number}.wav").absolute()))
        soundfile.write(paths[-1], samples, 16_000)
    return paths


def prepare(bundle: Bundle, paths: list[str], wrong_below: float) -> None:
    """A corpus of the words that the model hears, all of lower confidence another word."""
    utterances = []
    for path, transcript in zip(paths, bundle.transcribe(paths), strict=True):
        said = [word.word if word.confidence > wrong_below else "x" for word in transcript.words]
        utterances += [
            Utterance(f"{split}-{Path(path).stem}", path, " ".join(said), split, speaker="s")
            for split in ("test", "validation")
        ]
    inputs = gather_inputs("an4", Listing(utterances, []), "english")
    prepare_corpus(inputs, Path("corpora/an4"), LocalExecutor())


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with a corpus and a run's model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(weights, "ALPHAS", (0.0, 0.5))
    monkeypatch.setattr(weights, "BETAS", (0.0, 1.0))
    prepare(tiny_bundle, write_recordings(), 0.6)
    tiny_bundle.save(MODEL)
    Path("lm.arpa").write_text(LM)


def run(*words: str) -> int:
    return evaluate(compose(["recipe=an4", "trainer.threads=1", *words]))


def metrics(folder: str = "runs/an4/base/eval/test-greedy") -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(folder, "metrics.json").read_text())
    return content


def words_of(folder: str = "runs/an4/base/eval/test-greedy") -> list[dict[str, Any]]:
    lines = Path(folder, "hypotheses.jsonl").read_text().splitlines()
    return [word for line in lines for word in json.loads(line)["words"]]


def test_the_evaluation_says_what_confidences_are_worth(tiny_bundle: Bundle) -> None:
    run()
    transcripts = tiny_bundle.transcribe([f"{n}.wav" for n in range(RECORDINGS)])
    sure = [word.confidence for one in transcripts for word in one.words]
    expected = reliability(sure, [one > 0.6 for one in sure])
    found = metrics()
    assert found["ece"] == pytest.approx(expected.ece)
    assert found["nce"] == pytest.approx(expected.nce)
    assert [one["words"] for one in found["confidence_bins"]] == [b.words for b in expected.bins]
    assert [word["word"] for word in words_of()] == [
        word for one in transcripts for word in one.text.split()
    ]
    assert [word["confidence"] for word in words_of()] == pytest.approx(sure, abs=1e-4)


def test_a_calibration_is_found_on_validation_and_the_split_is_scored_with_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run()
    raw = [word["confidence"] for word in words_of()]
    before = metrics()
    assert run("decoder.calibrate=true") == 0
    file = Path("runs/an4/base/calibration-greedy.json")
    found = json.loads(file.read_text())
    expected = Calibration.fit(raw, [one > 0.6 for one in raw])
    assert found["slope"] == pytest.approx(expected.slope, rel=1e-2)
    assert found["intercept"] == pytest.approx(expected.intercept, rel=1e-2)
    assert (found["words"], found["right"]) == (len(raw), sum(one > 0.6 for one in raw))
    after = metrics()
    assert after["wer"] == before["wer"]
    assert after["ece"] != before["ece"]
    assert after["stamp"]["decoder"]["calibration"] == {
        "slope": found["slope"],
        "intercept": found["intercept"],
    }
    sure = [word["confidence"] for word in words_of()]
    calibration = Calibration(found["slope"], found["intercept"])
    assert sure == pytest.approx([calibration(one) for one in raw], abs=2e-3)
    output, errors = capsys.readouterr()
    assert f"found on validation, {len(raw)} words ({file})" in errors
    assert "normalised cross entropy (NCE)" in output


def test_what_has_been_calibrated_is_not_again_until_something_changes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("decoder.calibrate=true")
    fitted = []
    fit = Calibration.fit
    monkeypatch.setattr(Calibration, "fit", lambda *a: fitted.append(a) or fit(*a))
    capsys.readouterr()
    run("decoder.calibrate=true")
    assert not fitted
    assert "Evaluated already" in capsys.readouterr().out
    run("decoder=beam", "decoder.calibrate=true")
    run("decoder=beam", "decoder.beam=20", "decoder.calibrate=true")
    assert len(fitted) == 2
    greedy, beam = (
        json.loads(Path(f"runs/an4/base/calibration-{name}.json").read_text())["slope"]
        for name in ("greedy", "beam")
    )
    assert greedy != pytest.approx(beam, rel=1e-3)


def test_weights_are_found_first_and_the_calibration_with_them() -> None:
    words = ("decoder=beam", "decoder.lm=lm.arpa", "decoder.tune=true", "decoder.calibrate=true")
    assert run(*words) == 0
    tuned = json.loads(Path("runs/an4/base/weights-beam-lm/weights.json").read_text())
    found = json.loads(Path("runs/an4/base/calibration-beam-lm.json").read_text())
    pair = {key: tuned[key] for key in ("alpha", "beta")}
    assert {key: found["stamp"]["decoder"][key] for key in pair} == pair
    decoder = metrics("runs/an4/base/eval/test-beam-lm")["stamp"]["decoder"]
    assert {key: decoder[key] for key in pair} == pair
    assert decoder["calibration"]["slope"] == found["slope"]
    given = tuple(f"decoder.{key}={value}" for key, value in pair.items())
    found_file = Path("runs/an4/base/calibration-beam-lm.json")
    before = found_file.read_bytes()
    run("decoder=beam", "decoder.lm=lm.arpa", *given, "decoder.calibrate=true")
    assert found_file.read_bytes() == before  # the same, however the weights were given


def test_a_model_that_knows_validation_takes_over_the_calibration_of_base(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = {"corpus": Corpus.open("corpora/an4").fingerprint, "splits": ["train", "validation"]}
    replace(tiny_bundle, trained=seen).save("runs/an4/all/model")
    with pytest.raises(UserError, match=r"was trained on validation: its calibration.*name=base"):
        run("name=all", "decoder.calibrate=true")
    run("decoder.calibrate=true")
    capsys.readouterr()
    assert run("name=all", "decoder.calibrate=true") == 0
    assert "found on validation for the run base" in capsys.readouterr().err
    mine = metrics("runs/an4/all/eval/test-greedy")["stamp"]["decoder"]["calibration"]
    assert (
        mine["slope"]
        == json.loads(Path("runs/an4/base/calibration-greedy.json").read_text())["slope"]
    )
    assert not Path("runs/an4/all/calibration-greedy.json").exists()


@pytest.mark.parametrize(
    ("wrong_below", "why"), [(0.0, r"all \d+ words were right"), (1.1, r"all \d+ words were wrong")]
)
def test_where_none_can_be_found_a_line_says_why_and_confidences_stay_raw(
    tiny_bundle: Bundle, wrong_below: float, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(tiny_bundle, [f"{n}.wav" for n in range(RECORDINGS)], wrong_below)
    assert run("decoder.calibrate=true") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"Not calibrated: on validation {why}.", line)
    found = metrics()
    assert "calibration" not in found["stamp"]["decoder"]
    assert found["nce"] is None
    assert found["ece"] > 0
    assert not Path("runs/an4/base/calibration-greedy.json").exists()


def test_a_model_keeps_its_calibration_and_one_without_is_what_it_always_was() -> None:
    digest, description = asr.load(MODEL).digest, (MODEL / "bundle.yaml").read_text()
    run("decoder.keep=true")
    assert asr.load(MODEL).digest == digest
    kept = (MODEL / "bundle.yaml").read_text()
    assert kept.partition("scores:")[0] == description.partition("scores:")[0]
    plain = asr.load(MODEL).transcribe(["0.wav"])[0]
    run("decoder.calibrate=true", "decoder.keep=true")
    shutil.move(MODEL, "elsewhere")
    bundle = asr.load("elsewhere")
    calibration = Calibration(**bundle.decoder["calibration"])
    sure = bundle.transcribe(["0.wav"])[0]
    assert sure.text == plain.text
    assert [word.confidence for word in sure.words] == pytest.approx(
        [calibration(word.confidence) for word in plain.words]
    )


def test_a_calibration_that_is_given_is_used_and_a_wrong_one_refused() -> None:
    run("decoder.calibration={slope: 0.5, intercept: 2.0}")
    assert metrics()["stamp"]["decoder"]["calibration"] == {"slope": 0.5, "intercept": 2.0}
    with pytest.raises(UserError, match=r"decoder\.calibration: slope -1"):
        run("decoder.calibration={slope: -1, intercept: 2.0}")


class Terminal:
    """Standard output that is a terminal, and keeps what is written."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.written = ""

    def write(self, text: str) -> int:
        self.written += text
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


SURE = [("nine", 0.97), ("a", 0.7999), ("b", 0.8), ("c", 0.4999), ("d", 0.5), ("e", 1.0)]


def shown(monkeypatch: pytest.MonkeyPatch, text: str = "nine a b c d e") -> str:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    words = tuple(Word(word, 0.0, 0.1, confidence) for word, confidence in SURE)
    transcript = Transcript("x.wav", 1.0, (Hypothesis(text, -1.0, words),))
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    output.Screen(["txt"], several=False, options={}).show(transcript)
    return terminal.written


def test_on_a_terminal_doubtful_words_are_yellow_and_worse_ones_red(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    yellow, red, off = "\x1b[33m", "\x1b[31m", "\x1b[0m"
    expected = f"nine {yellow}a{off} b {red}c{off} {yellow}d{off} e\n"
    assert shown(monkeypatch) == expected


def test_without_colours_the_text_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert shown(monkeypatch) == "nine a b c d e\n"


def test_a_text_of_other_words_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert shown(monkeypatch, "[b] other") == "[b] other\n"


def test_into_a_pipe_goes_the_text_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert transcribe(Options(str(MODEL), ["0.wav"])) == 0
    printed = capsys.readouterr().out
    assert printed == asr.load(MODEL).transcribe(["0.wav"])[0].text + "\n"
    assert "\x1b" not in printed
