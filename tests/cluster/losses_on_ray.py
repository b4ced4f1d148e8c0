"""Actors, processes and nodes of Ray are lost while they work: run by test_actors.py.

Takes a folder for what the actors note down; prints what happened as one JSON object.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

import asr
from asr.cluster.executor import Lost, RayExecutor
from asr.cluster.nodes import check_nodes
from asr.cluster.ray import import_ray
from asr.errors import UserError

NOTES = Path(sys.argv[1])
FIRST = 10**6
HUNG = re.compile("(a|aa)+$")


def note(name: str) -> None:
    """That an item has been begun, by this process."""
    with (NOTES / name).open("a") as file:
        file.write(f"{os.getpid()}\n")


def wait_for(name: str) -> None:
    while not (NOTES / name).exists():
        time.sleep(0.005)


def gone(name: str) -> bool:
    """Whether the process that began an item has ended; waits for that."""
    pid = (NOTES / name).read_text().strip()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not Path(f"/proc/{pid}").exists()


class Loaded:
    """A worker that remembers, in its process, what it has done; does nothing alone."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def __call__(self, item: int) -> tuple[int, int, str, str]:
        self.done.append(item)
        note(f"loaded-{os.getpid()}")
        while len(list(NOTES.glob("loaded-*"))) < 2:
            time.sleep(0.005)
        node = ray.get_runtime_context().get_node_id()
        return len(self.done), os.getpid(), node, os.environ["OMP_NUM_THREADS"]


def dies(item: str) -> str:
    note(item)
    if item == "deadly":
        wait_for("last")  # so that another item has been sent here
        os.kill(os.getpid(), signal.SIGKILL)
    return item.upper()


def hangs(item: str) -> str:
    note(item)
    if item in ("hung", "asked"):
        HUNG.match("a" * 60 + "b")  # for years, and no other thread of the process gets to run
    return item.upper()


def refuses(item: int) -> int:
    if item == 3:
        raise UserError("three")
    return item


class OutOfMemory:
    def __call__(self, item: int) -> int:
        if item == 1:
            raise MemoryError
        return os.getpid()


class NoSuchModule:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return __import__, ("no_such_module",)

    def __call__(self, item: int) -> int:
        return item


class DiesAtOnce(NoSuchModule):
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return signal.raise_signal, (signal.SIGKILL,)


def block(item: int) -> bytes:
    return bytes(20_000)


def where(item: int) -> str:
    if item == FIRST:
        note("where")
    time.sleep(0.02)  # so that there are not too many of them while a node comes
    return str(ray.get_runtime_context().get_node_id())


def told(results: Iterator[tuple[Any, Any]]) -> dict[str, Any]:
    """Results by item; of what was lost, why, and whether that was for the time."""
    return {
        str(item): [result.why, result.timed_out] if isinstance(result, Lost) else result
        for item, result in results
    }


def error(call: Callable[[], Any]) -> str:
    try:
        call()
    except UserError as error:
        return str(error)
    return ""


def memory_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def laziness(executor: RayExecutor) -> tuple[int, int]:
    """How many items have been taken and not come back, at most; how the memory grows."""
    taken, most, early = 0, 0, 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(900):
            taken += 1
            yield item

    for count, _ in enumerate(executor.map(block, items())):
        most = max(most, taken - count)
        early = memory_bytes() if count == 300 else early
    return most, memory_bytes() - early


def lost_node(cluster: Cluster, executor: RayExecutor, node: Any) -> dict[str, Any]:
    """A node goes, and another one comes, while there is always something to do."""
    before, lost, after = set(), [], set()
    new = ""
    wanted = iter(executor.map(where, itertools.count()))
    items = set()
    for item, result in wanted:
        items.add(item)
        if isinstance(result, Lost):
            lost.append(result.why)
        elif not new:
            before.add(result)
            if len(before) == 2:
                cluster.remove_node(node, allow_graceful=False)
                new = cluster.add_node(num_cpus=1).node_id
        elif result == new:
            break
        else:
            after.add(result)
    wanted.close()
    return {
        "nodes": len(before),
        "lost": lost,
        "others": len(after),
        "all": items >= set(range(max(items) - 4)),
    }


class Stop(BaseException):
    """As the handler of a command raises it."""


def stop(number: int, frame: object) -> None:
    raise Stop(number)


def asked_to_stop(executor: RayExecutor) -> int:
    """The signal that ended the work; it comes while Ray waits for an item."""

    def ask() -> None:
        wait_for("asked")
        os.kill(os.getpid(), signal.SIGINT)  # for SIGTERM a node of the cluster has its own answer

    threading.Thread(target=ask, daemon=True).start()
    try:
        list(executor.map(hangs, ["asked"]))
    except Stop as stopped:
        return int(stopped.args[0])
    return 0


def main() -> dict[str, Any]:
    found: dict[str, Any] = {}
    signal.signal(signal.SIGINT, stop)
    import_ray()  # which silences it
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    node = cluster.add_node(num_cpus=1)
    with RayExecutor(address=cluster.address) as executor:
        found["workers"] = executor.workers
        found["node"] = ray.util.get_node_ip_address()
        found["loaded"] = [result for _, result in executor.map(Loaded(), range(20))]
        found["none"] = list(executor.map(Loaded(), []))
        found["dies"] = told(executor.map(dies, ["deadly", "one", "two", "last"]))
        limit_s = {"hung": 1.0}
        found["hangs"] = told(
            executor.map(hangs, ["hung", "quick"], lambda item: limit_s.get(item, 300.0))
        )
        found["hung process gone"] = gone("hung")
        found["refuses"] = error(lambda: list(executor.map(refuses, [3])))
        found["out of memory"] = told(executor.map(OutOfMemory(), [1, 2]))
        found["no such module"] = error(lambda: list(executor.map(NoSuchModule(), [1])))
        found["dies at once"] = error(lambda: list(executor.map(DiesAtOnce(), [1])))
        found["unfinished"], found["growth"] = laziness(executor)
        inputs = [str(path) for path in sorted(NOTES.iterdir())]
        check = partial(check_nodes, ray, inputs, None, str(NOTES))
        found["nodes lack"] = error(check)
        asr.__version__ = "9.9"
        found["another version"] = error(check)
        found["lost node"] = lost_node(cluster, executor, node)
        found["asked to stop"] = asked_to_stop(executor)
        found["asked process gone"] = gone("asked")
        stopped = executor.map(where, itertools.count(FIRST))
        next(stopped)
        stopped.close()
        found["stopped process gone"] = gone("where")
    cluster.shutdown()
    return found


if __name__ == "__main__":
    print(json.dumps(main()))
