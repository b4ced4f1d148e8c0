"""Which of the processes that train together this one is; found without loading torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

# What torchrun tells each process, and so does `asr train` itself.
TOLD = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Place:
    """A rank among `world` processes, of which `local` are on this machine."""

    rank: int = 0
    world: int = 1
    local: int = 1


def place(variables: Mapping[str, str] = os.environ) -> Place | None:
    """Which process this is, where torchrun, Slurm or the like has started others with it."""
    if started_by_torchrun(variables):
        local = int(variables.get("LOCAL_WORLD_SIZE", "1"))
        return Place(int(variables["RANK"]), int(variables["WORLD_SIZE"]), local)
    if started_by_slurm(variables):
        world = int(variables["SLURM_NTASKS"])
        # '2(x3),1': tasks on each node.
        local = int(variables.get("SLURM_TASKS_PER_NODE", "1").split("(")[0].split(",")[0])
        return Place(int(variables["SLURM_PROCID"]), world, local)
    return None


def started_by_torchrun(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is one of several that torchrun, or something like it, has started."""
    return all(name in variables for name in TOLD)


def started_by_slurm(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is one of several tasks of a Slurm step."""
    several = int(variables.get("SLURM_NTASKS", "1")) > 1
    return several and "SLURM_STEP_ID" in variables and "SLURM_PROCID" in variables
