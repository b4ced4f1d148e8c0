"""Work done ahead in a thread, so that what waits for disks overlaps with what computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class TimedOut:
    """In the place of a result: it did not come in time, and is not waited for any more."""


class Ahead(Generic[Item, Result]):
    """Results of `work` for items, in their order, at most `depth` of them ready before their turn.

    Where a result is waited for longer than `limit_s` says, it is given up: another thread goes on
    with the item behind it, and the stuck one ends when its work does, or with the process. `work`
    returns its errors, it does not raise them.
    """

    def __init__(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        limit_s: Callable[[Item], float],
        depth: int,
    ) -> None:
        self._work = work
        self._items = items
        self._limit_s = limit_s
        self._depth = depth

    def __iter__(self) -> Iterator[tuple[Item, Result | TimedOut]]:
        results, stop = self._begun(0)
        try:
            for position, item in enumerate(self._items):
                try:
                    yield item, results.get(timeout=self._limit_s(item))
                except queue.Empty:
                    stop.set()
                    yield item, TimedOut()
                    results, stop = self._begun(position + 1)
        finally:
            stop.set()
            while not results.empty():  # the thread may wait for room to put one more
                results.get_nowait()

    def _begun(self, first: int) -> tuple[queue.Queue[Result], threading.Event]:
        results: queue.Queue[Result] = queue.Queue(self._depth)
        stop = threading.Event()

        def work() -> None:
            for item in self._items[first:]:
                if stop.is_set():
                    return
                results.put(self._work(item))

        threading.Thread(target=work, daemon=True).start()
        return results, stop
