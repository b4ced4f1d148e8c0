"""Fine-tuning: another model's weights, units and features, and weights that stay as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import asr
from asr.commands.compose import compose
from asr.commands.main import main
from asr.commands.train import train
from asr.commands.validation import trained_on_split
from asr.corpus import Corpus
from asr.errors import UserError

WORDS = [
    "recipe=custom",
    "augment=none",
    "model.hidden=8",
    "model.channels=2",
    "model.layers=2",
    "model.dropout=0",
    "optim.ema_decay=0",
    "data.max_utterances=8",
    "trainer.threads=1",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=1",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tone_manifest: Path) -> Path:
    """A working folder with a corpus and a model of it."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        assert main(["prepare", "recipe=custom", f"recipe.root={tone_manifest}"]) == 0
        assert main(["train", *WORDS]) == 0
    return folder


def weights(model: str) -> dict[str, np.ndarray]:
    return load_file(f"runs/custom/{model}/model/weights.safetensors")


def test_training_begins_where_the_other_model_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    init = ["init=runs/custom/base/model", "optim.learning_rate=1e-9", "seed=7"]
    assert train(compose([*WORDS, *init, "name=again"])) == 0
    base, again = weights("base"), weights("again")
    assert all(np.abs(again[name] - base[name]).max() < 1e-6 for name in base)
    assert train(compose([*WORDS, "optim.learning_rate=1e-9", "seed=7", "name=without"])) == 0
    without = weights("without")
    assert any(np.abs(without[name] - base[name]).max() > 0.01 for name in base)


def test_a_model_knows_the_splits_that_the_models_before_it_were_trained_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    base = asr.load("runs/custom/base/model")
    assert "init" not in base.trained
    seen = {**base.trained, "splits": ["train", "validation"]}
    replace(base, trained=seen).save("seen")
    for name, init in (("second", "seen"), ("third", "runs/custom/second/model")):
        assert train(compose([*WORDS, f"init={init}", f"name={name}"])) == 0
    third = asr.load("runs/custom/third/model")
    assert third.trained["init"]["init"]["splits"] == ["train", "validation"]
    corpus = Corpus.open("corpora/custom")
    assert trained_on_split(third.trained, corpus, "validation")
    assert not trained_on_split(base.trained, corpus, "validation")
    assert not trained_on_split(third.trained, corpus, "test")


def test_frozen_weights_stay_and_the_others_move(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    init = ["init=runs/custom/base/model", "freeze=[encoder.frontend,encoder.layers.0]"]
    assert train(compose([*WORDS, *init, "name=frozen"])) == 0
    base, frozen = weights("base"), weights("frozen")
    still = {name for name in base if np.array_equal(base[name], frozen[name])}
    named = {name for name in base if name.startswith(("encoder.frontend.", "encoder.layers.0."))}
    assert named
    assert named <= still
    assert {"head.weight", "encoder.layers.1.forwards.weight_ih_l0"}.isdisjoint(still)


def test_units_are_the_other_models(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    init = ["init=runs/custom/base/model", "units.whole_word_count=1"]
    assert train(compose([*WORDS, *init, "name=units"])) == 0
    base = asr.load("runs/custom/base/model")
    assert asr.load("runs/custom/units/model").units.symbols == base.units.symbols


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("model.hidden=12", r"model\.hidden \(8 there, 12 here\)"),
        ("features.hop_s=0.02", r"features\.hop_s \(0\.01 there, 0\.02 here\)"),
        ("units.kind=words", r"say units\.kind=characters"),
        ("freeze=[encoder.other]", r"no weight's name begins with 'encoder\.other'"),
        ("freeze=[encoder,head]", "leaves nothing to train"),
        ("init=nothing", "nothing"),
    ],
)
def test_what_does_not_fit_is_told_before_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch, word: str, said: str
) -> None:
    monkeypatch.chdir(folder)
    words = [*WORDS, "init=runs/custom/base/model", word, "name=unborn"]
    with pytest.raises(UserError, match=said):
        train(compose(words))
    assert not Path("runs/custom/unborn").exists()


def test_another_initial_model_is_another_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match="init"):
        train(compose([*WORDS, "init=runs/custom/base/model"]))
