from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.waveforms import BATCH_COST, batches_by_length


@given(st.lists(st.floats(0, 30), max_size=30), st.floats(0.1, 100))
def test_every_recording_is_in_one_batch_that_is_not_too_large(
    durations_s: list[float], batch_s: float
) -> None:
    batches = list(batches_by_length(durations_s, batch_s))
    assert sorted(position for batch in batches for position in batch) == list(
        range(len(durations_s))
    )
    for batch in batches:
        longest_s = max(durations_s[position] for position in batch)
        assert len(batch) == 1 or longest_s * len(batch) <= batch_s


def cost(durations_s: list[float], batches: list[list[int]]) -> float:
    return sum(
        (len(batch) + BATCH_COST) * max(durations_s[position] for position in batch)
        for batch in batches
    )


@given(st.lists(st.floats(0, 30), min_size=1, max_size=9), st.floats(1, 100))
def test_no_other_cuts_of_them_in_order_of_length_cost_less(
    durations_s: list[float], batch_s: float
) -> None:
    order = sorted(range(len(durations_s)), key=durations_s.__getitem__)
    costs = []
    for count in range(len(order)):
        for cuts in combinations(range(1, len(order)), count):
            batches = [order[begin:end] for begin, end in pairwise([0, *cuts, len(order)])]
            if all(
                len(batch) == 1 or durations_s[batch[-1]] * len(batch) <= batch_s
                for batch in batches
            ):
                costs.append(cost(durations_s, batches))
    found = list(batches_by_length(durations_s, batch_s))
    assert cost(durations_s, found) == pytest.approx(min(costs))


def test_recordings_of_similar_length_go_together() -> None:
    # [1, 4, 3] and [2, 0] cost (3 + 8) x 1.1 + (2 + 8) x 9 = 102.1, all at once (5 + 8) x 9 = 117.
    durations_s = [9.0, 1.0, 8.9, 1.1, 1.0]
    assert list(batches_by_length(durations_s, 60.0)) == [[1, 4, 3], [2, 0]]
    assert list(batches_by_length(durations_s, 10.0)) == [[1, 4, 3], [2], [0]]


def test_none_make_no_batch() -> None:
    assert list(batches_by_length([], 10.0)) == []


def test_one_longer_than_a_batch_goes_alone() -> None:
    assert list(batches_by_length([50.0, 1.0], 10.0)) == [[1], [0]]
