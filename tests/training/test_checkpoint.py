"""Which checkpoint a run goes on from."""

from __future__ import annotations

from pathlib import Path

import torch

from asr.training.checkpoint import StoppedError, checkpoints, newest_readable


def test_the_newest_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    for epoch in (2, 10, 9):
        torch.save({"epoch": epoch}, tmp_path / f"epoch-{epoch:05d}.ckpt")
    (tmp_path / "epoch-00011.ckpt").write_bytes(b"torn")
    (tmp_path / "other.ckpt").write_bytes(b"")
    warnings: list[str] = []
    names = [path.name for path in checkpoints(tmp_path)]
    assert names == [f"epoch-000{number}.ckpt" for number in ("11", "10", "09", "02")]
    assert newest_readable(tmp_path, warnings.append) == tmp_path / "epoch-00010.ckpt"
    assert len(warnings) == 1
    assert "epoch-00011.ckpt cannot be read" in warnings[0]


def test_a_checkpoint_that_names_code_is_not_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return print, ("run",)

    torch.save({"evil": Evil()}, tmp_path / "epoch-00001.ckpt")
    warnings: list[str] = []
    assert newest_readable(tmp_path, warnings.append) is None
    assert len(warnings) == 1


def test_no_folder_holds_no_checkpoint(tmp_path: Path) -> None:
    assert newest_readable(tmp_path / "none", print) is None


def test_signals_have_their_exit_status() -> None:
    assert StoppedError(2).status == 130
    assert StoppedError(15).status == 143
    assert str(StoppedError(15)) == "SIGTERM"
