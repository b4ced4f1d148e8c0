"""What `asr transcribe` is told about decoding: refused at once, and in words of its options."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.bundle import Bundle
from asr.commands.decoder_options import as_options, check
from asr.commands.transcribe import Options, transcribe
from asr.errors import UserError

GREEDY = {"name": "greedy"}
WITH_LM = {"name": "beam", "lm": {"file": "lm-1.bin", "digest": "1"}}


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with a model, a recording, lists of words and a language model."""
    monkeypatch.chdir(tmp_path)
    tiny_bundle.save("model")
    samples = 0.1 * np.random.default_rng(1).standard_normal(12_000)
    soundfile.write("one.wav", samples, 16_000)
    Path("words.txt").write_text("NINE\nA--B\nB\n...\nNINE  N AY N\n")
    Path("lm.arpa").write_text("")


@pytest.mark.parametrize(
    ("given", "own", "message"),
    [
        ({"nbest": 0}, GREEDY, "--nbest 0: at least 1 is needed."),
        ({"alpha": -1.0, "lm": "lm.arpa"}, GREEDY, "--alpha -1: 0 or more is needed."),
        ({"alpha": float("nan"), "lm": "lm.arpa"}, GREEDY, "--alpha nan: a number is needed."),
        ({"beta": float("inf")}, GREEDY, "--beta inf: a number is needed."),
        ({"alpha": 0.7}, GREEDY, "--alpha 0.7 weighs a language model: give one with --lm."),
        ({"alpha": 0.7, "name": "flashlight"}, WITH_LM, "--alpha 0.7 weighs a language model"),
        ({"alpha": 0.7}, {**WITH_LM, "lm": None}, "--alpha 0.7 weighs a language model"),
        ({"lexicon": "missing.txt"}, GREEDY, "--lexicon missing.txt: there is no such file."),
        ({"name": "greedy", "lexicon": "words.txt"}, WITH_LM, "--lexicon is not for --decoder gr"),
        ({"name": "bream"}, GREEDY, "No decoder is called 'bream'. Did you mean 'beam'?"),
    ],
)
def test_an_option_that_cannot_be_or_changes_nothing_is_refused(
    given: dict[str, Any], own: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as refused:
        check(given, own, ["txt", "json"])
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("given", "own"),
    [
        ({"alpha": 0.7}, WITH_LM),
        ({"alpha": 0.7, "name": "beam"}, WITH_LM),
        ({"alpha": 0.0, "lm": "lm.arpa"}, GREEDY),
        ({"beta": -2.0, "nbest": 1, "lexicon": "words.txt"}, GREEDY),
        ({"name": "greedy"}, WITH_LM),
        ({}, GREEDY),
    ],
)
def test_other_options_pass(given: dict[str, Any], own: dict[str, Any]) -> None:
    check(given, own, ["json"])


def test_readings_need_json_to_be_written() -> None:
    for formats in (["txt"], ["srt", "ctm"]):
        with pytest.raises(UserError, match="--nbest 5 is for JSON: give --json"):
            check({"nbest": 5}, GREEDY, formats)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("decoder.alpha=-1.0 must be 0 or more.", "--alpha -1.0 must be 0 or more."),
        ("decoder.lm: a model of letters", "--lm: a model of letters"),
        (
            "decoder=flashlight has none: use decoder=beam, or decoder.beta=0.",
            "--decoder flashlight has none: use --decoder beam, or --beta 0.",
        ),
        ("decoder.beam=0 must be at least 1.", "decoder.beam=0 must be at least 1."),
        ("the model's decoder needs it", "the model's decoder needs it"),
        ("/a/decoder.lm and my-decoder=beam", "/a/decoder.lm and my-decoder=beam"),
    ],
)
def test_an_error_of_a_decoder_names_options(said: str, told: str) -> None:
    assert as_options(said) == told


def test_what_the_decoder_itself_refuses_is_told_in_options_too() -> None:
    options = Options("model", ["one.wav"], decoder={"name": "flashlight", "beta": 1.5})
    with pytest.raises(UserError, match=r"^--beta 1\.5: --decoder flashlight rewards words"):
        transcribe(options)


def test_a_mistake_loads_no_network() -> None:
    program = (
        "import sys\n"
        "from asr.commands.main import main\n"
        "assert main(['transcribe', 'model', 'one.wav', '--nbest', '0', '--json']) == 2\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=dict(os.environ)
    )
    assert (done.returncode, done.stderr) == (0, "asr: --nbest 0: at least 1 is needed.\n")


def test_entries_of_a_lexicon_that_are_no_single_word_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    decoder = {"lexicon": "words.txt"}
    assert transcribe(Options("model", ["one.wav"], decoder=decoder)) == 0
    output, errors = capsys.readouterr()
    assert errors == (
        "asr: words.txt: 2 left out, since texts write them as several words or none: 'A--B'"
        " (line 2), '...' (line 4)\n"
    )
    assert {*output.split()} <= {"nine", "b"}
    assert transcribe(Options("model", ["one.wav"], decoder=decoder, quiet=True)) == 0
    assert capsys.readouterr().err == ""
