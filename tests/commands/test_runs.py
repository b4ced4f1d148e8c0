"""A run is found again by its settings, and never overwritten by another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from asr.commands.compose import compose
from asr.commands.runs import (
    Finished,
    claim,
    identity,
    occupied,
    read_finished,
    run_folder,
    write_finished,
)
from asr.errors import UserError


def test_the_same_settings_claim_the_same_folder_again(tmp_path: Path) -> None:
    config = compose(["recipe=an4"])
    claim(tmp_path / "run", config, "c0ffee")
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    claim(tmp_path / "run", config, "c0ffee")
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before


@pytest.mark.parametrize(
    "word",
    [
        "trainer.max_epochs=7",
        "trainer.accelerator=cpu",
        "trainer.threads=2",
        "cluster=ray",
        "name=x",
    ],
)
def test_where_and_how_long_it_runs_is_not_its_identity(tmp_path: Path, word: str) -> None:
    claim(tmp_path / "run", compose(["recipe=an4"]), "c0ffee")
    claim(tmp_path / "run", compose(["recipe=an4", word]), "c0ffee")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("seed=2", r"seed \(1 there, 2 here\)"),
        ("model.hidden=128", r"model.hidden \(256 there, 128 here\)"),
        ("augment=none", "augment.speed.factors"),
        ("units.whole_word_count=0", "units.whole_word_count"),
        ("optim.learning_rate=0.1", "optim.learning_rate"),
        ("data.batch_s=10", "data.batch_s"),
        ("features.mel_bins=40", "features.mel_bins"),
        ("inner_ctc.weight=0.1", "inner_ctc.weight"),
    ],
)
def test_another_run_under_the_same_name_is_refused(tmp_path: Path, word: str, said: str) -> None:
    claim(tmp_path / "run", compose(["recipe=an4"]), "c0ffee")
    with pytest.raises(UserError, match=said) as caught:
        claim(tmp_path / "run", compose(["recipe=an4", word]), "c0ffee")
    assert "name=" in str(caught.value)


def test_a_run_from_before_there_was_a_setting_is_the_same_where_that_changes_nothing(
    tmp_path: Path,
) -> None:
    config = compose(["recipe=an4"])
    claim(tmp_path / "run", config, "c0ffee")
    path = tmp_path / "run" / "config.yaml"
    stored = yaml.safe_load(path.read_text())
    del stored["settings"]["augment"]["join"]
    path.write_text(yaml.safe_dump(stored))
    claim(tmp_path / "run", config, "c0ffee")
    with pytest.raises(UserError, match=r"augment\.join\.probability"):
        claim(tmp_path / "run", compose(["recipe=an4", "augment.join.probability=0.5"]), "c0ffee")


def test_another_corpus_is_another_run(tmp_path: Path) -> None:
    config = compose(["recipe=an4"])
    claim(tmp_path / "run", config, "c0ffee")
    with pytest.raises(UserError, match=r"corpus \(c0ffee there, decaf here\)"):
        claim(tmp_path / "run", config, "decaf")


@pytest.mark.parametrize("content", ["", "settings: [", "settings: {seed: 1}"])
def test_a_run_folder_with_damaged_settings_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match="does not say which run this is"):
        claim(tmp_path, compose(["recipe=an4"]), "c0ffee")


def test_a_run_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UserError, match="Cannot write"):
        claim(tmp_path / "runs" / "an4" / "base", compose(["recipe=an4"]), "c0ffee")


def test_identity_holds_recipe_corpus_and_flat_keys() -> None:
    settings = {
        "recipe": {"name": "r", "root": "/x"},
        "trainer": {"max_epochs": 3},
        **{key: {} for key in ("units", "features", "augment", "inner_ctc", "optim", "data")},
        "seed": 1,
        "init": None,
        "freeze": [],
        "model": {"name": "lstm", "layers": 2},
    }
    assert identity(settings, "c") == {
        "recipe.name": "r",
        "corpus": "c",
        "seed": 1,
        "init": None,
        "freeze": [],
        "model.name": "lstm",
        "model.layers": 2,
    }


def test_how_a_run_ended_is_kept(tmp_path: Path) -> None:
    assert read_finished(tmp_path) is None
    finished = Finished(10, 12, 8, 0.25, 4_400_000, 900_000_000, None)
    write_finished(tmp_path, finished)
    assert read_finished(tmp_path) == finished


def test_a_run_that_ended_before_more_was_recorded_is_still_read(tmp_path: Path) -> None:
    old = '{"epochs": 10, "max_epochs": 12, "best_epoch": 8, "best_wer": 0.25}'
    (tmp_path / "finished.json").write_text(old)
    assert read_finished(tmp_path) == Finished(10, 12, 8, 0.25)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"epochs": 10, "unheard_of": 1}'])
def test_a_torn_record_of_the_end_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "finished.json").write_text(content)
    with pytest.raises(UserError, match=r"finished\.json does not say .* delete it"):
        read_finished(tmp_path)


def test_runs_lie_under_their_recipe(tmp_path: Path) -> None:
    config = replace(compose(["recipe=an4"]), name="try")
    assert run_folder(config) == Path("runs/an4/try")
    assert run_folder(config, "base") == Path("runs/an4/base")


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        occupied(tmp_path),
        pytest.raises(UserError, match="another process"),
        occupied(tmp_path),
    ):
        pytest.fail("two hold it")
    with occupied(tmp_path):
        pass
