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
    except MemoryError:
        return Lost("it ran out of memory")
    except RuntimeError as error:
        torch = sys.modules.get("torch")  # one that has not been loaded cannot have raised
        if torch is None:
            raise
        if isinstance(error, torch.OutOfMemoryError):
            return Lost("its GPU ran out of memory")
        if isinstance(error, torch.AcceleratorError):
            return Lost(f"its GPU failed: {(str(error).splitlines() or [''])[0]}")
        raise


def use_threads(threads: int) -> None:
    """Let this process compute with so many threads, whether torch is loaded already or later."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
