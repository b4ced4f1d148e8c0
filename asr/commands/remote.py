"""A run on the machines of a Ray cluster: each has one of Ray's workers, which starts the ranks.

One worker a machine, not one a device: only so are there `trainer.devices` of them on each of
`trainer.nodes` machines, which is how they find their GPUs. The ranks are processes of their own,
as on one machine: signals reach only a process's main thread, and Ray's worker has that.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from asr.cluster.exchange import LostError, Machine
from asr.cluster.machines import Needs, run_on_machines
from asr.commands.process import Relay, show_on_stderr, terminal_size
from asr.commands.ranks import GRACE_S, LOST, Layout, Ranks, free_port, order
from asr.config import Config

LISTEN_S = 0.5  # how often a machine asks for news
PATIENCE_S = GRACE_S + 5.0  # for why another machine has ended, once a process has lost it
WRONG_USE = 2
THREADS = "OMP_NUM_THREADS"  # Ray sets it for its workers


@dataclass(frozen=True)
class Job:
    """What a machine has to know.

    `told` is for each process, `threads` the value of `THREADS` where the command was given, and
    `window` the size of its terminal if it has one.
    """

    told: str
    processes: int
    folder: str
    threads: str | None
    window: os.terminal_size | None


def launch_on_ray(config: Config) -> int:
    """Train on `trainer.nodes` machines, in `trainer.devices` processes each; the exit status.

    Where a process or a machine is lost all begin again from the newest checkpoint, at most
    `cluster.max_failures` times.
    """
    trainer, cluster = config.trainer, config.cluster
    job = Job(order(config), trainer.devices, os.getcwd(), os.environ.get(THREADS), terminal_size())
    needs = Needs(trainer.nodes, trainer.devices, trainer.accelerator, cluster.max_failures)
    work = functools.partial(train_on_machine, job)
    return run_on_machines(work, needs, cluster.address, show_on_stderr)


def train_on_machine(job: Job, machine: Machine) -> None:
    """The work of one machine.

    Raises:
        LostError: all machines have to begin again.
    """
    host, port = machine.agree((machine.address, free_port()))
    if not Path(job.folder).is_dir():
        here = f"machine {machine.number + 1} of {machine.count} has no {job.folder}"
        return _end(machine, WRONG_USE, f"{here}: the working folder must be on a shared disk.")
    news = machine.news()  # that came while this was beginning
    if news.ended:
        return None
    if news.signals:
        name = signal.Signals(news.signals[0]).name
        return _end(machine, 128 + news.signals[0], f"stopped by {name} before it began")
    layout = Layout(job.processes, (host, port), machine.number, machine.count)
    environment = {name: value for name, value in os.environ.items() if name != THREADS}
    if job.threads is not None:
        environment[THREADS] = job.threads
    relay = Relay(job.window, machine.say)
    over = threading.Event()
    passed_on: list[int] = []
    try:
        with Ranks(layout, environment, job.folder, relay.target) as ranks:
            ranks.start(job.told)
            listening = threading.Thread(
                target=_listen, args=(machine, ranks, passed_on, over), daemon=True
            )
            listening.start()
            ended = ranks.wait()
    finally:
        over.set()
        relay.end()
    if ended.status == 0:
        return None
    if ended.killed_by and ended.status - 128 not in passed_on:
        if not machine.news().ended:  # else it was this one that did not end in time
            raise LostError(f"{ended.who} was killed by {ended.killed_by}", ended.status)
        return None
    if ended.killed_by:  # by what was passed on, before it could heed it
        return _end(machine, ended.status, f"{ended.who} was ended by {ended.killed_by}")
    said = f"{ended.who} failed: {ended.words}" if ended.words else f"{ended.who} failed"
    if ended.status == LOST:
        if not _ends_soon(machine):
            raise LostError(said, LOST)
        return None
    return _end(machine, ended.status, said if ended.words else "")


def _end(machine: Machine, status: int, said: str = "") -> None:
    if said:
        machine.say(f"asr: {said}\n".encode())
    machine.end(status)


def _listen(machine: Machine, ranks: Ranks, passed_on: list[int], over: threading.Event) -> None:
    """Pass signals on, and end the ranks when the run has ended elsewhere."""
    while not over.wait(LISTEN_S):
        news = machine.news()
        for number in news.signals[len(passed_on) :]:
            passed_on.append(number)
            ranks.pass_on(number)
        if news.ended:
            ranks.end(GRACE_S)
            return


def _ends_soon(machine: Machine) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if machine.news().ended:
            return True
        time.sleep(LISTEN_S)
    return False
