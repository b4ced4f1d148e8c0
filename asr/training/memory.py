"""Memory that training has freed goes back to the system."""

from __future__ import annotations

import ctypes
import sys
import time
from typing import Any

import lightning.pytorch as pl

# It takes most of a second, what is taken back from the system afterwards included.
EVERY_S = 60.0


class ReturnMemory(pl.Callback):
    """Gives freed memory back every `EVERY_S` seconds.

    Batches differ in shape, so that glibc's heap fills with holes, which it keeps: gigabytes within
    an hour of training. Other systems' allocators are left alone.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._trim = getattr(library, "malloc_trim", None)
        self._trimmed = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Every so often."""
        if self._trim is not None and time.monotonic() - self._trimmed > EVERY_S:
            self._trim(0)
            self._trimmed = time.monotonic()
