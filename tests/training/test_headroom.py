"""What is left of memory and disk: asked of the system, and held by it."""

from __future__ import annotations

import errno
import mmap
import os
import re
import resource
import shutil
import tempfile
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from asr.errors import UserError
from asr.training import headroom
from asr.training.headroom import available_bytes, check_disk, memory_limit

Usage = namedtuple("Usage", "total used free")


def group(folder: Path, most: str, used: int, files: tuple[int, int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(
        f"anon 5\nfile 9999\nactive_file {files[0]}\ninactive_file {files[1]}\nslab 7\n"
    )


def test_all_but_a_tenth_of_the_machines_memory_may_be_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(headroom, "CGROUPS", tmp_path)
    told = re.search(r"MemAvailable:\s*(\d+)", Path("/proc/meminfo").read_text())
    assert told is not None
    assert available_bytes() == pytest.approx(0.9 * 1024 * int(told[1]), rel=0.05)


def test_a_control_groups_limit_counts_and_what_it_has_read_of_files_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(headroom, "CGROUPS", tmp_path)
    group(tmp_path, "50000000", 30_000_000, (4_000_000, 6_000_000))
    assert available_bytes() == 27_000_000
    group(tmp_path, "max", 30_000_000, (0, 0))
    assert (available_bytes() or 0) > 100_000_000
    group(tmp_path, "50000000", 60_000_000, (0, 0))
    assert available_bytes() == 0


def test_memory_beyond_the_limit_is_an_error_in_the_block_alone() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)

    def take(count: int) -> None:  # of the system: malloc may have as much left over
        mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()

    with memory_limit(100_000_000):
        take(50_000_000)
        with pytest.raises(OSError, match="Cannot allocate memory"):
            take(400_000_000)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    with memory_limit(None):
        take(400_000_000)


def test_a_limit_that_is_there_already_is_not_widened() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    with memory_limit(100_000_000):
        narrow = resource.getrlimit(resource.RLIMIT_DATA)
        with memory_limit(10**15):
            assert resource.getrlimit(resource.RLIMIT_DATA) == narrow
        assert narrow[0] not in (soft, resource.RLIM_INFINITY)
    assert resource.getrlimit(resource.RLIMIT_DATA) == (soft, hard)


def free(monkeypatch: pytest.MonkeyPatch, count: int, asked: list[Path]) -> None:
    def usage(path: Path) -> Usage:
        asked.append(path)
        return Usage(10**12, 10**12 - count, count)

    monkeypatch.setattr(shutil, "disk_usage", usage)


def test_too_little_free_disk_is_told_with_its_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Path] = []
    free(monkeypatch, 200_000_000, asked)
    folder = tmp_path / "runs/an4/base"
    assert check_disk(folder, 200_000_000) == 200_000_000
    with pytest.raises(UserError) as caught:
        check_disk(folder, 300_000_000)
    assert f"{folder} will take another 300 MB, and 200 MB are free" in str(caught.value)
    assert asked == [tmp_path, tmp_path]
    assert list(tmp_path.iterdir()) == []


def test_what_a_run_has_written_already_is_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    free(monkeypatch, 1_000_000, [])
    for name in ("checkpoints/epoch-00001.ckpt", "checkpoints/best/a.safetensors", "model/weights"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(100_000))
    (tmp_path / "tensorboard").write_bytes(bytes(500_000))
    assert check_disk(tmp_path, 1_300_000) == 1_000_000
    with pytest.raises(UserError, match="another 1 MB"):
        check_disk(tmp_path, 1_300_001)


def test_a_place_where_nothing_can_be_written_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UserError, match=r"Cannot write .*runs/an4/base: Not a directory"):
        check_disk(tmp_path / "runs/an4/base", 1)

    def refused(dir: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    with pytest.raises(UserError, match="Read-only file system") as caught:
        check_disk(tmp_path / "elsewhere", 1)
    assert "\n" not in str(caught.value)
