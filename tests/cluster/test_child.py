"""Work in a child process. The workers are functions of the standard library that end it."""

from __future__ import annotations

import math
import operator
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asr.cluster.executor import Lost, ProcessExecutor, choose_executor
from asr.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]


def do(worker: Callable[[Any], Any], *items: Any, limit_s: float | None = None) -> list[Any]:
    """The results, in order."""
    with ProcessExecutor() as executor:
        limits = None if limit_s is None else lambda item: limit_s
        pairs = list(executor.map(worker, items, limits))
    assert [item for item, _ in pairs] == list(items)
    return [result for _, result in pairs]


def test_results_come_in_order_from_one_process_that_is_another() -> None:
    assert do(math.factorial, 4, 3) == [24, 6]
    first, second = do(os.getpgid, 0, 0)  # a group of its own: its process id
    assert first == second != os.getpgid(0)
    assert not Path(f"/proc/{first}").exists()


@pytest.mark.parametrize(
    ("worker", "deadly", "why"),
    [
        (signal.raise_signal, signal.SIGKILL, "its process was killed by SIGKILL"),
        (signal.raise_signal, signal.SIGSEGV, "its process was killed by SIGSEGV"),
        (sys.exit, 3, "its process ended with status 3"),
        (bytes, 2**62, "it ran out of memory"),
    ],
)
def test_an_item_that_ends_its_process_is_lost_and_the_next_goes_on_in_another(
    worker: Callable[[Any], Any], deadly: int, why: str
) -> None:
    with ProcessExecutor() as executor:
        results = executor.map(worker, [deadly, deadly])
        assert next(results) == (deadly, Lost(why))
        assert next(results) == (deadly, Lost(why))
        assert list(results) == []


def test_an_item_that_takes_too_long_is_ended() -> None:
    began = time.monotonic()
    assert do(time.sleep, 1000.0, 0.0, limit_s=0.5) == [
        Lost("it took longer than 0.5 s", timed_out=True),
        None,
    ]
    assert time.monotonic() - began < 60


def test_what_the_worker_raises_is_raised_here() -> None:
    with pytest.raises(UserError, match="slurm"):
        do(partial(choose_executor, workers=1, address=None), "slurm")
    with pytest.raises(KeyError) as caught:
        do(operator.itemgetter("a"), {})
    assert "in attempt" in str(caught.value.__cause__)  # where it was raised
    with pytest.raises(TypeError, match="pickle"):
        do(os.scandir, "/")  # a result that cannot travel


def test_items_are_taken_one_at_a_time() -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(3):
            taken.append(item)
            yield item

    with ProcessExecutor() as executor:
        for item, _ in executor.map(math.sqrt, items()):
            assert taken == list(range(item + 1))


def test_it_computes_with_the_threads_it_was_given() -> None:
    with ProcessExecutor(threads=3) as executor:
        assert list(executor.map(os.getenv, ["OMP_NUM_THREADS"])) == [("OMP_NUM_THREADS", "3")]


class DiesWhenLoaded:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return signal.raise_signal, (signal.SIGKILL,)

    def __call__(self, item: int) -> int:
        return item


def test_a_worker_that_cannot_be_loaded_is_an_error_and_no_loop() -> None:
    with pytest.raises(UserError, match=r"started on this machine: .* killed by SIGKILL"):
        do(DiesWhenLoaded(), 1)


def test_nothing_is_left_at_work_where_the_program_is_killed(tmp_path: Path) -> None:
    program = (
        "from asr.cluster.executor import ProcessExecutor\n"
        "work = 'exec(\\'import os, time; print(os.getpid(), flush=True); time.sleep(1000)\\')'\n"
        "next(ProcessExecutor().map(eval, [work]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        child = Path("/proc") / process.stdout.readline().decode().strip()
        assert child.exists()
        process.kill()
    deadline = time.monotonic() + 60
    while child.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not child.exists()
