"""A step that is not finite is named, left out and counted; too many of them end the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from asr.commands.compose import compose
from asr.commands.main import main
from asr.commands.train import train
from asr.data.batch import Batch
from asr.errors import UserError
from asr.training.checkpoint import checkpoints
from asr.training.module import CtcTraining

WORDS = [
    "recipe=custom",
    "augment=none",
    "model.hidden=8",
    "model.channels=2",
    "model.layers=2",
    "model.dropout=0",
    "data.max_utterances=8",
    "trainer.threads=1",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=1",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tone_manifest: Path) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "tones"
    words = ["recipe=custom", f"recipe.root={tone_manifest}", f"prepare.folder={folder}"]
    assert main(["prepare", *words]) == 0
    return folder


def spoil(monkeypatch: pytest.MonkeyPatch, spoilt: Callable[[str], bool]) -> None:
    """Make features of some utterances, by id, not a number."""
    heard = CtcTraining.augmented_features

    def spoiling(self: CtcTraining, batch: Batch) -> tuple[Tensor, Tensor]:
        features, lengths = heard(self, batch)
        for row, name in enumerate(batch.ids):
            if spoilt(name):
                features[row] = float("nan")
        return features, lengths

    monkeypatch.setattr(CtcTraining, "augmented_features", spoiling)


def position(name: str) -> dict[str, Any]:
    newest = checkpoints(Path("runs/custom", name, "checkpoints"))[0]
    state: dict[str, Any] = torch.load(newest, weights_only=True)["position"]
    return state


def test_a_step_that_is_not_finite_changes_nothing_and_is_named(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil(monkeypatch, lambda name: name == "tones-07")
    assert train(compose([*WORDS, f"prepare.folder={corpus}"])) == 0
    said = capsys.readouterr().err
    assert said.count("is not finite and left out") == 1
    assert "utterances tones-07" in said
    assert position("base")["skipped"] == 1
    assert position("base")["steps"] == 6
    newest = checkpoints(Path("runs/custom/base/checkpoints"))[0]
    weights = torch.load(newest, weights_only=True)["weights"]
    assert all(bool(value.isfinite().all()) for value in weights.values())
    loss = (tmp_path / "runs/custom/base/metrics.csv").read_text().splitlines()[1].split(",")[2]
    assert float(loss) > 0


def test_too_many_end_the_run_with_the_batch_on_the_disk(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil(monkeypatch, lambda name: True)
    with pytest.raises(UserError, match=r"3 steps were not finite.*max_skipped=2") as refused:
        train(compose([*WORDS, f"prepare.folder={corpus}", "trainer.max_skipped=2"]))
    path = tmp_path / "runs/custom/base/not-finite-rank0.pt"
    assert "not-finite-rank0.pt" in str(refused.value)
    saved = torch.load(path, weights_only=True)
    (batch,) = saved["micro_batches"]
    assert saved["position"]["skipped"] == 3
    assert sorted(batch["ids"]) == saved["blamed"]
    assert batch["waveforms"].shape[0] == len(batch["texts"]) == 8
    assert json.dumps(batch["texts"])


def test_a_gradient_that_is_not_finite_is_left_out_where_every_loss_is(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    backward = CtcTraining.manual_backward

    def exploding(self: CtcTraining, loss: Tensor, *args: Any) -> None:
        backward(self, loss, *args)
        if self.position.steps == 2:
            next(self.network.parameters()).grad.fill_(float("inf"))  # type: ignore[union-attr]

    monkeypatch.setattr(CtcTraining, "manual_backward", exploding)
    assert train(compose([*WORDS, f"prepare.folder={corpus}"])) == 0
    assert "step 3 of epoch 1 is not finite" in capsys.readouterr().err
    assert position("base")["skipped"] == 1


def test_what_the_scale_of_half_precision_costs_is_not_held_against_the_run(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    step = CtcTraining._step

    class Scaler:
        """Overflows at each step, as at a scale that is far too high."""

        def unscale_(self, optimiser: torch.optim.Optimizer) -> None:
            for group in optimiser.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.full_like(parameter, float("inf"))

        def step(self, optimiser: torch.optim.Optimizer) -> None: ...

        def update(self) -> None: ...

        def get_scale(self) -> float:
            return 65536.0

        def state_dict(self) -> dict[str, Any]:
            return {}

    def scaled(self: CtcTraining, optimiser: torch.optim.Optimizer) -> bool:
        self.trainer.precision_plugin.scaler = Scaler()  # type: ignore[attr-defined]
        return step(self, optimiser)

    monkeypatch.setattr(CtcTraining, "_step", scaled)
    words = [*WORDS, f"prepare.folder={corpus}", "name=scaled", "trainer.max_skipped=0"]
    assert train(compose(words)) == 0
    assert (position("scaled")["skipped"], position("scaled")["reported"]) == (6, 0)
