"""One item, worked on in a process that may end over it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Lost:
    """The worker that had an item ended, or was ended because the item took too long."""

    why: str
    timed_out: bool = False


def attempt(worker: Callable[[Item], Result], item: Item) -> Result | Lost:
    """What `worker` makes of an item; `Lost` where there was no memory for it, or the GPU failed.

    The process may be of no further use then, and is to be ended.
    """
    try:
        return worker(item)
    except Exception as error:
        why = why_it_cannot_go_on(error)
        if why is None:
            raise
        return Lost(why)


def why_it_cannot_go_on(error: Exception) -> str | None:
    """That a process has no memory left, or its GPU failed; None where an error is any other."""
    if isinstance(error, MemoryError):
        return "it ran out of memory"
    torch = sys.modules.get("torch")  # one that has not been loaded cannot have raised
    if torch is None or not isinstance(error, RuntimeError):
        return None
    if isinstance(error, torch.OutOfMemoryError):
        return "its GPU ran out of memory"
    if isinstance(error, torch.AcceleratorError):
        return f"its GPU failed: {(str(error).splitlines() or [''])[0]}"
    # torch has no class for it
    return "it ran out of memory" if "DefaultCPUAllocator" in str(error) else None


def use_threads(threads: int) -> None:
    """Let this process compute with so many threads, whether torch is loaded already or later."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
