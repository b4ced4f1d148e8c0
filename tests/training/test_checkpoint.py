"""Which checkpoint a run goes on from."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import torch

from asr.training.checkpoint import checkpoints, name, newest_readable
from asr.training.module import Position


def save(state: dict[str, object], path: Path) -> None:
    content = io.BytesIO()
    torch.save(state, content)
    digest = hashlib.blake2b(content.getvalue(), digest_size=16).digest()
    path.write_bytes(content.getvalue() + digest)


def test_the_newest_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    whole = [Position(2), Position(9), Position(9, 30), Position(9, 4)]
    for position in whole:
        save({"version": 1, "at": position.batch}, tmp_path / name(position))
    (tmp_path / "epoch-00010.ckpt").write_bytes(b"torn")
    save({"version": 0}, tmp_path / "epoch-00011.ckpt")
    (tmp_path / "other.ckpt").write_bytes(b"")
    names = [path.name for path in checkpoints(tmp_path)]
    assert names == [
        "epoch-00011.ckpt",
        "epoch-00010.ckpt",
        "epoch-00009-batch-0000030.ckpt",
        "epoch-00009-batch-0000004.ckpt",
        "epoch-00009.ckpt",
        "epoch-00002.ckpt",
    ]
    warnings: list[str] = []
    found = newest_readable(tmp_path, warnings.append)
    assert found == (tmp_path / "epoch-00009-batch-0000030.ckpt", {"version": 1, "at": 30})
    assert len(warnings) == 2
    assert "epoch-00010.ckpt cannot be read" in warnings[1]


def test_a_checkpoint_with_one_bit_turned_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "epoch-00001.ckpt"
    save({"version": 1, "weights": torch.zeros(10_000)}, path)
    assert newest_readable(tmp_path, print) is not None
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    warnings: list[str] = []
    assert newest_readable(tmp_path, warnings.append) is None
    assert len(warnings) == 1


def test_a_checkpoint_that_names_code_is_not_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return print, ("run",)

    save({"version": 1, "evil": Evil()}, tmp_path / "epoch-00001.ckpt")
    warnings: list[str] = []
    assert newest_readable(tmp_path, warnings.append) is None
    assert len(warnings) == 1


def test_no_folder_holds_no_checkpoint(tmp_path: Path) -> None:
    assert newest_readable(tmp_path / "none", print) is None
