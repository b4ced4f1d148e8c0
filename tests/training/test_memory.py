"""When freed memory is given back, and how much was taken at most."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from asr.training import memory


def test_memory_is_given_back_at_most_once_in_so_many_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([1000.0, 1030.0, 1061.0, 1061.0, 1062.0, 1121.0, 1130.0, 1130.0])
    monkeypatch.setattr(memory, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    callback = memory.ReturnMemory()
    trims: list[int] = []
    callback._trim = trims.append
    for _ in range(5):  # at 1030, 1061 (trims), 1062, 1121, 1130 (trims)
        callback.on_train_batch_end(None)  # type: ignore[arg-type]
    assert trims == [0, 0]


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    callback = memory.ReturnMemory()
    callback._trimmed = float("-inf")
    callback.on_train_batch_end(None)  # type: ignore[arg-type]
    assert callback._trim is None


def test_the_peak_is_of_the_most_that_was_held_and_stays() -> None:
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    before = memory.peak_resident_bytes()
    hundred = 100_000_000
    size = before - resident + hundred
    # Of the system: malloc may have as much left over, which is resident already.
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        for _ in range(0, size, 1_000_000):
            held.write(b"x" * min(1_000_000, size - held.tell()))
    after = memory.peak_resident_bytes()
    assert after - before == pytest.approx(hundred, rel=0.1)
    assert memory.peak_resident_bytes() == pytest.approx(after, rel=0.01)


def test_the_peak_of_a_run_is_that_of_its_largest_process() -> None:
    now = pytest.approx(memory.peak_resident_bytes(), rel=0.01)
    first, second = memory.PeakMemory(), memory.PeakMemory()
    assert first.state_dict() == {
        "resident_bytes": now,
        "cuda_bytes": torch.cuda.max_memory_allocated(),
    }
    second.load_state_dict({"resident_bytes": 10**15, "cuda_bytes": 10**14})
    assert (second.resident_bytes, second.cuda_bytes) == (10**15, 10**14)
    second.load_state_dict({"resident_bytes": 1, "cuda_bytes": 0})
    assert second.resident_bytes == now
