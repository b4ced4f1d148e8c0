"""Several processes that train together, as a person starts, stops, kills and resumes them."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file

from asr.training.checkpoint import checkpoints

SMALL = [
    "recipe=custom",
    "augment=none",
    "model.hidden=16",
    "model.channels=4",
    "model.layers=2",
    "model.dropout=0.1",
    "optim.learning_rate=8e-3",
    "data.max_utterances=8",
    "trainer.threads=1",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=6",
    "trainer.checkpoint_steps=1",
]
TWO = [*SMALL, "trainer.devices=2"]


Asr = Callable[..., Any]


def run_folder(folder: Path, name: str) -> Path:
    return folder / "runs/custom" / name


def weights(folder: Path, name: str) -> dict[str, bytes]:
    tensors = load_file(run_folder(folder, name) / "model/weights.safetensors")
    return {key: value.tobytes() for key, value in tensors.items()}


def last_state(folder: Path, name: str) -> dict[str, bytes]:
    """The weights after the last step, and their averages."""
    newest, *_ = checkpoints(run_folder(folder, name) / "checkpoints")
    state = torch.load(newest, weights_only=True)["weights"]
    return {key: value.numpy().tobytes() for key, value in state.items()}


@pytest.fixture(scope="module")
def folder(asr: Asr, tmp_path_factory: pytest.TempPathFactory, tone_manifest: Path) -> Path:
    """A working folder with the corpus prepared."""
    folder = tmp_path_factory.mktemp("work")
    asr(folder, "prepare", "recipe=custom", f"recipe.root={tone_manifest}")
    return folder


class Training:
    """A training under way."""

    def __init__(self, forks: Any, folder: Path, *words: str) -> None:
        (name,) = (word.removeprefix("name=") for word in words if word.startswith("name="))
        self.checkpoints = run_folder(folder, name) / "checkpoints"
        self.seen = {path.name for path in checkpoints(self.checkpoints)}
        self.process = forks.start(folder, "asr", "train", *words)

    def wait_for_steps(self, count: int) -> None:
        """Until so many more checkpoints have been seen; the training must not be over by then."""
        written: set[str] = set()
        deadline = time.monotonic() + 120
        while len(written) < count:
            if not self.process.running():
                pytest.fail(f"over too early: {self.process.end().stderr}")
            assert time.monotonic() < deadline
            written |= {path.name for path in checkpoints(self.checkpoints)} - self.seen
            time.sleep(0.002)

    def ranks(self) -> list[int]:
        """Process ids of the ranks, the first one first."""
        listed = subprocess.run(
            ["ps", "--ppid", str(self.process.pid), "-o", "pid="],
            capture_output=True,
            text=True,
            check=True,
        )
        return sorted(int(pid) for pid in listed.stdout.split())

    def end(self) -> tuple[int, str]:
        """Exit status and what was said."""
        ended = self.process.end()
        assert "Traceback" not in ended.stderr
        return ended.status, ended.stderr


def ends(pid: int) -> bool:
    """Whether a process is over within ten seconds; one that nobody has waited for yet is."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.01)
    return False


@pytest.mark.timeout(900)  # a dozen processes, each of which loads torch and Lightning
def test_two_ranks_stopped_and_killed_in_every_way_end_with_the_very_same_weights(
    asr: Asr, forks: Any, folder: Path
) -> None:
    asr(folder, "train", *TWO, "name=quiet")
    words = [*TWO, "name=story"]
    steps = random.Random(1)

    training = Training(forks, folder, *words)
    training.wait_for_steps(steps.randint(1, 4))
    first, second = training.ranks()
    os.kill(training.process.pid, signal.SIGKILL)  # of all: the ranks die with what started them
    assert training.end()[0] == -signal.SIGKILL
    assert ends(first)
    assert ends(second)

    for rank, number in ((1, signal.SIGTERM), (0, signal.SIGINT)):  # one alone hears it
        training = Training(forks, folder, *words)
        training.wait_for_steps(steps.randint(1, 4))
        os.kill(training.ranks()[rank], number)
        status, stderr = training.end()
        assert status == 128 + number
        assert "goes on after epoch-" in stderr
        assert f"stopped by {number.name} and saved" in stderr

    training = Training(forks, folder, *words)
    training.wait_for_steps(steps.randint(1, 4))
    first, second = training.ranks()
    os.kill(second, signal.SIGKILL)
    status, stderr = training.end()
    assert status == 137
    assert "process 2 of 2 was killed by SIGKILL" in stderr
    assert ends(first)
    assert not (run_folder(folder, "story") / "finished.json").exists()
    shutil.copytree(run_folder(folder, "story"), run_folder(folder, "moved"))

    asr(folder, "train", *words)
    assert weights(folder, "story") == weights(folder, "quiet")
    assert last_state(folder, "story") == last_state(folder, "quiet")

    for newer in checkpoints(run_folder(folder, "moved") / "checkpoints")[:2]:
        newer.unlink()  # so that there are steps left to take
    moved = asr(folder, "train", *SMALL, "name=moved")  # with one process
    assert "goes on after epoch-" in moved.stderr
    finished = json.loads((run_folder(folder, "moved") / "finished.json").read_text())
    assert finished["epochs"] == 6
    assert steps_taken(folder, "moved") == steps_taken(folder, "quiet")
    assert last_state(folder, "moved") != last_state(folder, "quiet")  # dropout is drawn by rank


def steps_taken(folder: Path, name: str) -> str:
    return (run_folder(folder, name) / "metrics.csv").read_text().splitlines()[-1].split(",")[1]


def first_gradient(asr: Asr, folder: Path, *words: str) -> dict[int, torch.Tensor]:
    """The gradient of a run's one step, by parameter: a tenth of it is Adam's first moment."""
    name = f"gradient-{len(list(folder.glob('runs/custom/gradient-*')))}"
    once = ["model.dropout=0", "optim.clip_norm=0", "data.batch_s=1000", "trainer.max_epochs=1"]
    asr(folder, "train", *SMALL, *once, f"name={name}", *words)
    (path,) = checkpoints(run_folder(folder, name) / "checkpoints")
    state = torch.load(path, weights_only=True)
    assert state["position"]["steps"] == 1
    return {number: each["exp_avg"] for number, each in state["optimiser"]["state"].items()}


def furthest(some: dict[int, torch.Tensor], others: dict[int, torch.Tensor]) -> float:
    """The largest difference, each parameter's in shares of its largest value."""
    return max(
        float((others[number] - value).abs().max() / value.abs().max())
        for number, value in some.items()
    )


def test_the_gradient_is_that_of_one_process_with_the_whole_batch(asr: Asr, folder: Path) -> None:
    whole = first_gradient(asr, folder, "data.max_utterances=48")
    halves = first_gradient(asr, folder, "data.max_utterances=48", "trainer.devices=2")
    pieces = first_gradient(asr, folder, "data.max_utterances=48", "data.device_batch_s=8")
    assert furthest(whole, halves) < 1e-5
    assert furthest(whole, pieces) < 1e-5
    assert furthest(whole, first_gradient(asr, folder, "data.max_utterances=48", "seed=2")) > 0.1


@pytest.fixture
def two_hosts() -> Iterator[tuple[str, str]]:
    """Two network namespaces joined by a cable: hosts that reach each other and nothing else."""
    hosts = ("asr-host-0", "asr-host-1")
    steps = [f"netns add {host}" for host in hosts]
    steps.append(f"link add asr-0 netns {hosts[0]} type veth peer name asr-1 netns {hosts[1]}")
    for number, host in enumerate(hosts):
        steps.append(f"-n {host} addr add 10.9.0.{number + 1}/24 dev asr-{number}")
        steps += [f"-n {host} link set {device} up" for device in (f"asr-{number}", "lo")]
    try:
        for step in steps:
            made = subprocess.run(["ip", *step.split()], capture_output=True, text=True)
            if made.returncode != 0:
                pytest.skip(f"needs the right to make network namespaces: {made.stderr.strip()}")
        yield hosts
    except FileNotFoundError:
        pytest.skip("needs the command ip (iproute2)")
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "del", host], capture_output=True, check=False)


def start_slurm_job(
    folder: Path, hosts: tuple[str, str], *words: str
) -> list[subprocess.Popen[str]]:
    """Start a task on each host, as Slurm would; one checkpoint is written when this returns."""
    (name,) = (word.removeprefix("name=") for word in words if word.startswith("name="))
    tasks = []
    for number, host in enumerate(hosts):
        variables = {
            "SLURM_JOB_ID": "4242",
            "SLURM_JOB_NAME": "train",
            "SLURM_STEP_ID": "0",
            "SLURM_NTASKS": "2",
            "SLURM_NTASKS_PER_NODE": "1",
            "SLURM_NNODES": "2",
            "SLURM_NODELIST": "10.9.0.1",
            "SLURM_NODEID": str(number),
            "SLURM_PROCID": str(number),
            "SLURM_LOCALID": "0",
            "GLOO_SOCKET_IFNAME": f"asr-{number}",
        }
        train = [sys.executable, "-m", "asr", "train", *SMALL, "trainer.nodes=2", *words]
        tasks.append(
            subprocess.Popen(
                ["ip", "netns", "exec", host, *train],
                cwd=folder,
                env={**os.environ, **variables},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    written = run_folder(folder, name) / "checkpoints"
    deadline = time.monotonic() + 120
    while not checkpoints(written) and tasks[0].poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert checkpoints(written), tasks[0].poll()
    return tasks


def test_two_hosts_of_a_slurm_job_train_together_and_heed_its_signal(
    folder: Path, two_hosts: tuple[str, str]
) -> None:
    tasks = start_slurm_job(folder, two_hosts, "name=hosts")
    tasks[1].send_signal(signal.SIGUSR1)  # as Slurm does before its time limit
    said = [task.communicate(timeout=90)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [128 + signal.SIGUSR1] * 2, said
    assert "stopped by SIGUSR1 and saved" in said[0]
    assert checkpoints(run_folder(folder, "hosts") / "checkpoints")


def test_hosts_that_lose_each_other_give_up_and_say_so(
    folder: Path, two_hosts: tuple[str, str]
) -> None:
    endless = ["trainer.max_epochs=10000", "trainer.patience=0", "trainer.timeout_s=5"]
    tasks = start_slurm_job(folder, two_hosts, *endless, "name=cut")
    cut = ["ip", "-n", two_hosts[0], "link", "set", "asr-0", "down"]
    subprocess.run(cut, check=True)
    for task in tasks:
        _, said = task.communicate(timeout=90)
        assert task.returncode == 1, said
        assert said.rstrip().endswith(
            "lost another process of this run; the same command goes on from the last checkpoint"
        )
        assert "Traceback" not in said


def test_other_machines_are_for_torchrun_to_start(asr: Asr, folder: Path) -> None:
    refused = asr(folder, "train", *SMALL, "trainer.nodes=2", "name=unborn", status=2)
    assert "torchrun" in refused.stderr
    assert not run_folder(folder, "unborn").exists()
