"""A job's process is shown as it is, told once each time it is to stop, and has last words."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from asr.commands.process import last_words

# Two jobs one after the other, each of them what `sys.argv[1]` says, as a sweep runs them; in the
# foreground of the terminal where stdin is one.
RUNNING = """
import fcntl, os, sys, termios
from asr.commands.process import Runner
if os.isatty(0):
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
with Runner() as runner:
    for number in (1, 2):
        if runner.stopped_by is None:
            status, stderr = runner.run([sys.executable, "-c", sys.argv[1]])
            print("job", number, status, repr(stderr), flush=True)
print("stopped by", runner.stopped_by)
"""
# Says which signals come, and from whom, until it is asked to stop.
LISTENING = """
import os, signal
signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
signal.alarm(60)
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print("ready", os.getpid(), flush=True)
while True:
    got = signal.sigwaitinfo(signals)
    sender = "parent" if got.si_pid == os.getppid() else "terminal"
    print(signal.Signals(got.si_signo).name, "from", sender, flush=True)
    if got.si_signo == signal.SIGTERM:
        os._exit(7)
"""


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a pseudo terminal of 33 lines by 111 columns: ours and the program's."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    attributes = termios.tcgetattr(theirs)
    attributes[3] |= termios.ISIG  # Ctrl-C and Ctrl-Z have their meaning
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """A signal that is not passed on fails in time."""

    def too_late(number: int, frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def start(
    program: str, stdin: int | None = None, stderr: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The two jobs, in the foreground of the terminal that is their stdin, if there is one."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNING, program],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
        process.communicate()
    finally:
        process.kill()
        process.wait()


def line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline().rstrip("\n")


def test_ctrl_c_in_a_terminal_reaches_the_job_once_and_begins_no_other(
    terminal: tuple[int, int],
) -> None:
    ours, theirs = terminal
    with start(LISTENING, stdin=theirs) as process:
        assert line(process.stdout).startswith("ready")
        os.write(ours, b"\x03")
        assert line(process.stdout) == "SIGINT from parent"  # and not from the terminal too
        os.kill(process.pid, signal.SIGTERM)
        assert line(process.stdout) == "SIGTERM from parent"  # and SIGINT not a second time
        assert line(process.stdout) == "job 1 7 ''"
        assert line(process.stdout) == "stopped by 2"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_a_signal_is_passed_on_to_the_job(number: signal.Signals) -> None:
    with start(LISTENING) as process:
        assert line(process.stdout).startswith("ready")
        os.kill(process.pid, number)
        assert line(process.stdout) == f"{number.name} from parent"
        if number != signal.SIGTERM:
            os.kill(process.pid, signal.SIGTERM)
            assert line(process.stdout) == "SIGTERM from parent"
        assert line(process.stdout) == "job 1 7 ''"
        assert line(process.stdout) == f"stopped by {number.value}"


def test_ctrl_z_stops_the_job_too_until_it_goes_on(terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    with start(LISTENING, stdin=theirs) as process:
        job = int(line(process.stdout).split()[1])
        os.write(ours, b"\x1a")
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        state = Path(f"/proc/{job}/stat")
        while state.read_text().rpartition(")")[2].split()[0] != "T":
            pass  # it has been told before
        os.kill(process.pid, signal.SIGCONT)
        os.kill(process.pid, signal.SIGTERM)
        assert line(process.stdout) == "SIGTERM from parent"


def test_a_signal_between_two_jobs_begins_no_other() -> None:
    telling = "import os, signal; os.kill(os.getppid(), signal.SIGTERM)"
    done = subprocess.run(
        [sys.executable, "-c", RUNNING, telling], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "stopped by 15"
    assert "job 2" not in done.stdout


WRITING = r"""
import os, sys
os.write(2, b"\x1b[1mbar\x1b[0m\r50 %\r\nasr: it fails \xff\n")
print(os.isatty(2), os.get_terminal_size(2) if os.isatty(2) else None, flush=True)
"""


def test_what_a_job_writes_is_shown_as_it_is_and_kept() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUNNING, WRITING], capture_output=True, timeout=60, check=True
    )
    assert done.stderr == 2 * b"\x1b[1mbar\x1b[0m\r50 %\r\nasr: it fails \xff\n"
    lines = done.stdout.decode().splitlines()
    assert lines[0] == "False None"
    assert lines[1] == r"job 1 0 '\x1b[1mbar\x1b[0m\r50 %\r\nasr: it fails �\n'"


def test_on_a_terminal_a_job_has_a_terminal_of_the_same_size(terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    with start(WRITING, stderr=theirs) as process:
        assert line(process.stdout) == "True os.terminal_size(columns=111, lines=33)"
        assert line(process.stdout).startswith("job 1 0")
        assert process.wait(60) == 0
    assert os.read(ours, 1000).startswith(b"\x1b[1mbar\x1b[0m\r50 %\r\nasr: it fails \xff\n")


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        ("", ""),
        ("epoch 1\n", ""),
        ("epoch 1\nasr: the corpus is gone\n", "the corpus is gone"),
        ("asr: first\nasr: last\n  a line more\n\n", "last"),
        ("\x1b[2K\r\x1b[1masr: after a bar\x1b[0m\r\n", "after a bar"),
        ("asr: a note\nTraceback (most recent call last):\n  File\nE: no memory\n", "E: no memory"),
    ],
)
def test_the_last_words_are_the_error(stderr: str, words: str) -> None:
    assert last_words(stderr) == words
