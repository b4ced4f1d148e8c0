"""Asynchronous successive halving: decisions worked out by hand, and by another program of it."""

from __future__ import annotations

import random
import sys

import pytest

from asr.cluster.halving import Halving
from asr.errors import UserError


def test_a_trial_goes_on_where_it_is_in_the_best_quarter_of_those_at_its_rung() -> None:
    halving = Halving(max_epochs=16, grace_epochs=1)  # rungs after epochs 1 and 4
    assert halving.goes_on(1, 1, 0.50)  # nobody came there before
    assert not halving.goes_on(2, 1, 0.60)  # a quarter of (0.50) is at 0.50
    assert halving.goes_on(3, 1, 0.40)  # of (0.50 0.60) at 0.50 + 0.25 * 0.10 = 0.525
    assert not halving.goes_on(4, 1, 0.46)  # of (0.40 0.50 0.60) at 0.40 + 0.5 * 0.10 = 0.45
    assert halving.goes_on(5, 1, 0.44)  # of (0.40 0.46 0.50 0.60) at 0.40 + 0.75 * 0.06 = 0.445
    assert halving.goes_on(1, 2, 0.99)  # between rungs nobody is stopped
    assert halving.goes_on(1, 3, 0.99)
    assert halving.goes_on(1, 4, 0.30)  # the first one there
    assert halving.goes_on(3, 4, 0.30)  # as good as the best
    assert not halving.goes_on(5, 4, 0.31)
    assert halving.goes_on(1, 16, 0.99)  # at its end


def expected(reports: list[tuple[int, int, float]], first: int, most: int) -> list[bool]:
    """ASHA as Li et al. have it, but that a trial that is stopped is not gone on with later.

    A rate may stand at the quarter of those that came to the rung before it, between whole places
    by a straight line.
    """
    rungs: dict[int, list[float]] = {}
    epoch = first
    while epoch < most:
        rungs[epoch] = []
        epoch *= 4
    decisions = []
    for _, epoch, rate in reports:
        before = sorted(rungs.get(epoch, []))
        goes_on = True
        if before:
            place = 0.25 * (len(before) - 1)
            low, share = int(place), place % 1
            high = before[min(low + 1, len(before) - 1)]
            goes_on = rate <= before[low] + share * (high - before[low]) + 1e-12
        if epoch in rungs:
            rungs[epoch].append(rate)
        decisions.append(goes_on)
    return decisions


@pytest.mark.parametrize(("first", "most"), [(1, 20), (2, 40), (10, 60), (3, 3)])
def test_many_reports_are_decided_as_another_program_does(first: int, most: int) -> None:
    generator = random.Random(first)
    running = dict.fromkeys(range(40), 0)
    reports, decisions = [], []
    halving = Halving(most, first)
    while running:  # as they come from several at a time
        trial = generator.choice(list(running)[:4])
        running[trial] += 1
        reports.append((trial, running[trial], round(generator.random(), 3)))
        decisions.append(halving.goes_on(*reports[-1]))
        if not decisions[-1] or running[trial] == most:
            del running[trial]
    assert decisions == expected(reports, first, most)
    again = Halving(most, first)
    assert [again.goes_on(*report) for report in reports] == decisions
    assert (False in decisions) == (first < most)


def test_with_more_grace_than_epochs_no_trial_is_stopped() -> None:
    halving = Halving(max_epochs=3, grace_epochs=10)
    assert all(halving.goes_on(trial, epoch, trial) for trial in (1, 2, 3) for epoch in (1, 2, 3))


def test_ray_is_not_started() -> None:
    import ray

    Halving(4, 1).goes_on(1, 1, 0.5)
    assert not ray.is_initialized()


def test_without_ray_tune_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.tune.schedulers", None)
    with pytest.raises(UserError, match=r"^asr tune needs Ray Tune: .* pip install 'ray\[tune\]'"):
        Halving(4, 1)
