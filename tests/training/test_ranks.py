"""What the processes of a run tell each other, and how they part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed

from asr.training.ranks import gathered, part, summed


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A group of processes, this one alone."""
    distributed.init_process_group("gloo", f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()


def serving() -> list[str]:
    """Threads that serve the connections."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads threads' names from /proc")
def test_no_thread_serves_a_connection_when_the_ranks_have_parted(group: None) -> None:
    assert summed([1.5], torch.device("cpu")) == [1.5]
    assert gathered("one") == ["one"]
    assert serving()
    part()
    assert not serving()


def test_a_process_alone_has_none_to_part_from() -> None:
    part()
    assert gathered(3) == [3]
