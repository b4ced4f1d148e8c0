"""Work done by actors of Ray, any of which may die.

An actor does its items in the order they were sent, one at a time: where it dies, the oldest of
those that have not come back is the one it worked on, and the others had not been begun.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from asr.cluster.attempt import Lost, attempt, use_threads
from asr.cluster.ray import first_line
from asr.cluster.signals import SLICE_S, KeptSignals
from asr.errors import UserError

IN_FLIGHT = 2  # items at an actor: the one it works on, and the next, so that it need not wait
START_ATTEMPTS = 3  # in a row, in one seat
PATIENCE_S = 60.0  # without a single actor, before that is said


class Actor:
    """A process on some node: has a worker, and gives it items."""

    def begin(self, worker: Callable[[Any], Any], threads: int) -> str:
        """Take the worker, which has been unpickled for it; the node's address."""
        import ray

        use_threads(threads)
        self._worker = worker
        return str(ray.util.get_node_ip_address())

    def work(self, item: Any) -> Any:
        """What the worker makes of an item."""
        return attempt(self._worker, item)


class Queue:
    """Items in the order they are given out; the next one is asked for when it is wanted."""

    def __init__(self, first: Iterable[Any], rest: Iterator[Any]) -> None:
        self._first = deque(first)
        self._rest = rest

    def empty(self) -> bool:
        """Whether there is no next one."""
        if not self._first:
            self._first.extend(islice(self._rest, 1))
        return not self._first

    def take(self) -> Any:
        """The next one."""
        return self._first.popleft()

    def put_back(self, items: Iterable[Any]) -> None:
        """Give these out next."""
        self._first.extendleft(reversed(list(items)))


@dataclass(frozen=True)
class Sent:
    """An item at an actor, and the reference of what will come back."""

    item: Any
    reference: Any
    limit_s: float


class Seat:
    """A place for an actor, and for another one when that is lost."""

    def __init__(self, hire: Callable[[], tuple[Any, Any]]) -> None:
        self._hire = hire
        self.failures = 0  # to start, in a row
        self.fill()

    def fill(self) -> None:
        """Start an actor."""
        self.node = ""  # where it is, once it has begun
        self.sent: deque[Sent] = deque()  # oldest first
        self.deadline = math.inf  # of the oldest
        self.actor, self._beginning = self._hire()

    def send(self, item: Any, limit_s: float) -> None:
        """Something more for its actor to do."""
        self.sent.append(Sent(item, self.actor.work.remote(item), limit_s))
        if len(self.sent) == 1:
            self.deadline = time.monotonic() + limit_s

    def received(self) -> None:
        """The oldest has come back; the actor goes on with the next."""
        self.sent.popleft()
        self.deadline = time.monotonic() + self.sent[0].limit_s if self.sent else math.inf

    @property
    def reference(self) -> Any:
        """Of what its actor does now, beginning included; None where that is nothing."""
        if not self.node:
            return self._beginning
        return self.sent[0].reference if self.sent else None


class Crew:
    """Actors of Ray: `size` of them, each with `threads` cores, with `gpus` each with a GPU."""

    def __init__(
        self,
        ray: Any,
        worker: Callable[[Any], Any],
        size: int,
        threads: int,
        gpus: bool,
        signals: KeptSignals,
    ) -> None:
        self._ray = ray
        self._signals = signals
        self._size = size
        self._threads = threads
        self._worker = ray.put(worker)
        # Neighbours share a node's disk and memory, so they are spread. What died is not begun
        # again by Ray, which would not say what it was doing.
        self._actor = ray.remote(
            num_cpus=threads,
            num_gpus=1 if gpus else 0,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )(Actor)
        self._seats: list[Seat] = []

    def map(
        self, items: Iterable[Any], limit_s: Callable[[Any], float]
    ) -> Iterator[tuple[Any, Any]]:
        """Items with their results or `Lost`, as they end.

        Raises:
            UserError: no actor can be started.
        """
        rest = iter(items)
        first = list(islice(rest, self._size))  # for fewer items fewer actors will do
        queue = Queue(first, rest)
        try:
            for _ in first:
                self._seats.append(Seat(self._hire))
            while True:
                self._hand_out(queue, limit_s)
                if not any(seat.sent for seat in self._seats) and queue.empty():
                    return
                for seat in self._ready():
                    if seat.node:
                        yield self._result(seat, queue)
                    else:
                        self._begin(seat)
                for seat in self._overdue():
                    why = f"it took longer than {seat.sent[0].limit_s:g} s"
                    yield self._lose(seat, queue, why, timed_out=True)
        finally:
            if self._ray.is_initialized():  # or else it would be by what comes next
                for seat in self._seats:
                    self._ray.kill(seat.actor)

    def _hire(self) -> tuple[Any, Any]:
        """An actor, and the reference of its beginning."""
        actor = self._actor.remote()
        return actor, actor.begin.remote(self._worker, self._threads)

    def _hand_out(self, queue: Queue, limit_s: Callable[[Any], float]) -> None:
        """As much as there is room for: something for each actor first, then a second thing."""
        for depth in range(1, IN_FLIGHT + 1):
            for seat in self._seats:
                if seat.node and len(seat.sent) < depth:
                    if queue.empty():
                        return
                    item = queue.take()
                    seat.send(item, limit_s(item))

    def _ready(self) -> list[Seat]:
        """Where something has come to an end. Waits for that, until the first deadline."""
        seats = {seat.reference: seat for seat in self._seats if seat.reference is not None}
        references = list(seats)
        anybody = any(seat.node for seat in self._seats)
        deadline = min(seat.deadline for seat in self._seats)
        if not anybody:
            deadline = time.monotonic() + PATIENCE_S
        ready: list[Any] = []
        left_s = 0.0
        while not ready and left_s >= 0:
            left_s = deadline - time.monotonic()
            slice_s = min(max(left_s, 0.0), SLICE_S)
            ready, _ = self._ray.wait(references, num_returns=1, timeout=slice_s)
            self._signals.heed()
        if ready:  # and what else there is
            ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        elif not anybody:
            say("Ray has not started any worker yet: ray status shows what it waits for")
        return [seats[reference] for reference in ready]

    def _overdue(self) -> list[Seat]:
        """Where the item that is worked on takes too long, and has not ended meanwhile."""
        now = time.monotonic()
        late = [seat for seat in self._seats if seat.deadline < now]
        return [seat for seat in late if not self._ray.wait([seat.reference], timeout=0)[0]]

    def _result(self, seat: Seat, queue: Queue) -> tuple[Any, Any]:
        """The oldest item of a seat with what has come back."""
        try:
            result = self._ray.get(seat.sent[0].reference)
        except self._ray.exceptions.RayTaskError as error:
            # Ray wraps what the worker raised together with its traceback.
            raise error.cause from (None if isinstance(error.cause, UserError) else error)
        except self._ray.exceptions.RayError as error:
            return self._lose(seat, queue, how_it_died(self._ray, error))
        if isinstance(result, Lost):
            return self._lose(seat, queue, result.why)
        item = seat.sent[0].item
        seat.received()
        return item, result

    def _lose(
        self, seat: Seat, queue: Queue, why: str, timed_out: bool = False
    ) -> tuple[Any, Lost]:
        """The item that a seat's actor works on, given up; another actor takes its place."""
        oldest, *others = seat.sent
        queue.put_back([sent.item for sent in others])
        lost = Lost(f"{why}, on {seat.node}", timed_out)
        self._ray.kill(seat.actor)
        seat.fill()
        return oldest.item, lost

    def _begin(self, seat: Seat) -> None:
        """Its actor has begun, or failed to."""
        try:
            seat.node = self._ray.get(seat.reference)
            seat.failures = 0
            return
        except self._ray.exceptions.RayError as error:
            node, reason = why_it_did_not_begin(self._ray, error)
        self._ray.kill(seat.actor)
        seat.failures += 1
        if seat.failures < START_ATTEMPTS:
            seat.fill()
            return
        self._seats.remove(seat)
        fault = f"A worker cannot be started on {node}: {reason}"
        if not any(other.node for other in self._seats):
            raise UserError(fault)
        say(f"{fault}; {len(self._seats)} workers go on")


def say(words: str) -> None:
    """On the screen, where something goes on that a person should know of."""
    print(f"asr: {words}", file=sys.stderr, flush=True)


def how_it_died(ray: Any, error: Exception) -> str:
    """In a few words, from what Ray says of a lost actor: pages, which name no cause."""
    said = str(error)
    if isinstance(error, ray.exceptions.ActorUnavailableError):
        return "its process or its node cannot be reached"
    if "node has died" in said or "node was terminated" in said:
        return "its node was lost"
    if "running low on memory" in said:
        return "its process was ended because its node ran low on memory"
    if isinstance(error, ray.exceptions.RayActorError):
        return "its process ended"
    return f"its result was lost: {first_line(error)}"


def why_it_did_not_begin(ray: Any, error: Exception) -> tuple[str, str]:
    """The node, and why: of what was raised there the last line, which says what it was."""
    found = re.search(r"ip[:=] ?([\w.:]+)", str(error))
    node = found.group(1) if found else "a node of the Ray cluster"
    if isinstance(error, ray.exceptions.RayTaskError) or getattr(error, "actor_init_failed", False):
        lines = [line for line in str(error).splitlines() if line.strip()]
        return node, lines[-1].strip()
    return node, how_it_died(ray, error)
