"""The processes of a run on this machine: started, watched and ended together.

Each gets the settings in a file, not this process's command line: whatever led to the training
(`asr train`, `asr run`, a sweep), only the training is done by all of them.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from asr.cluster.child import die_with
from asr.commands.process import last_words
from asr.config import Config

# It ends without Python's own ending, under which threads of torch may still run and abort it:
# then a process that has done its work would count as killed (pytorch/pytorch#179291).
COMMAND = """\
import os, sys, traceback
from asr.commands.ranks import CRASHED, train_as_rank
try:
    status = train_as_rank()
except Exception:
    traceback.print_exc()
    status = CRASHED
sys.stderr.flush()
os._exit(status)
"""
# Processes that share a run end together; what has not by then is killed.
GRACE_S = 20.0
LOST = 1  # exit status of a process that has lost another one
CRASHED = 3  # of one that raised, lest it be taken for one that has lost another; not told outside


def order(config: Config) -> str:
    """What each process is told: the settings, and the command that the run's records quote."""
    return json.dumps({"settings": asdict(config), "command": sys.argv})


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Layout:
    """Which processes of a run are here: `processes` on each of the machines, of which this is one.

    `meeting` is host and port where the first process waits for the others.
    """

    processes: int
    meeting: tuple[str, int]
    machine: int = 0
    machines: int = 1

    @property
    def world(self) -> int:
        """Processes on all machines."""
        return self.processes * self.machines

    def rank(self, local: int) -> int:
        """Of the process that is number `local` here."""
        return self.machine * self.processes + local

    def variables(self, local: int) -> dict[str, str]:
        """What torchrun would tell that process."""
        host, port = self.meeting
        numbers = {
            "RANK": self.rank(local),
            "LOCAL_RANK": local,
            "WORLD_SIZE": self.world,
            "LOCAL_WORLD_SIZE": self.processes,
            "GROUP_RANK": self.machine,
            "MASTER_PORT": port,
        }
        return {"MASTER_ADDR": host, **{name: str(value) for name, value in numbers.items()}}


@dataclass(frozen=True)
class Ended:
    """How the processes ended: all well (0), or which one did not, and the status it comes to.

    `killed_by` is a signal's name or empty. `words` are the last ones of a process that failed or
    crashed, where they have not been shown.
    """

    status: int
    who: str = ""
    killed_by: str = ""
    words: str = ""


class Ranks:
    """Processes of one run. Each has a session of its own, see `process.Runner`.

    Args:
        layout: which ones.
        environment: theirs.
        folder: where they work.
        stderr: of the first process of the run; None: this process's.
    """

    def __init__(
        self,
        layout: Layout,
        environment: Mapping[str, str],
        folder: str | None = None,
        stderr: int | None = None,
    ) -> None:
        self.layout = layout
        self._environment = environment
        self._folder = folder
        self._stderr = stderr
        self._temporary = tempfile.TemporaryDirectory(prefix="asr-ranks-")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._passed_on: list[int] = []

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end(0)
        self._temporary.cleanup()

    def start(self, told: str) -> None:
        """Start them; only the run's first one speaks."""
        path = Path(self._temporary.name, "order.json")
        path.write_text(told)
        for local in range(self.layout.processes):
            with self._words(local).open("wb") as quiet:
                self._processes.append(
                    subprocess.Popen(
                        [sys.executable, "-c", COMMAND, str(path), str(os.getpid())],
                        stdin=subprocess.DEVNULL,
                        stderr=self._stderr if self.layout.rank(local) == 0 else quiet,
                        env={**self._environment, **self.layout.variables(local)},
                        cwd=self._folder,
                        start_new_session=True,
                    )
                )
            for number in self._passed_on:  # before this one was there
                self._processes[-1].send_signal(number)

    def _words(self, local: int) -> Path:
        return Path(self._temporary.name, f"{local}.txt")

    def pass_on(self, number: int) -> None:
        """Send a signal to all of them, to those too that have yet to start."""
        self._passed_on.append(number)
        for process in self._processes:
            process.send_signal(number)

    def wait(self) -> Ended:
        """Wait for all. Where one ends badly the others are ended too."""
        with ThreadPoolExecutor(len(self._processes)) as waiting:
            ends = {
                waiting.submit(process.wait): local for local, process in enumerate(self._processes)
            }
            first = next((end for end in as_completed(ends) if end.result() != 0), None)
            if first is None:
                return Ended(0)
            too_late = self.end(GRACE_S)
        # The others often fail at the same moment, since they have lost this one.
        statuses = [process.returncode for process in self._processes]
        killed = [
            local for local, status in enumerate(statuses) if status < 0 and local not in too_late
        ]
        failed = [local for local, status in enumerate(statuses) if status > LOST]
        return self._ended((killed or failed or [ends[first]])[0])

    def end(self, grace_s: float) -> list[int]:
        """Wait so long, then kill what is left: which ones."""
        deadline = time.monotonic() + grace_s
        too_late = []
        for local, process in enumerate(self._processes):
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                too_late.append(local)
        return too_late

    def _ended(self, local: int) -> Ended:
        status = self._processes[local].returncode
        who = f"process {self.layout.rank(local) + 1} of {self.layout.world}"
        if status > 128:
            return Ended(status, who)
        said = self._words(local).read_text(encoding="utf-8", errors="replace")
        if status < 0:
            crash = last_words(said) or said.strip().rpartition("\n")[2]
            return Ended(128 - status, who, signal.Signals(-status).name, crash)
        return Ended(LOST if status == CRASHED else status, who, words=last_words(said))


def train_as_rank(words: Sequence[str] | None = None) -> int:
    """What each of the processes runs."""
    order_path, parent = sys.argv[1:] if words is None else words
    die_with(int(parent))
    # Ray starts its workers with it blocked, and what they start has it so too.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    told = json.loads(Path(order_path).read_text())
    sys.argv = told["command"]
    from asr.commands.compose import typed
    from asr.commands.main import guarded
    from asr.commands.train import train

    return guarded(lambda: train(typed(told["settings"])))
