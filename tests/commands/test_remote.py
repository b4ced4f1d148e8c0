"""What a machine of a cluster makes of how its processes end."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from asr.cluster.exchange import LostError, News
from asr.cluster.machines import Needs, blamed, run_on_machines
from asr.commands import ranks, remote
from asr.commands.remote import Job, train_on_machine
from asr.errors import UserError


class Alone:
    """The only machine there is, and what it tells and hears."""

    number, count, address = 0, 1, "127.0.0.1"

    def __init__(self, news: News = News((), False)) -> None:  # noqa: B008 - frozen
        self._news = news
        self.heard_later = news
        self.said = b""
        self.status: int | None = None

    def agree(self, value: tuple[Any, ...]) -> tuple[Any, ...]:
        return value

    def news(self) -> News:
        now, self._news = self._news, self.heard_later
        return now

    def say(self, data: bytes) -> None:
        self.said += data

    def end(self, status: int) -> None:
        self.status = status


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "LISTEN_S", 0.05)
    monkeypatch.setattr(remote, "PATIENCE_S", 0.2)


def work(monkeypatch: pytest.MonkeyPatch, program: str, machine: Alone, folder: Path) -> None:
    """Do the work with a program in place of a training."""
    monkeypatch.setattr(ranks, "COMMAND", "import os, sys, time\n" + program)
    train_on_machine(Job("{}", 1, str(folder), "3", None), machine)


def test_what_the_first_process_says_is_passed_on_and_its_end_is_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = Alone()
    program = "print(os.getcwd(), os.environ['OMP_NUM_THREADS'], file=sys.stderr)"
    work(monkeypatch, program, machine, tmp_path)
    assert machine.said == f"{tmp_path} 3\n".encode()
    assert machine.status is None


@pytest.mark.parametrize(
    ("program", "what", "status"),
    [
        ("os.kill(os.getpid(), 9)", "process 1 of 1 was killed by SIGKILL", 137),
        ("sys.exit(1)", "process 1 of 1 failed", 1),
    ],
)
def test_what_was_lost_is_begun_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, what: str, status: int
) -> None:
    machine = Alone()
    with pytest.raises(LostError) as lost:
        work(monkeypatch, program, machine, tmp_path)
    assert (lost.value.what, lost.value.status) == (what, status)
    assert machine.status is None


def test_last_words_on_another_machine_than_the_first_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = Alone()
    machine.number, machine.count = 1, 2
    program = "print('asr: no memory', file=sys.stderr); sys.exit(1)"
    with pytest.raises(LostError) as lost:
        work(monkeypatch, program, machine, tmp_path)
    assert lost.value.what == "process 2 of 2 failed: no memory"
    assert machine.said == b""


def test_wrong_use_is_not_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = Alone()
    work(monkeypatch, "sys.exit(2)", machine, tmp_path)
    assert machine.status == 2


def test_a_process_that_has_lost_one_which_ended_in_order_is_not_begun_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = Alone()
    machine.heard_later = News((), ended=True)
    work(monkeypatch, "time.sleep(0.3); sys.exit(1)", machine, tmp_path)
    assert machine.status is None


def test_a_signal_is_passed_on_even_to_a_process_that_is_still_beginning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = Alone()
    machine.heard_later = News((signal.SIGTERM,), ended=False)
    work(monkeypatch, "time.sleep(60)", machine, tmp_path)
    assert machine.status == 143
    assert machine.said == b"asr: process 1 of 1 was ended by SIGTERM\n"


@pytest.mark.parametrize(
    ("news", "status", "said"),
    [
        (News((signal.SIGINT,), ended=False), 130, b"asr: stopped by SIGINT before it began\n"),
        (News((), ended=True), None, b""),
    ],
)
def test_what_came_before_begins_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, news: News, status: int | None, said: bytes
) -> None:
    machine = Alone(news)
    work(monkeypatch, "open('begun', 'w')", machine, tmp_path)
    assert (machine.status, machine.said) == (status, said)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_the_machines_do_not_share_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = Alone()
    work(monkeypatch, "", machine, tmp_path / "elsewhere")
    assert machine.status == 2
    assert b"machine 1 of 1 has no " in machine.said


def test_what_was_killed_is_blamed_before_what_has_lost_it() -> None:
    lost, killed = (
        LostError("process 1 of 2 failed", 1),
        LostError("process 2 of 2 was killed", 137),
    )
    assert blamed({0: lost, 1: killed}, 2) == ("process 2 of 2 was killed", 137)
    assert blamed({0: lost, 1: RuntimeError()}, 2) == ("Ray's worker on machine 2 of 2 was lost", 1)


def test_where_several_machines_are_must_be_said() -> None:
    with pytest.raises(UserError, match=r"cluster\.address"):
        run_on_machines(print, Needs(2, 1, "cpu", 0), None, print)
    with pytest.raises(UserError, match="ray job submit"):
        run_on_machines(print, Needs(2, 1, "cpu", 0), "ray://head:10001", print)
