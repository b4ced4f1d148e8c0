"""A run goes on from any step as if nothing had been, and no failed write harms what was there."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

import asr.files
from asr.commands.compose import compose
from asr.commands.main import main
from asr.commands.train import train
from asr.data.dataset import Share
from asr.errors import UserError
from asr.training import checkpoint
from asr.training.checkpoint import checkpoints, newest_readable, write
from asr.training.module import CtcTraining, Position

WORDS = [
    "recipe=custom",
    "augment=none",
    "model.hidden=8",
    "model.channels=2",
    "model.layers=2",
    "model.dropout=0.2",
    "data.max_utterances=8",
    "trainer.threads=1",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=2",
    "trainer.checkpoint_steps=1",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tone_manifest: Path) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "tones"
    words = ["recipe=custom", f"recipe.root={tone_manifest}", f"prepare.folder={folder}"]
    assert main(["prepare", *words]) == 0
    return folder


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The utterances of each step that is really taken, in order."""
    steps: list[tuple[str, ...]] = []
    step = CtcTraining.training_step

    def told(self: CtcTraining, share: Share, batch_idx: int) -> None:
        steps.extend(batch.ids for batch in share.micro_batches)
        step(self, share, batch_idx)

    monkeypatch.setattr(CtcTraining, "training_step", told)
    return steps


def weights(name: str) -> dict[str, bytes]:
    tensors = load_file(f"runs/custom/{name}/model/weights.safetensors")
    return {key: value.tobytes() for key, value in tensors.items()}


def fit(corpus: Path, *words: str) -> None:
    assert train(compose([*WORDS, f"prepare.folder={corpus}", *words])) == 0


def test_the_first_steps_and_the_rest_are_all_of_them_wherever_a_run_is_taken_up(
    corpus: Path, served: list[tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoint, "KEPT", 1000)
    fit(corpus, "name=whole")
    every, expected = list(served), weights("whole")
    record = Path("runs/custom/whole/metrics.csv").read_text().splitlines()
    assert len(every) == 12
    assert len(set(every[:6])) == 6
    served.clear()
    fit(corpus, "name=other", "seed=2")
    assert list(served) != every
    assert weights("other") != expected

    paths = sorted(checkpoints(Path("runs/custom/whole/checkpoints")))
    taken = [torch.load(path, weights_only=True)["position"]["steps"] for path in paths]
    assert sorted(taken) == [*range(1, 6), *range(6, 13)]
    for path, done in zip(paths, taken, strict=True):
        folder = Path("runs/custom", f"from-{done}")
        (folder / "checkpoints").mkdir(parents=True)
        shutil.copy(path, folder / "checkpoints")
        for kept in ("config.yaml", "metrics.csv", "model"):
            source = Path("runs/custom/whole", kept)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / kept)
        served.clear()
        fit(corpus, f"name=from-{done}")
        assert list(served) == every[done:]
        assert weights(f"from-{done}") == expected
        again = (folder / "metrics.csv").read_text().splitlines()
        assert [line.split(",")[:7] for line in again] == [line.split(",")[:7] for line in record]


def test_an_epoch_that_lacks_only_its_validation_is_validated(
    corpus: Path, served: list[tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fit(corpus, "name=whole")
    validate = CtcTraining.validation_step

    def interrupted(self: CtcTraining, batch: Any, batch_idx: int) -> None:
        if self.position.epoch == 1:
            os.kill(os.getpid(), 15)
        validate(self, batch, batch_idx)

    monkeypatch.setattr(CtcTraining, "validation_step", interrupted)
    assert train(compose([*WORDS, f"prepare.folder={corpus}", "name=stopped"])) == 143
    newest = checkpoints(Path("runs/custom/stopped/checkpoints"))[0]
    assert newest.name == "epoch-00001-batch-0000006.ckpt"
    monkeypatch.setattr(CtcTraining, "validation_step", validate)
    served.clear()
    fit(corpus, "name=stopped")
    assert served == []
    assert weights("stopped") == weights("whole")


class Stub(nn.Linear):
    """As much of a training as is written."""

    def __init__(self) -> None:
        super().__init__(64, 64)
        self.optimiser = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        self.position = Position(1, 0, 10)
        self.history = [0.5]

    def optimizers(self, use_pl_optimizer: bool) -> torch.optim.Optimizer:
        return self.optimiser


TRAINER: Any = SimpleNamespace(precision_plugin=None, callbacks=[])


class Failing:
    """Fails the Nth time that something is asked of the disk."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return call(*args, **kwargs)

        return counted


def test_whichever_write_fails_the_former_checkpoint_stays_whole_and_the_failure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = Stub()
    former = write(tmp_path, TRAINER, module)
    content = former.read_bytes()
    module.position = Position(1, 5, 15)
    real_open = open
    failures = 0
    while True:
        failing = Failing(failures + 1)

        def opened(path: Any, mode: str = "r", fail: Failing = failing, **options: Any) -> Any:
            handle = fail(real_open)(path, mode, **options)
            if isinstance(handle, io.BufferedWriter):
                write_bytes = fail(handle.write)
                return Handle(handle, write_bytes)
            return handle

        with monkeypatch.context() as patched:
            patched.setattr(asr.files, "open", opened, raising=False)
            for name in ("fsync", "replace"):
                patched.setattr(asr.files.os, name, failing(getattr(os, name)))
            told = ""
            try:
                write(tmp_path, TRAINER, module)
            except UserError as error:
                told = str(error)
        if failing.left > 0:  # nothing has failed
            break
        assert "No space left on device" in told
        assert "epoch-00001-batch-0000005.ckpt" in told
        failures += 1
        assert former.read_bytes() == content
        others = [path for path in tmp_path.iterdir() if path != former]
        if failures < 6:
            assert others == []
        else:  # it had its name, and is whole; whether the disk has noted the name is not sure
            assert torch.load(others[0], weights_only=True)["position"]["steps"] == 15
    assert failures == 6  # open, two writes, fsync of the file, rename, fsync of the folder
    found = newest_readable(tmp_path, print)
    assert found is not None
    assert found[1]["position"]["steps"] == 15


class Handle:
    """A file whose writes are counted."""

    def __init__(self, handle: io.BufferedWriter, write_bytes: Callable[..., Any]) -> None:
        self.handle = handle
        self.write = write_bytes

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.handle.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.handle, name)


def rates(name: str) -> list[str]:
    lines = Path(f"runs/custom/{name}/metrics.csv").read_text().splitlines()[1:]
    return [line.split(",")[3] for line in lines]


def test_an_epoch_that_is_not_validated_has_no_error_rate(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fit(corpus, "name=seldom", "trainer.validate_every=2", "trainer.max_epochs=5")
    assert [rate == "nan" for rate in rates("seldom")] == [True, False, True, False, True]


def test_a_run_that_ends_before_its_first_validation_keeps_its_last_epoch(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fit(corpus, "name=short", "trainer.validate_every=3")
    assert weights("short")
    finished = json.loads(Path("runs/custom/short/finished.json").read_text())
    assert (finished["epochs"], finished["best_epoch"], finished["best_wer"]) == (2, 2, None)


def test_no_checkpoint_is_written_by_the_clock_where_that_is_switched_off(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoint, "KEPT", 1000)
    every = ["trainer.checkpoint_steps=0", "trainer.checkpoint_minutes=1e-9"]
    for name, words, count in (("often", every, 12), ("seldom", [], 2)):
        words = words or ["trainer.checkpoint_steps=0", "trainer.checkpoint_minutes=0"]
        fit(corpus, f"name={name}", *words)
        assert len(checkpoints(Path(f"runs/custom/{name}/checkpoints"))) == count


def test_what_a_kill_in_the_middle_of_a_write_left_is_removed(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torn = Path("runs/custom/torn/checkpoints/.epoch-00001.ckpt.1234.partial")
    torn.parent.mkdir(parents=True)
    torn.touch()
    fit(corpus, "name=torn", "trainer.max_epochs=1")
    assert not torn.exists()
