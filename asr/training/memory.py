"""How much memory training takes, and that what it has freed goes back to the system."""

from __future__ import annotations

import ctypes
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

# It takes most of a second, what is taken back from the system afterwards included.
EVERY_S = 60.0
# Of glibc's mallopt: from how many bytes on memory is asked of the system for each block alone (the
# most it takes), and from how many free bytes at the heap's end on they go back at once.
M_MMAP_THRESHOLD, MOST_BYTES = -3, 32 * 2**20
M_TRIM_THRESHOLD, NEVER = -1, 2**31 - 1


class ReturnMemory(pl.Callback):
    """Gives freed memory back every `EVERY_S` seconds, and not before.

    Batches differ in shape, so that glibc's heap fills with holes, which it keeps: gigabytes within
    an hour of training. What it gives back by itself it needs again in the next step, cleared once
    more by the system: 4 % of an epoch of AN4. Other systems' allocators are left alone.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._trim = getattr(library, "malloc_trim", None)
        option = getattr(library, "mallopt", None)
        if option is not None:
            option(M_MMAP_THRESHOLD, MOST_BYTES)
            option(M_TRIM_THRESHOLD, NEVER)
        self._trimmed = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Every so often."""
        if self._trim is not None and time.monotonic() - self._trimmed > EVERY_S:
            self._trim(0)
            self._trimmed = time.monotonic()


def peak_resident_bytes() -> int:
    """The most memory that this process has held, code and mapped files included."""
    status = Path("/proc/self/status")
    # Linux counts into `ru_maxrss` what the process held that this one was forked from.
    peak = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.M) if status.exists() else None
    if peak:
        return int(peak[1]) * 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


class PeakMemory(pl.Callback):
    """The most memory a run has taken: that of the largest of its processes, if it had several.

    A process that was killed counts up to its last checkpoint. `cuda_bytes` is what tensors took
    on the GPU; 0 where none was used.
    """

    def __init__(self) -> None:
        self._earlier = {"resident_bytes": 0, "cuda_bytes": 0}

    @property
    def resident_bytes(self) -> int:
        """Of the process."""
        return max(self._earlier["resident_bytes"], peak_resident_bytes())

    @property
    def cuda_bytes(self) -> int:
        """Of the GPU."""
        return max(self._earlier["cuda_bytes"], torch.cuda.max_memory_allocated())

    def state_dict(self) -> dict[str, Any]:
        """The most so far."""
        return {"resident_bytes": self.resident_bytes, "cuda_bytes": self.cuda_bytes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """That of the processes before."""
        self._earlier = dict(state_dict)
