"""What is checked before the first step, as the command does it, and that nothing comes of it."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from asr.commands import preflight
from asr.commands.compose import compose
from asr.commands.main import main
from asr.commands.preflight import Preflight
from asr.commands.runs import run_folder
from asr.commands.training_data import gather
from asr.commands.training_module import build
from asr.config import Config
from asr.corpus import Corpus
from asr.models.lstm import LstmEncoder
from asr.training.checkpoint import checkpoints
from asr.training.largest import MicroBatch
from asr.training.module import CtcTraining
from asr.training.place import Place
from asr.training.preflight import Unknown

Usage = namedtuple("Usage", "total used free")

WORDS = [
    "recipe=custom",
    "model.hidden=64",
    "model.channels=4",
    "model.layers=2",
    "data.max_utterances=8",
    "trainer.threads=1",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=1",
    "augment.speed.start_epoch=1",
]
FOUR = "trainer.max_epochs=4"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tone_manifest: Path) -> str:
    """A corpus with a recording of the test in training twice, and a letter in the test alone."""
    folder = tmp_path_factory.mktemp("corpus") / "tones"
    shutil.copytree(tone_manifest.parent, folder)
    lines = [json.loads(line) for line in tone_manifest.read_text().splitlines()]
    (test, other) = [line for line in lines if line["split"] == "test"][:2]
    lines += [{**test, "id": f"again-{number}", "split": "train"} for number in (1, 2)]
    test["text"], other["text"] = "a büü", "ü"
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    prepared = f"prepare.folder={folder / 'prepared'}"
    assert main(["prepare", "recipe=custom", f"recipe.root={manifest}", prepared]) == 0
    return prepared


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(corpus: str, *words: str) -> Preflight:
    config = compose([*WORDS, corpus, *words])
    opened = Corpus.open(config.prepare.folder)
    data = gather(config, opened)
    module, _ = build(config, data, opened.normaliser, config.trainer.max_epochs)
    return Preflight(config, data, module, run_folder(config), Place())


TOLD = (
    "train: no unit spells 'ü' (3 times, as in tones-56) in test: the model cannot write it\n"
    "train: 2 training utterances have the same audio as one of test (again-1 and tones-56, for"
    " example): they stay, and scores on test flatter\n"
)


def test_alone_it_tells_of_every_check_and_leaves_no_trace(
    corpus: str, working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *WORDS, corpus, "preflight=only"]) == 0
    told = capsys.readouterr()
    rows = {line[:11].strip(): line[11:] for line in told.out.splitlines()}
    assert list(rows) == ["data", "units", "duplicates", "disk", "precision", "memory", "took"]
    assert rows["data"].startswith("50 utterances")
    assert rows["units"] == "1 unknown in test"
    assert rows["duplicates"] == "2 with the audio of one of test"
    assert " MB for checkpoints and model; " in rows["disk"]
    assert rows["precision"] == "32-true on cpu"
    assert rows["memory"].startswith("there is enough for ")
    assert float(rows["took"].split(" s;")[0]) < 10
    assert told.err == TOLD
    assert list(working_folder.iterdir()) == []


def test_alone_it_goes_on_after_a_check_that_fails_and_its_status_says_so(
    corpus: str,
    working_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 1000, 1000))
    assert main(["train", *WORDS, corpus, "preflight=only"]) == 2
    out = capsys.readouterr().out
    assert "disk       FAILED: Checkpoints and model of runs/custom/base will take" in out
    assert "memory     there is enough for " in out


@pytest.fixture(scope="module")
def trained(corpus: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was checked and trained."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        assert main(["train", *WORDS, corpus, "trainer.checkpoint_steps=2"]) == 0
    return folder / "runs/custom/base"


def weights(run: Path) -> dict[str, bytes]:
    tensors = load_file(run / "model/weights.safetensors")
    return {key: value.tobytes() for key, value in tensors.items()}


def test_a_training_logs_what_should_be_known_and_is_otherwise_the_same(
    trained: Path, corpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = (trained / "log.txt").read_text()
    assert all(line in log for line in TOLD.splitlines())
    monkeypatch.setattr(Preflight, "check", lambda self: None)
    assert main(["train", *WORDS, corpus]) == 0
    assert weights(trained) == weights(Path("runs/custom/base"))
    untrained = made(corpus).module.averaged.state_dict()
    assert untrained.keys() == weights(trained).keys()
    assert weights(trained) != {name: value.numpy().tobytes() for name, value in untrained.items()}


def test_a_precision_that_does_not_work_here_is_told_logged_and_not_used(
    trained: Path, corpus: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = LstmEncoder.layer_outputs

    def raising(self: LstmEncoder, *arguments: Any) -> Any:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("could not create a primitive")
        return outputs(self, *arguments)

    monkeypatch.setattr(LstmEncoder, "layer_outputs", raising)
    assert main(["train", *WORDS, corpus, "trainer.precision=bf16-mixed"]) == 0
    line = (
        "train: trainer.precision=bf16-mixed does not work on this CPU (could not create a"
        " primitive): 32-true instead\n"
    )
    assert TOLD + line in capsys.readouterr().err
    assert line in Path("runs/custom/base/log.txt").read_text()
    assert weights(Path("runs/custom/base")) == weights(trained)


def test_disk_is_asked_for_what_a_run_really_writes(trained: Path, corpus: str) -> None:
    asked = made(corpus)._disk()
    written = checkpoints(trained / "checkpoints")
    assert len(written) == 3
    largest = max(path.stat().st_size for path in written)
    model = (trained / "model/weights.safetensors").stat().st_size
    expected = 4 * largest + 2 * model  # a new one is written before an old one goes
    assert float(asked.split(" MB")[0]) == pytest.approx(expected / 1e6, rel=0.1)


def test_a_check_that_fails_ends_the_training_before_it_has_a_name(
    corpus: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def losses(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(CtcTraining, "losses", losses)
    assert main(["train", *WORDS, corpus]) == 2
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert complaint.startswith("asr: There is no memory here for ")
    assert "data.device_batch_s=" in complaint
    assert not Path("runs").exists()


@pytest.mark.parametrize(("devices", "share"), [(1, 8_000_000), (4, 2_000_000)])
def test_the_ranks_of_a_machine_share_its_memory(
    devices: int, share: int, corpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[int | None] = []
    limit = preflight.memory_limit
    monkeypatch.setattr(preflight, "available_bytes", lambda: 8_000_000)
    monkeypatch.setattr(preflight, "memory_limit", lambda more: limits.append(more) or limit(10**9))
    made(corpus, f"trainer.devices={devices}").check()
    assert set(limits) == {share}


def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[tuple[range, int, int]]:
    """The epochs, rank and world whose largest batch is asked for."""
    asked: list[tuple[range, int, int]] = []
    largest = preflight.largest_micro_batches

    def told(batches: Any, epochs: range, rank: int, world: int) -> list[MicroBatch]:
        asked.append((epochs, rank, world))
        return largest(batches, epochs, rank, world)

    monkeypatch.setattr(preflight, "largest_micro_batches", told)
    return asked


def test_the_largest_batch_is_that_of_the_epochs_to_come_and_of_the_ranks_share(
    corpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = looked_at(monkeypatch)
    two = made(corpus, "trainer.devices=2", FOUR)
    two.place = Place(rank=1, world=2, local=2)
    two.check()
    folder = Path("runs/custom/base/checkpoints")
    folder.mkdir(parents=True)
    (folder / "epoch-00002-batch-0000003.ckpt").touch()
    made(corpus, FOUR).check()
    (folder / "epoch-00004.ckpt").touch()  # killed before it could say that it was finished
    made(corpus, FOUR).check()
    assert asked == [(range(1, 5), 1, 2), (range(3, 5), 0, 1), (range(4, 5), 0, 1)]


def test_the_share_of_a_device_is_found_out_on_a_gpu_alone(
    corpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def find(module: nn.Module, batches: Any, largest: MicroBatch, precision: str) -> float:
        asked.append(largest.padded_s)
        return 3.0

    proved: list[float] = []
    prove = preflight.check_memory

    def told(module: Any, batches: Any, largest: MicroBatch, precision: str) -> None:
        proved.append(largest.padded_s)
        prove(module, batches, largest, precision)

    monkeypatch.setattr(preflight, "find_device_batch_s", find)
    monkeypatch.setattr(preflight, "check_memory", told)
    on_cpu = made(corpus, "data.device_batch_s=auto")
    on_cpu.check()
    assert asked == []
    assert proved[0] == pytest.approx(share_s(on_cpu), abs=0.01)
    assert on_cpu.data.batches.device_batch_s is None

    gpu = made(corpus, "data.device_batch_s=auto")
    gpu.device = torch.device("cuda", 0)
    cpu = preflight.rehearsal
    monkeypatch.setattr(preflight, "rehearsal", lambda module, device: cpu(module, on_cpu.device))
    proved.clear()
    gpu.check()
    assert 2.0 < proved[0] <= 3.0
    assert asked == [pytest.approx(share_s(on_cpu), abs=0.01)]
    assert gpu.data.batches.device_batch_s == 3.0
    assert gpu.lines[-1] == "train: data.device_batch_s=auto: cuda:0 takes 3 s at once"

    given = made(corpus, "data.device_batch_s=2.5")
    given.device = gpu.device
    given.check()
    assert len(asked) == 1
    assert given.data.batches.device_batch_s == 2.5


def share_s(checks: Preflight) -> float:
    """Seconds of the largest batch, padding included, found by making all of them."""
    return max(
        share.micro_batches[0].waveforms.numel() / 16_000 for share in checks.data.batches.shares(1)
    )


def test_of_many_unknown_symbols_the_most_frequent_are_named() -> None:
    unknown = [Unknown(symbol, 9 - number, "u1") for number, symbol in enumerate("äëïöüÿå")]
    listed = preflight._listed(unknown)
    assert listed.startswith("'ä' (9 times, as in u1), 'ë' (8 times")
    assert listed.endswith("'ü' (5 times, as in u1) and 2 more")


@pytest.mark.parametrize(
    ("variables", "world", "index"),
    [
        ({}, 1, 0),
        ({"LOCAL_RANK": "3"}, 1, 0),
        ({"LOCAL_RANK": "3"}, 8, 3),
        ({"SLURM_LOCALID": "2"}, 8, 2),
        ({"LOCAL_RANK": "1", "SLURM_LOCALID": "0"}, 8, 1),
        ({"SLURM_LOCALID": "5"}, 8, 1),  # each task sees some of the devices alone
    ],
)
def test_each_rank_tries_the_device_that_it_trains_on(
    variables: dict[str, str], world: int, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    config: Config = compose(["recipe=custom"])
    monkeypatch.setattr(preflight, "choose_device", lambda accelerator, devices: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert preflight._device(config, Place(world=world)) == torch.device("cuda", index)
    monkeypatch.setattr(preflight, "choose_device", lambda accelerator, devices: "cpu")
    assert preflight._device(config, Place(world=world)) == torch.device("cpu")
