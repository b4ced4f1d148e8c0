"""Memory that training has freed goes back to the system."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import lightning.pytorch as pl

# Seldom enough to cost nothing measurable, often enough that the holes stay small.
EVERY_STEPS = 100


class ReturnMemory(pl.Callback):
    """Gives freed memory back every `EVERY_STEPS` steps.

    Batches differ in shape, so that glibc's heap fills with holes, which it keeps: gigabytes within
    an hour of training. Other systems' allocators are left alone.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._trim = getattr(library, "malloc_trim", None)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Every so many steps."""
        if self._trim is not None and trainer.global_step % EVERY_STEPS == 0:
            self._trim(0)

    def on_validation_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """And after validation, whose batches are shaped differently again."""
        if self._trim is not None:
            self._trim(0)
