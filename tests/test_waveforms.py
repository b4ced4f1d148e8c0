from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from asr.waveforms import batches_by_length


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


def test_recordings_of_similar_length_go_together() -> None:
    assert list(batches_by_length([9.0, 1.0, 8.0, 2.0, 1.0], 18.0)) == [[1, 4, 3], [2, 0]]


def test_one_longer_than_a_batch_goes_alone() -> None:
    assert list(batches_by_length([50.0, 1.0], 10.0)) == [[1], [0]]
