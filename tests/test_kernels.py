"""What is said while functions are compiled, and tables that grow."""

from __future__ import annotations

import io
import sys
import threading

import numpy as np
import pytest

from asr import kernels


class Screen(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal
        self.written = threading.Event()

    def isatty(self) -> bool:
        return self._terminal

    def write(self, text: str) -> int:
        self.written.set()
        return super().write(text)


def test_on_a_terminal_a_line_says_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(terminal=True)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(kernels, "SILENCE_S", 0.0)
    with kernels.compiling("the search"):
        assert screen.written.wait(60)
    assert screen.getvalue().startswith("asr: compiling the search")


@pytest.mark.parametrize(("terminal", "silence_s"), [(True, 60.0), (False, 0.0)])
def test_what_is_loaded_at_once_or_looked_at_by_nobody_is_not_told(
    terminal: bool, silence_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen(terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(kernels, "SILENCE_S", silence_s)
    before = threading.active_count()
    with kernels.compiling("the search"):
        assert threading.active_count() == before + terminal
    assert screen.getvalue() == ""


def test_a_table_keeps_its_rows_when_it_grows() -> None:
    table = np.arange(6).reshape(3, 2)
    assert np.shares_memory(kernels.with_room(table, 1, 2), table)
    larger = kernels.with_room(table, 2, 2)
    assert len(larger) >= 4
    assert larger[:2].tolist() == [[0, 1], [2, 3]]
