"""Where work is done: in this process, in a child of it, or on Ray.

One protocol, so that the work does not know. Starting Ray takes seconds, which one worker is not
worth. What travels to it are paths and small records, never audio.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from asr.cluster.actors import Crew, say
from asr.cluster.attempt import Lost, attempt
from asr.cluster.child import Child
from asr.cluster.ray import import_ray, start_ray
from asr.cluster.signals import KeptSignals
from asr.errors import UserError

__all__ = [
    "Executor",
    "LocalExecutor",
    "Lost",
    "ProcessExecutor",
    "RayExecutor",
    "choose_executor",
]

Item = TypeVar("Item")
Result = TypeVar("Result")


class Executor(Protocol):
    """Does a job for each of many items. A context manager: leaving it stops what is under way."""

    workers: int

    def __enter__(self) -> Executor: ...

    def __exit__(self, *error: object) -> None: ...

    def map(
        self,
        worker: Callable[[Item], Result],
        items: Iterable[Item],
        limit_s: Callable[[Item], float] | None = None,
    ) -> Iterator[tuple[Item, Result | Lost]]:
        """Items with their results, as they end. What `worker` raises is raised here.

        Args:
            worker: is pickled, and lives as long as the map in each process that works: what it
                loads it may keep.
            items: are asked for when there is somebody to work on them; at most two a worker are
                under way.
            limit_s: how long an item may take before its process is killed. A process that does
                not run in one of its own heeds no limit.

        An item comes back as `Lost` where the process that worked on it has ended; whether it is
        given out again is the caller's to say. Another process takes that one's place, and items
        that had only been sent there are sent again.
        """
        ...


class LocalExecutor:
    """Does the work in this process, one item after the other."""

    workers = 1

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def map(
        self,
        worker: Callable[[Item], Result],
        items: Iterable[Item],
        limit_s: Callable[[Item], float] | None = None,
    ) -> Iterator[tuple[Item, Result | Lost]]:
        """Items with their results, in order; none is ever `Lost`.

        Raises:
            UserError: the process has no memory left, or its GPU failed.
        """
        for item in items:
            result = attempt(worker, item)
            if isinstance(result, Lost):
                raise UserError(
                    f"The process cannot go on: {result.why}. What is done stays; the same command"
                    " goes on."
                )
            yield item, result


class ProcessExecutor:
    """Does the work in one child process of this machine, one item after the other.

    `threads` is what it computes with. The worker's module has to be one that can be imported:
    the program that runs is not loaded there.
    """

    workers = 1

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads

    def __enter__(self) -> ProcessExecutor:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def map(
        self,
        worker: Callable[[Item], Result],
        items: Iterable[Item],
        limit_s: Callable[[Item], float] | None = None,
    ) -> Iterator[tuple[Item, Result | Lost]]:
        """Items with their results, in order. The child lives from the first item to the end."""
        child = None
        try:
            for item in items:
                child = child or Child(worker, self._threads)
                yield item, child.do(item, limit_s(item) if limit_s else None)
        finally:
            if child:
                child.end()


class RayExecutor:
    """Does the work on Ray: a cluster by its address, or one of its own on this machine.

    `workers` is the number of processes, each with `threads` cores, or with `gpus` each with a GPU
    besides (None: where the cluster has any); as many as are asked for, but no more than there is
    room for, which is said. `start_s` says how long starting took. Signals that end the command are
    heeded between calls of Ray.
    """

    def __init__(
        self,
        workers: int | None = None,
        address: str | None = None,
        threads: int = 1,
        gpus: bool | None = False,
    ) -> None:
        self._wanted = workers
        self.address = address
        self.threads = threads
        self._gpus = gpus
        self.gpus = bool(gpus)
        self.workers = workers or max(1, (os.cpu_count() or 1) // threads)
        self.start_s = 0.0
        self._signals = KeptSignals()

    def __enter__(self) -> RayExecutor:
        began = time.perf_counter()
        cores = self.workers * self.threads
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._signals)
            ray = start_ray(self.address, cores, {"OMP_NUM_THREADS": str(self.threads)})
            stack.callback(ray.shutdown)
            self._signals.heed()
            if self._gpus is None:
                self.gpus = ray.cluster_resources().get("GPU", 0) > 0
            room = _room(ray, self.threads, self.gpus)
            self.workers = min(self._wanted or room, room)
            if self._wanted and self._wanted > room:
                say(f"there is room for {room} workers, not {self._wanted}")
            self._stack = stack.pop_all()
        self.start_s = time.perf_counter() - began
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def map(
        self,
        worker: Callable[[Item], Result],
        items: Iterable[Item],
        limit_s: Callable[[Item], float] | None = None,
    ) -> Iterator[tuple[Item, Result | Lost]]:
        """Items with their results, as they end."""
        crew = Crew(import_ray(), worker, self.workers, self.threads, self.gpus, self._signals)
        return crew.map(items, limit_s or (lambda item: math.inf))


def _room(ray: Any, threads: int, gpus: bool) -> int:
    """For how many processes there is room.

    Raises:
        UserError: for none.
    """
    room = 0
    for node in ray.nodes():
        if node["Alive"]:
            fit = int(node["Resources"].get("CPU", 0) // threads)
            room += min(fit, int(node["Resources"].get("GPU", 0))) if gpus else fit
    if not room:
        what = f"{threads} free core{'s' * (threads > 1)}{' and a GPU' * gpus}"
        raise UserError(
            f"No machine of the Ray cluster has {what}: ray status shows what they have."
        )
    return room


def choose_executor(
    name: str, workers: int | None, address: str | None, threads: int = 1, gpus: bool = False
) -> Executor:
    """In this process for one worker of `local`, on Ray for everything else.

    Raises:
        UserError: there is no such cluster, or no such number of workers.
    """
    if name not in ("local", "ray"):
        raise UserError(f"cluster.name is {name!r}; it can be local or ray.")
    if workers is not None and workers < 1:
        raise UserError(f"cluster.workers is {workers}; at least one has to do the work.")
    if name == "local" and workers == 1:
        return LocalExecutor()
    return RayExecutor(workers, address, threads, gpus)
