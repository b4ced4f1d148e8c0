"""Signals that come while Ray's code runs: kept, heeded once, by the handler that was there."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from asr.cluster import executor
from asr.cluster.executor import RayExecutor
from asr.cluster.signals import KEPT, KeptSignals
from asr.errors import UserError


class Stop(BaseException):
    """What the command's own handler raises."""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    former = {number: signal.getsignal(number) for number in KEPT}

    def stop(number: int, frame: object) -> None:
        raise Stop(number)

    for number in KEPT:
        signal.signal(number, stop)
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", KEPT)
def test_a_signal_is_heeded_when_it_is_asked_for_and_once(number: int) -> None:
    with KeptSignals() as signals:
        signal.raise_signal(number)
        with pytest.raises(Stop) as stopped:
            signals.heed()
        signals.heed()
    assert stopped.value.args == (number,)
    with pytest.raises(Stop):
        signal.raise_signal(number)  # the handler that was there is there again


def leave_with(number: int, error: BaseException | None) -> None:
    with KeptSignals():
        signal.raise_signal(number)
        if error is not None:
            raise error


def test_what_nobody_heeded_is_at_the_end() -> None:
    with pytest.raises(Stop):
        leave_with(signal.SIGTERM, None)


def test_an_error_that_is_under_way_stays_what_it_is_but_for_an_exit() -> None:
    with pytest.raises(ValueError, match="first"):
        leave_with(signal.SIGINT, ValueError("first"))
    with pytest.raises(Stop):
        leave_with(signal.SIGTERM, SystemExit(15))


def test_what_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with KeptSignals() as signals:
        signal.raise_signal(signal.SIGINT)
        signals.heed()
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_a_thread_that_gets_no_signals_changes_nothing() -> None:
    before = [signal.getsignal(number) for number in KEPT]
    during: list[object] = []

    def other() -> None:
        with KeptSignals() as signals:
            during.extend(signal.getsignal(number) for number in KEPT)
            signals.heed()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert during == before


def test_who_asks_twice_does_not_wait() -> None:
    with KeptSignals():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Stop):
            signal.raise_signal(signal.SIGINT)


def test_a_cluster_that_does_not_start_leaves_signals_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = [signal.getsignal(number) for number in KEPT]

    def fails(*given: object) -> None:
        assert [signal.getsignal(number) for number in KEPT] != before
        raise UserError("no cluster")

    monkeypatch.setattr(executor, "start_ray", fails)
    with pytest.raises(UserError, match="no cluster"):
        RayExecutor(1).__enter__()
    assert [signal.getsignal(number) for number in KEPT] == before
