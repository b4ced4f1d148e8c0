"""A child process of this machine that does one item at a time, and may end over it.

It is a Python of its own, not a fork, and does not load the program that started it: what it works
with is found by the name of its module.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

from asr.cluster.attempt import Lost, attempt, use_threads
from asr.errors import UserError

KILLED_WITH_PARENT = 1  # PR_SET_PDEATHSIG
START_ATTEMPTS = 3  # a process that ends each time before its first item is not an accident
_PROGRAM = """
import sys
sys.path[:] = {path!r}
from asr.cluster.child import serve
serve({descriptor}, {threads}, {parent})
"""


class Child:
    """The process, and the line to it."""

    def __init__(self, worker: Callable[[Any], Any], threads: int) -> None:
        self._worker = worker
        self._threads = threads
        self._start()

    def _start(self) -> None:
        """Start it, and wait until it has what it works with.

        Raises:
            UserError: it ends, again and again, before it has.
        """
        for _ in range(START_ATTEMPTS):
            self._line, theirs = Pipe()
            program = _PROGRAM.format(
                path=sys.path, descriptor=theirs.fileno(), threads=self._threads, parent=os.getpid()
            )
            # In a session of its own, an interrupt from the keyboard ends it through this process.
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            theirs.close()
            with contextlib.suppress(BrokenPipeError):
                self._line.send(self._worker)
            lost = self._answer(None)
            if not isinstance(lost, Lost):
                return
        raise UserError(f"A process to work in cannot be started on this machine: {lost.why}.")

    def do(self, item: Any, limit_s: float | None) -> Any:
        """What the worker makes of the item, or `Lost`. What it raises is raised here."""
        with contextlib.suppress(BrokenPipeError):
            self._line.send(item)
        result = self._answer(limit_s)
        if isinstance(result, Lost):
            self.end()
            self._start()
        return result

    def _answer(self, limit_s: float | None) -> Any:
        """What comes back; `Lost` where the process ends before, or has to be ended."""
        if not wait([self._line], limit_s):
            return Lost(f"it took longer than {limit_s:g} s", timed_out=True)
        try:
            result, error, where = self._line.recv()
        except (EOFError, ConnectionResetError):
            return Lost(_how_it_ended(self._process.wait()))
        if error is not None:
            raise error from (None if isinstance(error, UserError) else RuntimeError(where))
        return result

    def end(self) -> None:
        """Kill it, if it still runs."""
        self._process.kill()
        self._process.wait()
        self._line.close()


def serve(descriptor: int, threads: int, parent: int) -> None:
    """What the process does: take a worker, then item after item, until nobody asks any more."""
    die_with(parent)
    use_threads(threads)
    line = Connection(descriptor)
    try:
        worker = line.recv()
    except EOFError:
        return
    except Exception as error:  # noqa: BLE001 -- raised where it was asked for
        line.send_bytes(_raised(error))
        return
    use_threads(threads)  # torch may have come with it
    line.send((None, None, ""))
    while True:
        try:
            item = line.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            answer = ForkingPickler.dumps((attempt(worker, item), None, ""))
        except Exception as error:  # noqa: BLE001 -- raised where it was asked for
            answer = _raised(error)
        try:
            line.send_bytes(answer)
        except BrokenPipeError:
            return


def _raised(error: Exception) -> Any:
    """An answer that is an error, together with its traceback."""
    where = "".join(traceback.format_exception(error))
    try:
        return ForkingPickler.dumps((None, error, where))
    except Exception:  # noqa: BLE001 -- an error may hold anything
        return ForkingPickler.dumps((None, RuntimeError(repr(error)), where))


def _how_it_ended(status: int) -> str:
    """In words, from a process's exit status."""
    if status < 0:
        return f"its process was killed by {signal.Signals(-status).name}"
    return f"its process ended with status {status}"


def die_with(parent: int) -> None:
    """Be killed when the process that started this one is; else two might write one folder."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(KILLED_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:  # it has been already
            os.kill(os.getpid(), signal.SIGKILL)
