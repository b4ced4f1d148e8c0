"""When freed memory is given back."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

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
