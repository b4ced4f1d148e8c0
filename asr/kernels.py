"""How functions are compiled by Numba: kept on disk, without Python's lock."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np

OPTIONS: dict[str, Any] = {"cache": True, "nogil": True}

kernel = numba.njit(**OPTIONS)
# For functions that make no arrays and are called by kernels. Numba counts references to each array
# that a call hands over, an atomic instruction each, which takes longer than the call does; without
# its runtime it does not.
inner: Any = numba.njit(**{**OPTIONS, "_nrt": False})

SILENCE_S = 2.0  # a compiled function is loaded in less

# Counters begin with it: of a plain 0 Numba makes a type of its own, and compiles all that a loop
# calls with it twice, for the first turn and for the others.
ZERO = np.int64(0)


@contextlib.contextmanager
def compiling(what: str) -> Iterator[None]:
    """Says on a terminal what is being compiled, where it was not loaded at once."""
    words = f"asr: compiling {what}: once on this machine, some twenty seconds"
    timer = threading.Timer(SILENCE_S, print, (words,), {"file": sys.stderr, "flush": True})
    if sys.stderr.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


@kernel
def with_room(table: np.ndarray, used: int, more: int) -> np.ndarray:
    """A table [N, C] with rows for `more` behind those that are used, in place of it if need be."""
    if used + more <= len(table):
        return table
    larger = np.empty((2 * (used + more), table.shape[1]), table.dtype)
    for row in range(used):
        for column in range(table.shape[1]):
            larger[row, column] = table[row, column]
    return larger
