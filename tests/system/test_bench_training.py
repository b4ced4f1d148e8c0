"""The benchmarks of training on tiny sizes: what they measure is what they say."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from asr.commands.main import main
from asr.data.batch import Batch
from asr.data.dataset import Share, TrainingBatches
from asr.data.sampler import PlannedBatch
from asr.errors import UserError
from asr.models.lstm import LstmEncoder
from asr.training import record
from asr.training.module import CtcTraining

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY / "tools"))
accelerator: Any = importlib.import_module("accelerator")
bench_training: Any = importlib.import_module("bench_training")
made_up: Any = importlib.import_module("made_up")
plain_loop: Any = importlib.import_module("plain_loop")
resuming: Any = importlib.import_module("resuming")
stages: Any = importlib.import_module("stages")
trainings: Any = importlib.import_module("trainings")

CPU = ("trainer.threads=1", "trainer.accelerator=cpu")
TINY = ("model.hidden=8", "model.channels=2", "model.layers=2", "data.max_utterances=8")
STEPS = 6  # 48 utterances, 8 at a time

Bench = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing them takes longer than these trainings do."""
    monkeypatch.setattr(record, "draw_curves", lambda *arguments: None)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tone_manifest: Path) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "tones"
    words = ["recipe=custom", f"recipe.root={tone_manifest}", f"prepare.folder={folder}"]
    assert main(["prepare", *words]) == 0
    return folder


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., str]]:
    """A function: what `bench_training.py` prints, in a folder in which it leaves nothing."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)

    def bench(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["bench_training", *words])
        capsys.readouterr()
        assert bench_training.main() == 0
        assert list(tmp_path.iterdir()) == []
        return capsys.readouterr().out

    yield bench
    torch.set_num_threads(threads)


@pytest.fixture
def bench(run: Callable[..., str], corpus: Path) -> Bench:
    """A function: what it finds on the corpus of tones."""

    def found(*words: str) -> Any:
        tones = ("recipe=custom", f"prepare.folder={corpus}")
        return json.loads(run(*tones, *CPU, *TINY, *words, "--json"))

    return found


def test_every_moment_belongs_to_the_innermost_stage_that_is_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0, 15.0])  # where each of the calls finds the clock
    clock = SimpleNamespace(perf_counter=lambda: next(now), thread_time=lambda: 0.0)
    monkeypatch.setattr(stages, "time", clock)
    monkeypatch.setattr(stages, "processor_clock", lambda: clock.thread_time)
    watch = stages.Stopwatch()
    watch.enter("forward")
    watch.enter("features")
    watch.leave()
    watch.leave()
    watch.end_epoch()
    (epoch,) = watch.epochs
    told = {stage: seconds for stage, seconds in epoch.wall_s.items() if seconds}
    assert told == {"rest": 1.0 + 5.0, "forward": 2.0 + 4.0, "features": 3.0}


def test_every_stage_of_a_training_is_told(bench: Bench) -> None:
    found = bench("--epochs", "2")
    assert [epoch["steps"] for epoch in found["epochs"]] == [STEPS, STEPS]
    last = found["epochs"][-1]
    step_s = sum(last["wall_s"][stage] for stage in ("forward", "backward", "optimiser"))
    assert found["step_share"] == pytest.approx(step_s / sum(last["wall_s"].values()))
    for times in (last["wall_s"], last["processor_s"]):
        assert list(times) == list(stages.STAGES)
    assert min(last["wall_s"].values()) > 0
    assert last["resident_mb"] > 50


def test_loading_is_the_time_that_the_step_waits_for_the_next_batch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = TrainingBatches.batch

    def slow(self: TrainingBatches, planned: PlannedBatch) -> Batch:
        time.sleep(0.2)
        return batch(self, planned)

    monkeypatch.setattr(TrainingBatches, "batch", slow)
    (epoch,) = bench("--epochs", "1")["epochs"]
    computing_s = sum(epoch["wall_s"][stage] for stage in (*stages.STEP, "features"))
    # One batch after another is read, whatever is computed beside it.
    assert epoch["wall_s"]["loading"] > 0.5 * (STEPS * 0.2 - computing_s)
    assert epoch["processor_s"]["loading"] < 0.5 * STEPS * 0.2


def test_the_plain_loop_trains_the_very_weights_that_training_does(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    both: list[tuple[CtcTraining, Any, torch.Tensor]] = []

    class Kept(plain_loop.PlainLoop):  # type: ignore[misc, name-defined]
        def __init__(self, module: CtcTraining, precision: str) -> None:
            super().__init__(module, precision)
            both.append((module, self, self.network.head.weight.detach().clone()))

    monkeypatch.setattr(plain_loop, "PlainLoop", Kept)
    pieces = "data.device_batch_s=4"  # of which a batch takes several
    found = bench("model.dropout=0", pieces, "--epochs", "2", "--against-loop")
    ((module, loop, start),) = both
    assert loop.steps == 2 * STEPS
    assert not torch.equal(loop.network.head.weight, start)
    for name in ("network", "averaged", "inner_head"):
        trained = getattr(module, name).state_dict()
        for key, weights in getattr(loop, name).state_dict().items():
            assert torch.equal(weights, trained[key]), f"{name}.{key}"

    _, last = found["epochs"]  # the first does not count
    assert found["training"] == pytest.approx(last["audio_s"] / last["training_s"])
    assert found["loop"] == pytest.approx(last["audio_s"] / last["loop_s"])
    assert found["ratio"] == pytest.approx(last["loop_s"] / last["training_s"])
    processor = last["loop_processor_s"] / last["training_processor_s"]
    assert found["ratio_of_processor"] == pytest.approx(processor)
    assert 0 < last["training_processor_s"] <= 1.1 * last["training_s"]


def test_a_training_apart_is_the_command_itself(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def here(command: list[str], **how: object) -> SimpleNamespace:
        assert command[:3] == [sys.executable, "-m", "asr"]
        return SimpleNamespace(returncode=main(command[3:]), stderr="a reason")

    monkeypatch.setattr(trainings, "subprocess", SimpleNamespace(run=here))
    words = ["recipe=custom", f"prepare.folder={corpus}", *CPU, *TINY]
    records = trainings.train_apart([*words, "trainer.max_epochs=2"])
    assert [record.steps for record in records] == [STEPS, 2 * STEPS]
    second = records[1]
    assert trainings.audio_rate(records) == second.audio_s / second.train_s
    with pytest.raises(UserError, match="a reason"):
        trainings.train_apart([*words, "prepare.folder=nowhere"])


def test_one_process_and_several_take_turns(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    seconds = iter([10, 6, 8, 5, 9, 4])

    def apart(words: list[str]) -> list[SimpleNamespace]:
        asked.append(words)
        return [SimpleNamespace(audio_s=360, train_s=next(seconds))]

    monkeypatch.setattr(bench_training, "train_apart", apart)
    found = json.loads(run("recipe=an4", "--ranks", "2", "--turns", "3", "--json"))
    assert [words[-1] for words in asked] == ["trainer.devices=1", "trainer.devices=2"] * 3
    assert all("trainer.threads=1" in words for words in asked)
    assert found["rates"] == {"1": [36, 45, 40], "2": [60, 72, 90]}
    assert found["speed_up"] == 72 / 40


class LeftError(Exception):
    """In place of the end of the process."""


def test_a_start_is_measured_until_the_batch_of_its_position_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    positions: list[int] = []
    shares = TrainingBatches.shares

    def told(self: TrainingBatches, epoch: int, position: int, *place: int) -> Iterator[Share]:
        for number, share in enumerate(shares(self, epoch, position, *place), start=position):
            indices = self.plan.epoch(epoch)[number].indices
            assert share.micro_batches[0].ids == tuple(f"train-{row}" for row in indices)
            positions.append(number)
            yield share

    def leave(status: int) -> None:
        raise LeftError

    def here(folder: Path, words: list[str], utterances: int, saved_at: int = 0) -> str:
        order = {"words": [*resuming.SMALL, *words], "utterances": utterances}
        capsys.readouterr()
        positions.clear()
        monkeypatch.chdir(folder)
        with contextlib.suppress(LeftError):
            status = resuming.main({**order, "saved_at": saved_at, "began": time.time()})
            assert status == resuming.SAVED
        if not saved_at:
            assert positions[0] == int(folder.name)
        return capsys.readouterr().out

    monkeypatch.setattr(TrainingBatches, "shares", told)
    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(resuming, "child", here)
    words = [*CPU, "model.hidden=8", "model.channels=2"]
    early, late = resuming.measure(words, 60, [2, 7], turns=2)
    assert (early.position, late.position) == (2, 7)
    assert min(early.corpus_s, early.resume_s, late.corpus_s, late.resume_s) > 0
    with pytest.raises(UserError, match=r"the epoch has 1\d batches only"):
        resuming.measure(words, 60, [1000], turns=1)


def test_a_start_is_that_of_a_whole_process(tmp_path: Path) -> None:
    began = time.monotonic()
    words = [*CPU, "model.hidden=8", "model.channels=2"]
    start = json.loads(resuming.child(tmp_path, words, 20))
    elapsed_s = time.monotonic() - began
    assert start["position"] == 0
    assert 0.2 < start["imports_s"] < elapsed_s
    assert start["corpus_s"] + start["resume_s"] < elapsed_s - start["imports_s"]


def test_the_table_of_starts_compares_late_with_early(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = [resuming.Start(10, 5.0, 3.0, 1.0), resuming.Start(90, 5.0, 3.5, 1.1)]
    monkeypatch.setattr(resuming, "measure", lambda *arguments: starts)
    found = json.loads(run("--resume", "--json"))
    assert found["utterances"] == 1_000_000
    assert found["after_imports"] == pytest.approx(4.6 / 4.0)
    assert found["from_checkpoint"] == pytest.approx(1.1)


def test_made_up_utterances_are_as_long_as_they_say() -> None:
    split = made_up.MadeUpSplit("train", 2000, 20, 5.0)
    assert 11 < split.durations_s.mean() < 14
    for row in (0, 7, 1999):
        assert len(split.waveform(row)) == split.samples[row]
        assert len(split.texts[row]) == int(split.durations_s[row] * 5)
        assert np.abs(split.waveform(row)).max() > 1000
    assert len(set("".join(split.texts))) == 20
    assert not any(a == b for text in split.texts for a, b in itertools.pairwise(text))


def test_every_network_for_a_gpu_trains(run: Callable[..., str]) -> None:
    found = json.loads(run("--gpu-table", "--quick", "trainer.threads=1", "--json"))
    assert found["published_utterances_per_s"] == 460
    names = [workload.name for workload in accelerator.WORKLOADS]
    assert [row["workload"] for row in found["rows"]] == names
    for row in found["rows"]:
        assert row["precision"] == "32-true"
        assert row["utterances_per_s"] > 0
        assert row["audio_s_per_s"] / row["utterances_per_s"] == pytest.approx(12.3, abs=6)
        assert row["kernels"] > 0
        assert row["memory_gb"] is row["utilisation"] is None


def test_the_sizes_for_a_gpu_are_not_tried_on_a_cpu(run: Callable[..., str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, which would be measured")
    with pytest.raises(UserError, match="needs a CUDA device"):
        run("--gpu-table")


def test_the_kernels_of_all_layers_and_directions_count_as_often_as_they_ran(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = LstmEncoder(20, hidden=4, channels=2, layers=3)
    sizes: list[tuple[int, ...]] = []

    def a_second(call: Callable[[], None], steps: int, device: torch.device) -> float:
        return 1.0

    def noted(size: tuple[int, ...], **how: Any) -> torch.Tensor:
        sizes.append(size)
        return torch.zeros(size, requires_grad=True)

    monkeypatch.setattr(accelerator, "seconds_of", a_second)
    monkeypatch.setattr(torch, "randn", noted)
    shapes = Counter({(2, 5): 3, (4, 6): 1})
    cpu = torch.device("cpu")
    assert accelerator.kernels_s(encoder.layers, shapes, cpu, torch.float32) == 3 * 2 * (3 + 1)
    assert sizes[:2] == [(2, 5, 4), (4, 6, 4)]  # from the convolutions
    assert sizes[-2:] == [(2, 5, 8), (4, 6, 8)]  # from both directions below


def test_utilisation_is_the_mean_of_what_the_driver_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    told = tmp_path / "told"
    program.write_text(f"#!/bin/sh\nprintf '40\\n90\\n'\necho \"$@\" > {told}\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    properties = SimpleNamespace(uuid="1234")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    busy = accelerator.Utilisation(torch.device("cuda"))
    busy.start()
    deadline = time.monotonic() + 20
    while not told.exists() or not told.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    busy.stop()
    assert busy.mean == pytest.approx(0.65)
    assert "-i GPU-1234" in told.read_text()

    nobody = accelerator.Utilisation(torch.device("cuda"))
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    nobody.start()
    nobody.stop()
    assert nobody.mean is None
