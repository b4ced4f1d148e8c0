"""`asr run -m`: several runs from one command, interrupted, gone on with, and compared."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import pty
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

from asr.files import digest_file
from asr.training.checkpoint import DIGEST_SIZE

SMALL = [
    *("recipe=custom", "augment=none", "model.hidden=32", "model.channels=8", "model.layers=2"),
    *("model.dropout=0.1", "optim.learning_rate=8e-3", "optim.ema_decay=0.9"),
    *("data.max_utterances=8", "trainer.threads=1", "trainer.accelerator=cpu"),
    "trainer.max_epochs=6",
]
MEMBERS = ("rnn", "lstm", "gru")
MUCH_BYTES = 10**12


def asr(folder: Path, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "asr", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def rows(folder: Path, name: str) -> dict[str, dict[str, str]]:
    """The lines of a comparison, by the first of what varies."""
    with (folder / "runs/custom/comparisons" / f"{name}.csv").open(newline="") as stream:
        return {next(iter(line.values())): line for line in csv.DictReader(stream)}


@dataclass(frozen=True)
class Story:
    """What three members left and said: interrupted in the last one, then gone on with."""

    folder: Path
    interrupted: dict[str, dict[str, str]]
    status: int
    terminal: str
    lstm_then: str
    again: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, tone_manifest: Path) -> Story:
    folder = tmp_path_factory.mktemp("work")
    words = ["run", "-m", f"model={','.join(MEMBERS)}", *SMALL, f"recipe.root={tone_manifest}"]
    taken = folder / "runs/custom/model=rnn/config.yaml"
    taken.parent.mkdir(parents=True)
    taken.write_text("who knows whose")
    status, terminal = interrupt(folder, words, "model=gru")
    interrupted = rows(folder, "model=rnn+lstm+gru")
    lstm_then = digest_file(folder / "runs/custom/model=lstm/model/weights.safetensors")
    grow_peak(folder / "runs/custom/model=gru/checkpoints")
    taken.unlink()
    again = asr(folder, *words)
    return Story(folder, interrupted, status, terminal, lstm_then, again)


def interrupt(folder: Path, words: list[str], name: str) -> tuple[int, str]:
    """Start on a terminal, interrupt in the named run's second epoch; the status and stderr."""
    ours, theirs = pty.openpty()
    pieces: list[bytes] = []

    def read() -> None:
        while True:
            try:
                pieces.append(os.read(ours, 1 << 16))
            except OSError:  # how a pseudo terminal ends
                return

    reading = threading.Thread(target=read)
    reading.start()
    with (folder / "stdout.txt").open("w") as stdout:
        command = [sys.executable, "-m", "asr", *words]
        process = subprocess.Popen(command, cwd=folder, stdout=stdout, stderr=theirs)
    os.close(theirs)
    checkpoint = folder / f"runs/custom/{name}/checkpoints/epoch-00001.ckpt"
    deadline = time.monotonic() + 600
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    status = process.wait(300)
    reading.join()
    os.close(ours)
    return status, b"".join(pieces).decode()


def grow_peak(checkpoints: Path) -> None:
    """Let the process that wrote these have held more memory than any other."""
    for path in checkpoints.iterdir():
        content = torch.load(path, weights_only=True)
        content["callbacks"]["PeakMemory"]["resident_bytes"] = MUCH_BYTES
        written = io.BytesIO()
        torch.save(content, written)
        digest = hashlib.blake2b(written.getvalue(), digest_size=DIGEST_SIZE).digest()
        path.write_bytes(written.getvalue() + digest)


def test_an_interrupt_stops_the_job_in_order_and_begins_no_other(story: Story) -> None:
    assert story.status == 130
    ended = {member: row["ended"] for member, row in story.interrupted.items()}
    assert ended == {"rnn": "failed", "lstm": "done", "gru": "stopped"}
    assert "train: stopped by SIGINT" in story.terminal  # once, and the step was ended
    assert "asr: stopped by SIGINT; the same command goes on" in story.terminal


def test_a_job_that_fails_says_why_and_the_others_go_on(story: Story) -> None:
    assert "does not say which run this is" in story.interrupted["rnn"]["why"]
    assert story.interrupted["rnn"]["wer"] == ""
    assert story.interrupted["lstm"]["wer"] != ""
    assert "failed: runs/custom/model=rnn/config.yaml" in (story.folder / "stdout.txt").read_text()


def test_each_job_has_a_header_and_its_progress_bar(story: Story) -> None:
    for number, member in enumerate(MEMBERS, start=1):
        assert f"[{number}/3] model={member}" in story.terminal
        assert f"[{number}/3] model={member}" in story.again.stderr
    assert re.search(r"epoch [1-6]/6 .*━", story.terminal)


def test_the_same_command_goes_on_with_what_is_missing(story: Story) -> None:
    weights = story.folder / "runs/custom/model=lstm/model/weights.safetensors"
    assert digest_file(weights) == story.lstm_then
    assert "train: runs/custom/model=lstm is finished" in story.again.stderr
    assert re.search(r"runs/custom/model=gru goes on after epoch-0000\d", story.again.stderr)
    assert re.search(r"runs/custom/model=rnn begins", story.again.stderr)


def test_the_corpus_is_prepared_once(story: Story) -> None:
    said = (story.folder / "stdout.txt").read_text() + story.again.stdout
    assert said.count("prepared in") == 1
    assert said.count("is up to date") == 5


def test_the_table_is_what_each_run_recorded(story: Story) -> None:
    table = rows(story.folder, "model=rnn+lstm+gru")
    assert list(table) == list(MEMBERS)
    for member, row in table.items():
        run = story.folder / f"runs/custom/model={member}"
        finished = json.loads((run / "finished.json").read_text())
        metrics = json.loads((run / "eval/test-greedy/metrics.json").read_text())
        with (run / "metrics.csv").open(newline="") as stream:
            lines = list(csv.DictReader(stream))
        assert row["ended"] == "done"
        assert row["run"] == f"runs/custom/model={member}"
        assert float(row["validation_wer"]) == min(float(line["wer"]) for line in lines)
        assert float(row["validation_wer"]) == finished["best_wer"]
        assert int(row["epochs"]) == len(lines) == finished["epochs"]
        assert int(row["best_epoch"]) == finished["best_epoch"]
        assert float(row["epoch_s"]) == statistics.median(float(one["train_s"]) for one in lines)
        found = [metrics["wer"], *metrics["wer_ci95"], metrics["cer"]]
        assert [float(row[key]) for key in ("wer", "wer_low", "wer_high", "cer")] == found
        assert f"{100 * metrics['wer']:.1f} %" in printed(story, member)
        assert f"{finished['epochs']}" in printed(story, member)


def printed(story: Story, member: str) -> str:
    lines = [line for line in story.again.stdout.splitlines() if line.split()[:1] == [member]]
    assert len(lines) == 1
    return lines[0]


def test_parameters_and_memory_are_those_of_the_run(story: Story) -> None:
    table = rows(story.folder, "model=rnn+lstm+gru")
    sizes = {}
    for member in MEMBERS:
        model = story.folder / f"runs/custom/model={member}/model"
        sizes[member] = trained_numbers(model)
    assert {member: int(row["parameters"]) for member, row in table.items()} == sizes
    peaks = {member: int(row["peak_resident_bytes"]) for member, row in table.items()}
    assert peaks.pop("gru") == MUCH_BYTES  # of the process that was interrupted
    assert all(100e6 < peak < 10e9 for peak in peaks.values())


def trained_numbers(model: Path) -> int:
    """Of the bundle's network, by another way than the training's own count."""
    from asr.bundle import load

    return sum(tensor.numel() for tensor in load(model).network.state_dict().values())


def test_one_job_of_two_that_fails_is_status_1(story: Story) -> None:
    words = ["-m", "name='model=lstm',nobody", *SMALL]
    done = asr(story.folder, "evaluate", *words, status=1)
    assert "Evaluated already" in done.stdout
    assert "asr: name=nobody: There is no model in runs/custom/nobody/model" in done.stderr
    table = rows(story.folder, "name=model=lstm+nobody")
    lstm = rows(story.folder, "model=rnn+lstm+gru")["lstm"]
    assert table["model=lstm"]["wer"] == lstm["wer"]
    assert (table["nobody"]["ended"], table["nobody"]["wer"]) == ("failed", "")


def test_where_every_job_is_refused_the_status_is_2(tmp_path: Path) -> None:
    done = asr(tmp_path, "evaluate", "-m", *SMALL, "name=a,b", status=2)
    assert {row["ended"] for row in rows(tmp_path, "name=a+b").values()} == {"failed"}
    assert done.stderr.count("There is no model in") == 4  # each said by the job and at the end


def test_the_settings_of_each_job_are_printed_without_beginning_any(tmp_path: Path) -> None:
    done = asr(tmp_path, "run", "-m", "--cfg", "job", *SMALL, "seed=1,2")
    documents = list(yaml.safe_load_all(done.stdout))
    assert [(one["name"], one["seed"]) for one in documents] == [("seed=1", 1), ("seed=2", 2)]
    assert list(tmp_path.iterdir()) == []
