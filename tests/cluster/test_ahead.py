from __future__ import annotations

import threading

from asr.cluster.ahead import Ahead, TimedOut


def test_results_come_in_the_order_of_their_items() -> None:
    results = list(Ahead(lambda n: n * n, range(100), lambda _: 60.0, depth=3))
    assert results == [(n, n * n) for n in range(100)]


def test_work_goes_ahead_no_further_than_asked() -> None:
    begun: list[int] = []
    blocked = threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if number == 6:
            blocked.set()  # 0 is taken, 1 to 5 fill the queue, and this one waits for room
        return number

    ahead = iter(Ahead(work, range(1000), lambda _: 60.0, depth=5))
    assert next(ahead) == (0, 0)
    assert blocked.wait(60)
    assert begun == list(range(7))
    ahead.close()  # type: ignore[attr-defined]


def test_what_is_stuck_is_given_up_and_the_others_go_on() -> None:
    release = threading.Event()

    def work(number: int) -> int:
        if number in (1, 3):
            release.wait()
        return number

    limits = {1: 0.01, 3: 0.01}
    results = list(Ahead(work, range(5), lambda n: limits.get(n, 60.0), depth=2))
    release.set()
    assert [r if isinstance(r, int) else type(r) for _, r in results] == [
        0,
        TimedOut,
        2,
        TimedOut,
        4,
    ]


def test_a_thread_ends_when_nobody_listens_any_more() -> None:
    ahead = iter(Ahead(lambda n: n, range(10**9), lambda _: 60.0, depth=2))
    next(ahead)
    (thread,) = [t for t in threading.enumerate() if t.name.startswith("Thread")][-1:]
    ahead.close()  # type: ignore[attr-defined]
    thread.join(60)
    assert not thread.is_alive()
