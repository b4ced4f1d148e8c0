"""An orderly stop: what asks a run to end is noted, and acted upon at the end of a step."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from types import FrameType, TracebackType

# From the keyboard, from a scheduler, from a terminal that closes, from Slurm before its time limit
# (`--signal=USR1@120`).
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class StoppedError(Exception):
    """The run was asked to stop by a signal, and did so at the end of a step."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number

    @property
    def status(self) -> int:
        """130 for an interrupt from the keyboard, 143 for a request to stop."""
        return 128 + self.signal_number


class Signals:
    """Notes a signal that stops, and nothing else; a second one of the kind has its usual effect.

    What was ignored before, as SIGHUP under nohup, still is.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> Signals:
        self._before = {
            number: signal.signal(number, self._note)
            for number in STOPPING
            if signal.getsignal(number) != signal.SIG_IGN
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, default)

    def flags(self) -> list[float]:
        """1 for the signal received, one number for each of `STOPPING`."""
        return [float(number == self.received) for number in STOPPING]


def first_flagged(flags: Sequence[float]) -> int | None:
    """The signal that some rank has received, from the sums of all ranks' `flags`."""
    return next((number for number, flag in zip(STOPPING, flags, strict=True) if flag), None)
