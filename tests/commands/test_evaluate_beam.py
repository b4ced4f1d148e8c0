"""`asr evaluate` and `asr transcribe` with beam search: files, weights, and what a model keeps."""

from __future__ import annotations

import csv
import gzip
import inspect
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import asr
from asr.bundle import Bundle
from asr.cluster.executor import LocalExecutor
from asr.cluster.inputs import gather_inputs
from asr.cluster.preprocess import prepare_corpus
from asr.commands import decoders, weights
from asr.commands.compose import compose
from asr.commands.evaluate import evaluate
from asr.commands.transcribe import Options, transcribe
from asr.corpus import Corpus
from asr.decoding.beam import BeamDecoder
from asr.errors import UserError
from asr.units.phones import PhoneUnits
from asr.utterance import Listing, Utterance

pytestmark = pytest.mark.usefixtures("compiled_search")

MODEL = Path("runs/an4/base/model")
TEXTS = {"one": "nine a b", "two": "c c", "three": "b", "four": "a nine"}
BIGRAM = """\\data\\
ngram 1=6
ngram 2=2

\\1-grams:
-1.0 </s>
-99 <s> -0.3
-2.0 <unk>
-0.5 a -0.2
-0.7 b
-0.8 nine -0.1

\\2-grams:
-0.2 <s> nine
-0.3 nine a

\\end\\
"""


LETTERS = """\\data\\
ngram 1=5

\\1-grams:
-1.0 </s>
-99 <s>
-2.0 <unk>
-0.5 a
-0.7 |

\\end\\
"""


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with a corpus, a run's model, a language model and a list of words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    utterances = []
    for number, (id, text) in enumerate(TEXTS.items()):
        path = Path(f"{id}.wav").absolute()
        samples = 0.1 * np.random.default_rng(number).standard_normal(6_000 + 4_000 * number)
        soundfile.write(path, samples, 16_000)
        utterances += [
            Utterance(f"{split}-{id}", str(path), text, split, speaker=f"s{number % 2}")
            for split in ("test", "validation")
        ]
    inputs = gather_inputs("an4", Listing(utterances, []), "english")
    prepare_corpus(inputs, Path("corpora/an4"), LocalExecutor())
    tiny_bundle.save(MODEL)
    Path("lm.arpa").write_text(BIGRAM)
    Path("words.txt").write_text("NINE\nA\nB\n")
    monkeypatch.setattr(weights, "ALPHAS", (0.0, 0.5, 1.5))
    monkeypatch.setattr(weights, "BETAS", (-4.0, 0.0, 3.0))


def run(*words: str) -> int:
    return evaluate(compose(["recipe=an4", "trainer.threads=1", "decoder=beam", *words]))


def read(path: str) -> Any:
    return json.loads(Path(path).read_text())


def hypotheses(decoder: str = "beam-lm-words") -> list[str]:
    lines = Path(f"runs/an4/base/eval/test-{decoder}/hypotheses.jsonl").read_text().splitlines()
    return [json.loads(line)["hypothesis"] for line in lines]


WITH_FILES = ("decoder.lm=lm.arpa", "decoder.lexicon=words.txt")


def test_a_lexicon_decides_which_words_are_heard() -> None:
    assert run("decoder.lexicon=words.txt") == 0
    assert {word for text in hypotheses("beam-words") for word in text.split()} <= {
        "nine",
        "a",
        "b",
    }


def test_another_content_of_a_file_is_another_decoder(capsys: pytest.CaptureFixture[str]) -> None:
    run(*WITH_FILES)
    run(*WITH_FILES)
    assert "Evaluated already" in capsys.readouterr().out
    Path("words.txt").write_text("NINE\n")
    run(*WITH_FILES)
    assert "Evaluating again: the decoder's settings changed" in capsys.readouterr().err
    assert {word for text in hypotheses() for word in text.split()} <= {"nine"}


def test_a_decoder_that_cannot_be_made_is_refused_before_anything_else_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(*WITH_FILES)
    Path("words.txt").write_text("NINE\nA\nX\n")
    capsys.readouterr()
    with pytest.raises(UserError, match=r"words\.txt:3: the model cannot spell 'x'"):
        run(*WITH_FILES)
    assert capsys.readouterr() == ("", "")


def test_entries_of_a_lexicon_that_are_no_single_word_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("words.txt").write_text("NINE\nA%%B\n")
    run("decoder.lexicon=words.txt")
    assert (
        "words.txt: 1 left out, since texts write them as several words or none: 'A%%B' (line 2)\n"
    ) in capsys.readouterr().err


def test_each_language_model_and_lexicon_has_results_and_weights_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("more").mkdir()
    Path("more/other 2.arpa").write_text(BIGRAM.replace("-0.5", "-0.4"))
    other = ("decoder.lm=more/other 2.arpa",)
    run(*WITH_FILES, "decoder.tune=true")
    run(*other, "decoder.tune=true")
    run("decoder.lexicon=words.txt")
    run()
    folders = {path.name for path in Path("runs/an4/base/eval").iterdir()}
    assert folders == {"test-beam-lm-words", "test-beam-other_2", "test-beam-words", "test-beam"}
    scores = [score["decoder"] for score in asr.load(MODEL).scores]
    assert scores == ["beam-lm-words", "beam-other_2", "beam-words", "beam"]
    monkeypatch.delattr(weights, "_search")  # neither is looked for again
    capsys.readouterr()
    run(*WITH_FILES, "decoder.tune=true")
    run(*other, "decoder.tune=true")
    assert capsys.readouterr().out.count("Evaluated already") == 2


def test_the_models_own_decoder_is_scored_as_transcribe_uses_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*WITH_FILES, "decoder.alpha=0.8", "decoder.beta=1.5", "decoder.keep=true")
    Path("lm.arpa").unlink()
    Path("words.txt").unlink()
    assert evaluate(compose(["recipe=an4", "trainer.threads=1", "decoder=own"])) == 0
    assert hypotheses("own") == hypotheses()
    kept = read("runs/an4/base/eval/test-own/metrics.json")["stamp"]["decoder"]
    assert (kept["name"], kept["alpha"], kept["beta"]) == ("beam", 0.8, 1.5)
    shutil.copytree(MODEL, tmp_path / "elsewhere")
    capsys.readouterr()
    words = ["recipe=an4", "trainer.threads=1", "decoder=own", "bundle=elsewhere"]
    assert evaluate(compose(words)) == 0
    digest = asr.load("elsewhere").digest[:8]
    assert hypotheses(f"own-{digest}") == hypotheses()


def test_tuning_tries_every_pair_on_validation_and_test_is_scored_with_the_best(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(*WITH_FILES, "decoder.tune=true") == 0
    folder = Path("runs/an4/base/weights-beam-lm-words")
    found = read(str(folder / "weights.json"))
    with (folder / "surface.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 9
    for row in rows:
        pair = (f"decoder.alpha={row['alpha']}", f"decoder.beta={row['beta']}")
        run(*WITH_FILES, "split=validation", *pair)
        metrics = read("runs/an4/base/eval/validation-beam-lm-words/metrics.json")
        wrong = sum(metrics[key] for key in ("substitutions", "deletions", "insertions"))
        assert int(row["errors"]) == wrong, row
    fewest = min(int(row["errors"]) for row in rows)
    best = {(float(r["alpha"]), float(r["beta"])) for r in rows if int(r["errors"]) == fewest}
    assert (found["alpha"], found["beta"]) in best
    stamp = read("runs/an4/base/eval/test-beam-lm-words/metrics.json")["stamp"]["decoder"]
    assert (stamp["alpha"], stamp["beta"]) == (found["alpha"], found["beta"])
    assert (folder / "surface.png").read_bytes().startswith(b"\x89PNG")
    assert "found on validation" in capsys.readouterr().err


def test_what_has_been_tuned_is_not_tuned_again_until_something_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(*WITH_FILES, "decoder.tune=true")
    searched = []
    search = weights._search
    monkeypatch.setattr(weights, "_search", lambda *a: searched.append(a) or search(*a))
    run(*WITH_FILES, "decoder.tune=true", "decoder.alpha=9")
    assert not searched
    Path("words.txt").write_text("NINE\nB\n")
    run(*WITH_FILES, "decoder.tune=true")
    assert len(searched) == 1


def test_what_has_been_tuned_is_not_tuned_again_once_the_model_keeps_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(*WITH_FILES, "decoder.tune=true", "decoder.keep=true")
    monkeypatch.delattr(weights, "_search")
    assert run(*WITH_FILES, "decoder.tune=true") == 0


def test_what_is_found_for_another_model_lies_beside_the_runs_own(tiny_bundle: Bundle) -> None:
    run(*WITH_FILES, "decoder.tune=true")
    own = Path("runs/an4/base/weights-beam-lm-words/weights.json").read_bytes()
    with torch.no_grad():
        tiny_bundle.network.head.bias += 1.0
    tiny_bundle.save("other")
    run(*WITH_FILES, "decoder.tune=true", "bundle=other")
    digest = asr.load("other").digest[:8]
    assert Path(f"runs/an4/base/weights-beam-lm-words-{digest}/weights.json").is_file()
    assert Path("runs/an4/base/weights-beam-lm-words/weights.json").read_bytes() == own


def test_a_model_that_knows_validation_takes_over_the_weights_of_base(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = Corpus.open("corpora/an4")
    seen = {"corpus": corpus.fingerprint, "splits": ["train", "validation"]}
    replace(tiny_bundle, trained=seen).save("runs/an4/all/model")
    with pytest.raises(UserError, match=r"was trained on validation.*name=base"):
        run(*WITH_FILES, "name=all", "decoder.tune=true")
    run(*WITH_FILES, "decoder.tune=true")
    found = read("runs/an4/base/weights-beam-lm-words/weights.json")
    assert run(*WITH_FILES, "name=all", "decoder.tune=true") == 0
    stamp = read("runs/an4/all/eval/test-beam-lm-words/metrics.json")["stamp"]["decoder"]
    assert (stamp["alpha"], stamp["beta"]) == (found["alpha"], found["beta"])
    assert not Path("runs/an4/all/weights-beam-lm-words").exists()
    assert "for the run base" in capsys.readouterr().err


def test_flashlight_with_letters_has_no_beta_to_find(make_bundle: Callable[..., Bundle]) -> None:
    pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    shutil.rmtree(MODEL)
    make_bundle(("|", "a", "b")).save(MODEL)
    Path("letters.arpa").write_text(LETTERS)
    words = ["decoder=flashlight", "decoder.lm=letters.arpa", "decoder.tune=true"]
    assert evaluate(compose(["recipe=an4", "trainer.threads=1", *words])) == 0
    with Path("runs/an4/base/weights-flashlight-letters/surface.csv").open() as stream:
        assert [row["beta"] for row in csv.DictReader(stream)] == ["0.0"] * 3


def test_without_a_language_model_there_is_nothing_to_weigh() -> None:
    with pytest.raises(UserError, match=r"needs a language model to weigh: give decoder.lm=FILE"):
        run("decoder.tune=true")


def test_the_fewest_errors_win_and_among_equals_the_better_neighbourhood() -> None:
    errors = np.array([[2, 9, 9, 9], [9, 9, 3, 2], [9, 9, 3, 3]])
    assert weights.best_of(errors) == (1, 3)
    assert weights.best_of(np.array([[1, 5], [5, 5]])) == (0, 0)


def test_a_model_keeps_its_decoder_with_all_files_and_gives_the_same_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = asr.load(MODEL).digest
    run(*WITH_FILES, "decoder.alpha=0.8", "decoder.beta=1.5", "decoder.keep=true")
    heard = hypotheses()
    assert "uses this decoder from now on" in capsys.readouterr().err
    shutil.move(MODEL, tmp_path / "elsewhere")
    Path("lm.arpa").unlink()
    Path("words.txt").unlink()
    bundle = asr.load("elsewhere")
    assert bundle.digest != before
    assert [one.text for one in bundle.transcribe([f"{id}.wav" for id in TEXTS])] == heard
    bundle.save("copy")
    assert asr.load("copy").digest == bundle.digest
    shutil.rmtree("elsewhere")
    assert transcribe(Options("copy", ["one.wav"])) == 0
    assert capsys.readouterr().out == f"{heard[0]}\n"


def test_a_decoder_is_kept_where_the_same_evaluation_is_there_already(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(*WITH_FILES)
    run(*WITH_FILES, "decoder.keep=true")
    output, errors = capsys.readouterr()
    assert "Evaluated already" in output
    assert "uses this decoder from now on" in errors
    assert asr.load(MODEL).decoder["name"] == "beam"


def test_a_gzipped_lexicon_is_kept_and_read_again() -> None:
    Path("words.gz").write_bytes(gzip.compress(Path("words.txt").read_bytes()))
    run("decoder.lexicon=words.gz", "decoder.keep=true")
    heard = hypotheses("beam-words")
    Path("words.gz").unlink()
    assert [one.text for one in asr.load(MODEL).transcribe([f"{id}.wav" for id in TEXTS])] == heard


def test_a_decoder_that_is_replaced_leaves_no_files_behind() -> None:
    run(*WITH_FILES, "decoder.keep=true")
    run("decoder.lexicon=words.txt", "decoder.keep=true")
    names = {path.name for path in MODEL.iterdir()}
    assert len(names) == 3
    assert {"bundle.yaml", "weights.safetensors"} < names


def test_a_file_of_the_decoder_that_was_changed_is_found_out() -> None:
    run(*WITH_FILES, "decoder.keep=true")
    (listed,) = MODEL.glob("words-*.txt")
    listed.write_text("C\n")
    with pytest.raises(UserError, match="is not the file that the bundle was written with"):
        asr.load(MODEL)
    listed.unlink()
    with pytest.raises(UserError) as refused:
        asr.load(MODEL)
    assert str(refused.value) == (
        f"{listed.resolve()} does not exist, and the model's decoder needs it: copy the model's"
        " folder again."
    )


def test_transcribe_takes_files_and_readings(capsys: pytest.CaptureFixture[str]) -> None:
    run("decoder.lexicon=words.txt", "decoder.nbest=3")
    decoder = {"lexicon": "words.txt", "nbest": 3}
    assert transcribe(Options(str(MODEL), ["one.wav"], formats=["json"], decoder=decoder)) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["text"] == hypotheses("beam-words")[0]
    assert record["nbest"][0]["text"] == record["text"]
    scores = [one["score"] for one in record["nbest"]]
    assert scores == sorted(scores, reverse=True)
    assert len({one["text"] for one in record["nbest"]}) == len(scores) == 3
    assert " ".join(word["word"] for word in record["words"]) == record["text"]


def test_a_model_of_phones_is_scored_in_words(make_bundle: Callable[..., Bundle]) -> None:
    lexicon = {"nine": ("N", "AY", "N"), "a": ("EY",), "b": ("B", "IY"), "c": ("S", "IY")}
    units = PhoneUnits.from_pronunciations(lexicon)
    shutil.rmtree(MODEL)
    replace(make_bundle(units.symbols[1:]), units=units).save(MODEL)
    assert run() == 0
    metrics = read("runs/an4/base/eval/test-beam/metrics.json")
    assert metrics["words"] == 8
    assert "per" not in metrics
    assert {word for text in hypotheses("beam") for word in text.split()} <= lexicon.keys()


def test_the_settings_that_stand_in_conf_are_the_decoders_own_defaults() -> None:
    offered = compose(["recipe=an4", "decoder=beam"]).decoder
    parameters = inspect.signature(BeamDecoder).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}
    del defaults["normaliser"], defaults["calibration"]
    assert decoders.settings_of(compose(["recipe=an4", "decoder=beam"])) == {
        "name": "beam",
        **defaults,
    }
    page = (Path(__file__).parents[2] / "docs" / "decoding.md").read_text(encoding="utf-8")
    table = page.partition("| setting of")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (`.+`) \| .+ \| (.+) \|$", table, re.MULTILINE)
    documented = {}
    for names, values in rows:
        shown = values.split(", ")
        documented |= dict(zip(re.findall(r"`(\w+)`", names), shown, strict=True))
    settings = {key: "none" if offered[key] is None else str(offered[key]) for key in documented}
    assert settings == documented
    assert len(documented) == 12


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("decoder.lm=missing.arpa", r"missing.arpa"),
        ("decoder.lexicon=missing.txt", r"missing.txt cannot be read"),
        ("decoder.alpha=nan", r"decoder.alpha=nan is no number"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(word)
