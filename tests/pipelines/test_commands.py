"""Commands that take a model take one of torchaudio's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import asr
from asr.cluster.executor import LocalExecutor
from asr.cluster.inputs import gather_inputs
from asr.cluster.preprocess import prepare_corpus
from asr.commands.align import align
from asr.commands.compose import compose
from asr.commands.describe import describe
from asr.commands.evaluate import evaluate
from asr.commands.main import main
from asr.errors import UserError
from asr.utterance import Listing, Utterance

BASE = "WAV2VEC2_ASR_BASE_960H"
Installed = Callable[..., Any]
Noise = Callable[..., np.ndarray]


def test_describing_one_downloads_nothing(
    cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert describe(f"torchaudio:{BASE}", as_json=False) == 0
    shown = capsys.readouterr().out
    file = cache / "wav2vec2_fairseq_base_ls960_asr_ls960.pth"
    # 94,371,712 of wav2vec 2.0 BASE, less 768 of its mask, and 29 labels of 768 + 1.
    for part in ("94,393,245 parameters", "20 ms", "MIT", "LibriSpeech dataset (the", str(file)):
        assert part in shown
    assert describe(f"torchaudio:{BASE}", as_json=True) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["digest"] is None
    assert record["trained"]["weights"] == str(file)
    assert not cache.exists()


def test_the_words_of_a_text_are_placed_by_it(
    installed: Installed, noise: Noise, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installed(BASE)
    soundfile.write(tmp_path / "a.wav", noise(48_000), 16_000)
    (tmp_path / "a.txt").write_text("It's HI, there.")
    assert align(f"torchaudio:{BASE}", str(tmp_path / "a.wav"), str(tmp_path / "a.txt"), None) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[4] for line in lines] == ["it's", "hi", "there"]
    starts = [float(line[2]) for line in lines]
    assert starts == sorted(starts)
    assert starts[-1] < 3.0


def test_a_split_is_scored_with_it(
    installed: Installed,
    noise: Noise,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(BASE)
    monkeypatch.chdir(tmp_path)
    utterances = []
    for number, split in enumerate(("train", "test", "test")):
        soundfile.write(tmp_path / f"{number}.wav", noise(20_000 + 9_000 * number, number), 16_000)
        path = str(tmp_path / f"{number}.wav")
        utterances.append(Utterance(str(number), path, "it's hi", split, speaker=f"s{number}"))
    prepare_corpus(
        gather_inputs("an4", Listing(utterances), "english"), Path("corpora/an4"), LocalExecutor()
    )
    words = ["recipe=an4", "trainer.threads=1", f"bundle=torchaudio:{BASE}"]
    assert evaluate(compose(words)) == 0
    digest = asr.load(f"torchaudio:{BASE}").digest
    [found] = Path("runs/an4/base/eval").iterdir()
    assert found.name == f"test-greedy-{digest[:8]}"
    metrics = json.loads((found / "metrics.json").read_text())
    assert metrics["model"] == f"torchaudio:{BASE}"
    assert (metrics["words"], metrics["failed"]) == (4, 0)
    with pytest.raises(UserError, match="has no folder to keep it in"):
        evaluate(compose([*words, "decoder.keep=true"]))


@pytest.mark.parametrize(
    "words",
    [
        ["gates", f"torchaudio:{BASE}", "a.wav", "-o", "a.html"],
        ["describe", "torchaudio:WAV2VEC2_ASR_BASE"],
        ["align", "torchaudio:WAV2VEC2_ASR_BASE", "a.wav", "a.txt"],
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    words: list[str], cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(("asr: torchaudio:WAV2VEC2", "asr: No pipeline is called"))
    assert said.err.count("\n") == 1
    assert not cache.exists()
