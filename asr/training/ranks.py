"""What the processes that train together tell each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import distributed


def summed(numbers: Sequence[float], device: torch.device) -> list[float]:
    """Each number added up over all ranks, in double precision; every rank must call it.

    `device` is where the ranks' backend computes: a GPU with NCCL.
    """
    if not _several():
        return list(numbers)
    together = torch.tensor(numbers, dtype=torch.float64, device=device)
    distributed.all_reduce(together)
    return [float(number) for number in together.tolist()]


def gathered(value: Any) -> list[Any]:
    """The value of every rank, in the order of ranks; every rank must call it."""
    if not _several():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def part() -> None:
    """Meet once more and end the connections; every rank must call it.

    Left to the end of the process, threads that serve them may run while Python is taken down,
    which aborts the process (pytorch/pytorch#179291).
    """
    if _several():
        gathered(None)
        distributed.destroy_process_group()


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()
