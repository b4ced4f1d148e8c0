"""Signals that end a command, kept while Ray's compiled code runs and heeded where Python's does.

What a handler raises in the middle of that code is lost in it, or crashes the process.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

KEPT = (signal.SIGINT, signal.SIGTERM)
SLICE_S = 0.5  # a wait is cut into pieces of it, so that a signal is heeded soon

Handler = Callable[[int, FrameType | None], Any]


class KeptSignals:
    """While it is entered, signals wait for `heed`; in the main thread, others get none.

    Those that come before it is left are heeded then, unless an error is under way.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Handler] = {}
        self._came: list[int] = []

    def __enter__(self) -> KeptSignals:
        if threading.current_thread() is threading.main_thread():
            for number in KEPT:
                handler = signal.getsignal(number)
                if callable(handler):  # else it is ignored, or ends the process at once
                    self._handlers[number] = handler
                    signal.signal(number, self._keep)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if kind in (None, SystemExit):  # the latter is how a start of Ray answers to SIGTERM
            self.heed()

    def heed(self) -> None:
        """Let the handler of what has come answer, which may raise."""
        if self._came:
            number = self._came[-1]
            self._came.clear()
            self._handlers[number](number, None)

    def _keep(self, number: int, frame: FrameType | None) -> None:
        if number in self._came:  # who asks twice does not want to wait
            self._came.clear()
            self._handlers[number](number, frame)
        self._came.append(number)
