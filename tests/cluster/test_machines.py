"""Following the work of several machines until it is over; what is Ray's is played here."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from asr.cluster import machines
from asr.cluster.exchange import Exchange, LostError, Machine
from asr.cluster.machines import Needs
from asr.errors import UserError

TWO = Needs(machines=1, processes=2, accelerator="cpu", restarts=3)
FOREVER = threading.Event()


class TrainingFailedError(Exception):
    pass


class WorkerGroupError(TrainingFailedError):
    def __init__(self, worker_failures: dict[int, Exception]) -> None:
        super().__init__("workers failed\nwith a long traceback")
        self.worker_failures = worker_failures


class RayError(Exception):
    pass


RAY = SimpleNamespace(
    get=lambda reference: reference,
    train=SimpleNamespace(
        WorkerGroupError=WorkerGroupError, TrainingFailedError=TrainingFailedError
    ),
    exceptions=SimpleNamespace(RayError=RayError),
)


class Handle:
    """An actor that lives in this process."""

    def __init__(self, actor: object) -> None:
        self.actor = actor

    def __getattr__(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(remote=getattr(self.actor, name))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "LISTEN_S", 0.01)


def follow(
    exchange: Exchange,
    fit: Callable[[], object],
    received: int | None = None,
    show: Callable[[bytes], None] = lambda data: None,
) -> tuple[int, str]:
    """The exit status, and what was shown, where Ray Train's part is `fit`."""
    shown = []

    def remember(data: bytes) -> None:
        shown.append(data)
        show(data)

    signals: Any = SimpleNamespace(received=received)
    trainer = SimpleNamespace(fit=fit)
    status = machines._follow(RAY, trainer, Handle(exchange), TWO, remember, signals)
    return status, b"".join(shown).decode()


def test_a_signal_is_passed_on_and_what_the_machines_make_of_it_is_the_end() -> None:
    exchange = Exchange()
    exchange.begin()

    def fit() -> None:
        while not exchange.news().signals:
            time.sleep(0.001)
        exchange.say(b"saved\n")
        exchange.end(128 + exchange.news().signals[0])

    assert follow(exchange, fit, signal.SIGINT) == (130, "saved\n")
    assert exchange.news().signals == (signal.SIGINT,)


@pytest.mark.parametrize("again", [False, True])
def test_where_nobody_has_begun_a_signal_ends_at_once(again: bool) -> None:
    exchange = Exchange()
    if again:
        exchange.begin()
        exchange.begin_again("lost one; begins again")
        assert exchange.heard().said == b"asr: lost one; begins again\n"
    status, shown = follow(exchange, FOREVER.wait, signal.SIGTERM)
    assert status == 143
    assert shown.startswith("asr: stopped by SIGTERM")
    assert shown.count("\n") == 1


def test_what_has_ended_the_work_counts_more_than_who_was_lost_then() -> None:
    exchange = Exchange()

    def fit() -> None:
        exchange.say(b"asr: no such unit\n")
        exchange.end(2)
        exchange.end(1)  # that one had lost the first
        raise WorkerGroupError({0: LostError("process 2 of 2 failed", 1)})

    assert follow(exchange, fit) == (2, "asr: no such unit\n")


def test_when_it_may_not_begin_again_what_was_lost_is_told_in_one_line() -> None:
    def fit() -> None:
        raise WorkerGroupError({0: LostError("process 2 of 2 was killed by SIGKILL", 137)})

    status, shown = follow(Exchange(), fit)
    assert status == 137
    assert shown == (
        "asr: process 2 of 2 was killed by SIGKILL; cluster.max_failures=3 is used up."
        " The same command goes on from the last checkpoint.\n"
    )


@pytest.mark.parametrize("kind", [TrainingFailedError, RayError])
def test_why_ray_gave_up_is_told_without_its_traceback(kind: type[Exception]) -> None:
    def fit() -> None:
        raise kind("no heartbeat\nTraceback: and so on")

    assert follow(Exchange(), fit) == (1, "asr: Ray gave up: no heartbeat\n")


def test_waiting_for_a_busy_cluster_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "PATIENCE_S", 0.0)
    told, asked_after = threading.Event(), threading.Semaphore(0)

    def show(data: bytes) -> None:
        if told.is_set():
            asked_after.release()
        elif b"waiting" in data:
            told.set()

    def fit() -> None:
        for _ in range(5):
            asked_after.acquire()

    status, shown = follow(Exchange(), fit, show=show)
    assert status == 0
    assert shown.count("still waiting for Ray: trainer.devices=2 ") == 1


def test_a_machine_whose_line_is_cut_takes_it_for_the_end() -> None:
    ray = pytest.importorskip("ray")

    class Gone:
        def news(self) -> None:
            raise ray.exceptions.RayError("the actor died")

    assert Machine(0, 1, "127.0.0.1", Handle(Gone())).news().ended


@pytest.mark.parametrize(
    ("accelerator", "nodes", "room"),
    [
        ("cpu", [{"CPU": 2.0, "GPU": 1.0}], {"CPU": 2}),
        ("auto", [{"CPU": 2.0}], {"CPU": 2}),
        ("auto", [{"CPU": 4.0, "GPU": 2.0}, {"CPU": 2.0}], {"CPU": 2, "GPU": 2}),
    ],
)
def test_gpus_are_taken_where_there_are_any(
    accelerator: str, nodes: list[dict[str, float]], room: dict[str, int]
) -> None:
    ray = SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": node} for node in nodes])
    assert machines._room(ray, Needs(1, 2, accelerator, 0)) == room


def test_too_few_machines_are_counted() -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0}},
        {"Alive": True, "Resources": {"CPU": 1.0}},
        {"Alive": False, "Resources": {"CPU": 8.0}},
    ]
    with pytest.raises(UserError, match=r"trainer\.nodes=2: of Ray's machines 1 have 2 CPUs"):
        machines._room(SimpleNamespace(nodes=lambda: nodes), Needs(2, 2, "auto", 0))
