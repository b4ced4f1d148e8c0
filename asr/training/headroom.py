"""What is left of memory and disk, and that a run has enough of it."""

from __future__ import annotations

import contextlib
import re
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from torch import nn

from asr.errors import UserError
from asr.training.checkpoint import KEPT
from asr.training.module import CtcTraining

CGROUPS = Path("/sys/fs/cgroup")
OTHERS = 0.1


def available_bytes() -> int | None:
    """Memory that Linux has left for this process, but for what others may take meanwhile.

    None where the system does not tell.
    """
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    of_machine = re.search(r"^MemAvailable:\s*(\d+) kB$", meminfo.read_text(), re.M)
    amounts = [int(of_machine[1]) * 1024] if of_machine else []
    least = min([*amounts, *_left_in_groups()], default=None)
    return None if least is None else round((1 - OTHERS) * least)


def _left_in_groups() -> Iterator[int]:
    """By each limit of a control group (version 2) that this process is in."""
    own = re.search(r"^0::/(.*)$", Path("/proc/self/cgroup").read_text(), re.M)
    group = CGROUPS / (own[1] if own else "")
    for folder in (group, *group.parents):
        try:
            most = (folder / "memory.max").read_text().strip()
            used = int((folder / "memory.current").read_text())
            counted = (folder / "memory.stat").read_text()
        except OSError:
            continue
        if most != "max":
            # What was read of files counts as used, and is the first to go.
            files = re.findall(r"^(?:in)?active_file (\d+)$", counted, re.M)
            yield max(0, int(most) - used + sum(map(int, files)))


@contextlib.contextmanager
def memory_limit(more_bytes: int | None) -> Iterator[None]:
    """In the block, memory beyond so many bytes more than now is an error; None: no limit.

    Without it Linux gives away memory that is not there, and kills the process that uses it.
    """
    status = Path("/proc/self/status")
    held = status.exists() and re.search(r"^VmData:\s*(\d+) kB$", status.read_text(), re.M)
    if more_bytes is None or not held:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [int(held[1]) * 1024 + more_bytes, soft, hard]
    least = min(limit for limit in limits if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (least, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def bytes_to_keep(module: CtcTraining, average_best: int) -> int:
    """What the checkpoints and the model of a run take, a new one beside those it replaces."""
    weights = _bytes(module.network)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    moments = 2 * sum(parameter.numel() * parameter.element_size() for parameter in trained)
    checkpoint = _bytes(module) + moments
    models = 2 + (average_best + 1 if average_best else 0)
    return (KEPT + 1) * checkpoint + models * weights


def _is_whole(path: Path) -> bool:
    return path.is_file() and path.suffix != ".partial"  # which a killed process has left


def _bytes(module: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())


def check_disk(folder: Path, needed_bytes: int) -> int:
    """Find that so much can be written into a run's folder, which need not be there yet.

    What a run that goes on has written of it counts as written.

    Returns:
        Free bytes on its disk.

    Raises:
        UserError: nothing can be written there, or not as much.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):  # tried: permissions alone do not tell
            pass
    except OSError as error:
        raise UserError(
            f"Cannot write {folder}: {error.strerror} ({there})."
            " Choose a folder that can be written."
        ) from None
    files = [path for part in ("checkpoints", "model") for path in (folder / part).rglob("*")]
    needed_bytes -= sum(path.stat().st_size for path in files if _is_whole(path))
    free = shutil.disk_usage(there).free
    if free < needed_bytes:
        raise UserError(
            f"Checkpoints and model of {folder} will take another {needed_bytes / 1e6:,.0f} MB, and"
            f" {free / 1e6:,.0f} MB are free there: make room, or make the model smaller."
        )
    return free
