"""A job's process: what it says is shown as it comes, and what asks it to stop is passed on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import tty
from collections import deque
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType

from asr.training.signals import STOPPING

STDERR = 2
KEPT_BYTES = 1 << 16  # of the end of what a process said
# Whoever still holds stderr once the process has ended is not waited for any longer than this.
PATIENCE_S = 5.0

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours and moves of the cursor


class Runner:
    """Runs processes one after the other, and passes each signal that stops on to the one running.

    A process has a session of its own. Ctrl-C goes to every process of the terminal's foreground
    group: a job in it would get the signal twice, and the second one means `at once`.
    """

    def __init__(self) -> None:
        self.stopped_by: int | None = None  # the first signal
        self._waiting: deque[int] = deque()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Runner:
        handlers = {**dict.fromkeys(STOPPING, self._stop), signal.SIGTSTP: self._pause}
        self._before = {
            number: signal.signal(number, handler)
            for number, handler in handlers.items()
            if signal.getsignal(number) != signal.SIG_IGN  # as under nohup
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

    def run(self, command: Sequence[str]) -> tuple[int, str]:
        """The exit status, negative for the signal that ended it, and the end of stderr."""
        relay = Relay(terminal_size(), show_on_stderr)
        self._process = subprocess.Popen(command, stderr=relay.target, start_new_session=True)
        self._pass_on()
        status = self._process.wait()
        self._process = None
        return status, relay.end()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopped_by = self.stopped_by or number
        self._waiting.append(number)
        self._pass_on()

    def _pass_on(self) -> None:
        """Once each: a handler may come between any two steps of this, and `popleft` is one."""
        with contextlib.suppress(IndexError):
            while self._process is not None:
                self._process.send_signal(self._waiting.popleft())

    def _pause(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: wait, and let the job wait."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)


def terminal_size() -> os.terminal_size | None:
    """Of the terminal that stderr is; None where it is none."""
    return os.get_terminal_size(STDERR) if os.isatty(STDERR) else None


def show_on_stderr(data: bytes) -> None:
    """Write it as it is. Where nobody reads any more, what goes on goes on."""
    with contextlib.suppress(OSError), open(STDERR, "wb", closefd=False) as stderr:
        stderr.write(data)


class Relay:
    """Shows what a process writes to `target`, and keeps the end of it.

    Args:
        window: size of the terminal that `target` is, so that progress is shown; None: it is none.
        show: takes what is written, as it comes.
    """

    def __init__(self, window: os.terminal_size | None, show: Callable[[bytes], None]) -> None:
        self._show = show
        if window is not None:
            self._source, self.target = pty.openpty()
            tty.setraw(self.target)  # the real one translates line ends
            size = struct.pack("HHHH", window.lines, window.columns, 0, 0)
            fcntl.ioctl(self.target, termios.TIOCSWINSZ, size)
        else:
            self._source, self.target = os.pipe()
        self._kept = b""
        self._thread = threading.Thread(target=self._relay, daemon=True)
        self._thread.start()

    def _relay(self) -> None:
        while True:
            try:
                data = os.read(self._source, KEPT_BYTES)
            except OSError:  # how a pseudo terminal ends on Linux
                return
            if not data:
                return
            self._kept = (self._kept + data)[-KEPT_BYTES:]
            self._show(data)

    def end(self) -> str:
        """Call it when the process has ended: what it said last."""
        os.close(self.target)
        self._thread.join(PATIENCE_S)
        if not self._thread.is_alive():
            os.close(self._source)
        return self._kept.decode("utf-8", "replace")


def last_words(stderr: str) -> str:
    """The error that a command ended with, or the last line of its traceback; else ''."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", _CONTROL.sub("", stderr))]
    said = [line for line in lines if line]
    if any(line.startswith("Traceback (most recent call last)") for line in said):
        return said[-1]
    errors = [line for line in said if line.startswith("asr: ")]
    return errors[-1].removeprefix("asr: ") if errors else ""
