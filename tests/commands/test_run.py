"""`asr run` is prepare, train and evaluate, and stops where one does not end well."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from asr.commands import run as command
from asr.commands.compose import compose
from asr.errors import UserError


@pytest.mark.parametrize(
    ("statuses", "called", "status"),
    [
        ((0, 0, 0), ["prepare", "train", "evaluate"], 0),
        ((1, 0, 0), ["prepare"], 1),
        ((0, 130, 0), ["prepare", "train"], 130),
        ((0, 0, 1), ["prepare", "train", "evaluate"], 1),
    ],
)
def test_the_stages_run_in_order_until_one_fails(
    statuses: tuple[int, ...], called: list[str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def stage(name: str, result: int) -> None:
        def run(config: object) -> int:
            assert config is settings
            seen.append(name)
            return result

        monkeypatch.setattr(command, name, run)

    settings = compose(["recipe=an4"])
    monkeypatch.setattr(command, "check_split", lambda config: 0)
    for name, result in zip(("prepare", "train", "evaluate"), statuses, strict=True):
        stage(name, result)

    assert command.run(settings) == status
    assert seen == called


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("model.layers=0", "layers is at least 1, not 0"),
        ("model.hidden=-3", "hidden is at least 1, not -3"),
        ("model.dropout=1.0", r"dropout lies in \[0, 1\)"),
        ("model.subsampling=5", "subsampling is one of 2, 3, 4, 6, not 5"),
    ],
)
def test_sizes_that_fit_nothing_are_refused_before_the_corpus_is_prepared(
    word: str, why: str, tone_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["recipe=custom", f"recipe.root={tone_manifest}", word]
    with pytest.raises(UserError, match=why):
        command.run(compose(words))
    assert not list(tmp_path.iterdir())


def test_a_corpus_without_the_split_to_score_is_found_before_training(
    tone_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.loads(line) for line in tone_manifest.read_text().splitlines()]
    kept = [line for line in lines if line["split"] != "test"]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    for line in kept:
        shutil.copy(tone_manifest.parent / line["audio"], tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="has nothing in a split 'test'"):
        command.run(compose(["recipe=custom", "recipe.root=m.jsonl"]))
    assert not (tmp_path / "runs").exists()


def test_a_network_that_no_memory_holds_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"million weights take .* GB in training"):
        command.run(compose(["recipe=custom", "recipe.root=none.jsonl", "model.hidden=1000000"]))
