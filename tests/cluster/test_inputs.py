from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.cluster.executor import LocalExecutor
from asr.cluster.inputs import gather_inputs, what_changed
from asr.cluster.preprocess import prepare_corpus
from asr.errors import UserError
from asr.utterance import Listing, Rejection, Utterance

Change = Callable[[Path, Listing], Listing]


def listing(folder: Path, count: int = 4) -> Listing:
    folder.mkdir(exist_ok=True)
    utterances = []
    for number in range(count):
        path = folder / f"{number}.wav"
        soundfile.write(path, np.full(3_200, 0.01 * number), 16_000)
        split = "test" if number == 0 else "train"
        utterances.append(Utterance(f"u{number}", str(path), f"Word {number}!", split, "ann"))
    return Listing(utterances)


def test_texts_are_normalised_and_those_left_out_too(tmp_path: Path) -> None:
    found = replace(
        listing(tmp_path), rejected=[Rejection("r", "", "test", "no-audio", "none", "Hey, You!")]
    )
    inputs = gather_inputs("toy", found, "english")
    assert [utterance.text for utterance in inputs.utterances][:2] == ["word 0", "word 1"]
    assert inputs.rejected[0].text == "hey you"


def test_an_empty_text_is_left_out_of_training_but_not_of_the_test(tmp_path: Path) -> None:
    found = listing(tmp_path)
    found = Listing([replace(utterance, text="?!") for utterance in found.utterances])
    inputs = gather_inputs("toy", found, "english")
    assert [(utterance.id, utterance.text) for utterance in inputs.utterances] == [("u0", "")]
    assert [(r.id, r.reason) for r in inputs.rejected] == [
        (f"u{number}", "empty-text") for number in (1, 2, 3)
    ]


def test_the_second_of_one_id_is_left_out(tmp_path: Path) -> None:
    found = listing(tmp_path)
    found.utterances[2] = replace(found.utterances[2], id="u0")
    inputs = gather_inputs("toy", found, "english")
    assert [utterance.id for utterance in inputs.utterances] == ["u0", "u1", "u3"]
    assert [(r.id, r.reason, r.text) for r in inputs.rejected] == [("u0", "duplicate-id", "word 2")]


@pytest.mark.parametrize("split", ["", "Train", "../x", "a b"])
def test_a_split_whose_name_is_no_name_is_an_error(tmp_path: Path, split: str) -> None:
    found = listing(tmp_path, 1)
    found.utterances[0] = replace(found.utterances[0], split=split)
    with pytest.raises(UserError, match="split"):
        gather_inputs("toy", found, "english")


def test_an_unknown_normaliser_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="english"):
        gather_inputs("toy", listing(tmp_path), "englisch")


def rewrite(path: Path, value: float) -> None:
    """Changes a file's samples but neither its size nor, within a tick, its time."""
    soundfile.write(path, np.full(3_200, value), 16_000)
    os.utime(path, ns=(1, 1))


def nothing(_: Path, found: Listing) -> Listing:
    return found


def one_file(audio: Path, found: Listing) -> Listing:
    rewrite(audio / "1.wav", 0.5)
    return found


def file_gone(audio: Path, found: Listing) -> Listing:
    (audio / "3.wav").unlink()
    return found


def one_text(_: Path, found: Listing) -> Listing:
    return Listing([*found.utterances[:3], replace(found.utterances[3], text="other")])


def one_more(audio: Path, found: Listing) -> Listing:
    return Listing([*found.utterances, replace(found.utterances[3], id="u4")])


def one_less(_: Path, found: Listing) -> Listing:
    return Listing(found.utterances[:3])


def one_rejected(_: Path, found: Listing) -> Listing:
    return Listing(found.utterances, [Rejection("r", "", "train", "no-audio", "none")])


def turned_round(_: Path, found: Listing) -> Listing:
    return Listing(found.utterances[::-1])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (nothing, None),
        (one_file, "1 files changed, first: AUDIO/1.wav"),
        (file_gone, "1 files changed, first: AUDIO/3.wav"),
        (one_text, "1 utterances changed, first: u3"),
        (one_more, "1 utterances are new, first: u4"),
        (one_less, "1 utterances are gone, first: u3"),
        (one_rejected, "1 utterances are new, first: r"),
        (turned_round, "the order of the utterances changed"),
    ],
)
def test_what_changed_is_said(tmp_path: Path, change: Change, said: str | None) -> None:
    audio = tmp_path / "audio"
    found = listing(audio)
    folder = tmp_path / "corpus"
    prepare_corpus(gather_inputs("toy", found, "english"), folder, LocalExecutor())
    changed = what_changed(folder, gather_inputs("toy", change(audio, found), "english"))
    assert changed == (said.replace("AUDIO", str(audio)) if said else said)


def test_another_normaliser_recipe_or_a_damaged_corpus_are_said(tmp_path: Path) -> None:
    found = listing(tmp_path / "audio")
    inputs = gather_inputs("toy", found, "english")
    folder = tmp_path / "corpus"
    assert what_changed(folder, inputs) == ""
    prepare_corpus(inputs, folder, LocalExecutor())
    changed = what_changed(folder, gather_inputs("toy", found, "none"))
    assert changed == "the normaliser changed from english to none"
    changed = what_changed(folder, gather_inputs("other", found, "english"))
    assert changed == "the recipe changed from toy to other"
    (folder / "train-00000.arrow").write_bytes(b"cut")
    assert what_changed(folder, inputs) == "train-00000.arrow is missing or damaged"
    (folder / "inputs.arrow").unlink()
    assert what_changed(folder, inputs) == "its inputs.arrow is missing or damaged"
    (folder / "corpus.json").write_text("{")
    assert what_changed(folder, inputs) == "it is of another version or damaged"
