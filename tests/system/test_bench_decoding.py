"""The benchmark of decoders on tiny sizes: its judge is exact, and no decoder is left out."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import ctc_loss

from asr.units.characters import CharacterUnits

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY / "tools"))
bench_decoding: Any = importlib.import_module("bench_decoding")
ctc_judge: Any = importlib.import_module("ctc_judge")
made_up_emissions: Any = importlib.import_module("made_up_emissions")
other_environment: Any = importlib.import_module("other_environment")

UNITS = CharacterUnits(("<blank>", "|", "a", "b"))


def drawn(seed: int, frames: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(scale=2.0, size=(frames, len(UNITS.symbols)))
    return torch.log_softmax(torch.tensor(logits), dim=-1).numpy()  # [T', V]


@pytest.mark.parametrize("frames", [1, 2, 6])
def test_the_judge_sums_over_all_paths_of_a_text(frames: int) -> None:
    emissions = drawn(frames, frames)
    exact: dict[str, float] = {}
    for path in itertools.product(range(4), repeat=frames):
        text = UNITS.decode([label for label, _ in itertools.groupby(path) if label])
        probability = math.exp(sum(emissions[t, label] for t, label in enumerate(path)))
        exact[text] = exact.get(text, 0.0) + probability
    assert "" in exact
    for text, probability in exact.items():
        found = ctc_judge.log_probability(emissions, UNITS, text)
        assert found == pytest.approx(math.log(probability), abs=1e-9)


def test_the_judge_agrees_with_torch_where_there_are_no_separators() -> None:
    emissions = drawn(5, 40)
    emissions[:, 1] = -1e4
    labels = UNITS.encode("abbaab")
    loss = ctc_loss(
        torch.from_numpy(emissions)[:, None],  # [T', V] -> [T', 1, V]
        torch.tensor([labels]),
        torch.tensor([40]),
        torch.tensor([len(labels)]),
        reduction="sum",
    )
    found = ctc_judge.log_probability(emissions, UNITS, "abbaab")
    assert found == pytest.approx(-loss.item(), abs=1e-6)


def test_the_judge_adds_language_model_and_words() -> None:
    task = made_up_emissions.made_up(60, 8, 1)
    emissions, text = task.items[0], task.texts[0]
    paths = ctc_judge.log_probability(emissions, task.units, text)
    words = text.split()
    assert len(words) > 1
    expected = paths + 0.4 * task.lm.score(words) + 0.3 * len(words)
    found = ctc_judge.score(emissions, task.units, text, task.lm, 0.4, 0.3)
    assert found == pytest.approx(expected, abs=1e-9)


def test_made_up_emissions_spell_their_texts_most_of_the_time() -> None:
    one, other = (made_up_emissions.made_up(120, 12, 2, seed=3) for _ in range(2))
    assert one.texts == other.texts  # the same seed
    for emissions, text in zip(one.items, one.texts, strict=True):
        assert emissions.shape == (120, 12)
        assert np.exp(emissions).sum(axis=1) == pytest.approx(1, abs=1e-4)
        assert set(text.split()) <= set(one.words)
        best = emissions.argmax(axis=1)
        right = one.units.encode(text)
        heard = [int(label) for label, _ in itertools.groupby(best) if label]
        assert abs(len(heard) - len(right)) <= 0.3 * len(right)
    assert np.mean([np.exp(emissions.max(axis=1)).mean() for emissions in one.items]) > 0.8


def test_every_decoder_is_timed_and_judged(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "tools" / "bench_decoding.py", "--quick", "--ours", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "load" in found["hardware"]
    rows = found["rows"]
    assert {(row["decoder"], row["words"], row["workers"]) for row in rows} == {
        ("greedy", False, 1),
        ("greedy", False, 2),
        *itertools.product(("beam", "beam, narrow", "flashlight"), (False, True), (1, 2)),
    }
    assert min(row["utterances_per_s"] for row in rows) > 0
    judged = {(row["decoder"], row["words"], row["score"]) for row in rows}
    assert len(judged) == len(rows) // 2  # two workers find what one finds
    with_words = [row for row in rows if row["words"]]
    assert max(row["best"] for row in with_words) == 3
    assert {row["what"] for row in found["growth"]} == {"frames", "beam", "utterances"}


def row_of(decoder: str, **given: Any) -> Any:
    return bench_decoding.Row("made up", False, decoder, 4, 1, **given)


def test_a_text_is_as_good_as_the_best_that_any_decoder_found() -> None:
    task = made_up_emissions.made_up(60, 8, 2)
    right = list(task.texts)
    found = [(row_of("one"), right), (row_of("other"), [right[0], ""])]
    one, other = bench_decoding.judged(task, False, found)
    assert (one.best, other.best) == (2, 1)
    assert one.score > other.score
    assert (one.wer, other.wer > 0) == (0.0, True)


STAND_IN = """
def beam_search(probabilities, alphabet, beam, least):
    assert alphabet[0] == "_" and alphabet[1] == " " and 0 < least < 1 / len(alphabet)
    assert abs(probabilities.sum(axis=1) - 1).max() < 1e-3
    found, last = [], 0
    for label in probabilities.argmax(axis=1):
        if label not in (0, last):
            found.append(alphabet[label])
        last = label
    return "".join(found), None
"""


def test_decoders_of_another_environment_are_run_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "fast_ctc_decode.py").write_text(STAND_IN)
    monkeypatch.setattr(other_environment, "environment", lambda: (python, ""))
    task = made_up_emissions.made_up(60, 8, 3)
    job = other_environment.Job("fast-ctc-decode", 5, 1, 1, False, 0.5, 0.5)
    two = other_environment.Job("fast-ctc-decode", 5, 2, 1, False, 0.5, 0.5)
    alone, together = other_environment.run_elsewhere(task, [job, two])
    assert alone.texts == together.texts
    assert min(alone.seconds, together.seconds) > 0
    greedy = bench_decoding.GreedyDecoder(task.units, 0.04)
    batch = bench_decoding.batch_of(task.items)
    assert list(alone.texts) == [nbest[0].text for nbest in greedy.decode(*batch)]


def test_what_cannot_be_installed_is_told_in_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_environment, "environment", lambda: (None, "no network"))
    task = made_up_emissions.made_up(60, 8, 1)
    job = other_environment.Job("pyctcdecode", 5, 1, 1, True, 0.5, 0.5)
    [result] = other_environment.run_elsewhere(task, [job])
    assert result.reason == "cannot be installed: no network"


def test_a_decoder_that_fails_elsewhere_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_environment, "environment", lambda: (Path(sys.executable), ""))
    task = made_up_emissions.made_up(60, 8, 1)
    job = other_environment.Job("fast-ctc-decode", 5, 1, 1, False, 0.5, 0.5)
    [result] = other_environment.run_elsewhere(task, [job])
    assert "No module named 'fast_ctc_decode'" in result.reason
