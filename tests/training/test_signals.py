"""A signal is noted, the second one has its usual effect, and what was ignored still is."""

from __future__ import annotations

import os
import signal

import pytest

from asr.training.signals import STOPPING, Signals, StoppedError, first_flagged


def test_signals_have_their_exit_status() -> None:
    assert StoppedError(signal.SIGINT).status == 130
    assert StoppedError(signal.SIGTERM).status == 143
    assert str(StoppedError(signal.SIGTERM)) == "SIGTERM"


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_is_noted_and_a_second_one_works_as_usual(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Signals() as signals:
        assert signals.flags() == [0.0] * len(STOPPING)
        os.kill(os.getpid(), number)
        assert signals.received == number
        assert first_flagged(signals.flags()) == number
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        assert signal.getsignal(number) == usual
    assert signal.getsignal(number) == before


def test_what_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_sums_of_ranks_tell_which_signal_some_of_them_have_heard() -> None:
    assert first_flagged([0.0, 2.0, 0.0, 1.0]) == signal.SIGTERM
    assert first_flagged([0.0, 0.0, 0.0, 0.0]) is None
