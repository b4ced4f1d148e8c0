"""The files a run goes on from: their names, what is in them, and the newest that is whole."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from asr.files import explain_write_errors, write_atomically
from asr.training.module import CtcTraining, Position

KEPT = 3
DIGEST_SIZE = 16  # bytes behind torch's own, which does not notice a bit that has turned
VERSION = 1
_NAME = re.compile(r"epoch-(\d+)(?:-batch-(\d+))?\.ckpt")

State = dict[str, Any]


def name(position: Position) -> str:
    """`epoch-00012.ckpt` after 12 epochs; `epoch-00012-batch-0000340.ckpt` 340 batches later."""
    batch = f"-batch-{position.batch:07d}" if position.batch else ""
    return f"epoch-{position.epoch:05d}{batch}.ckpt"


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, newest first."""
    numbered = [
        (int(match[1]), int(match[2] or 0), path)
        for path in folder.glob("*.ckpt")
        if (match := _NAME.fullmatch(path.name))
    ]
    return [path for *_, path in sorted(numbered, reverse=True)]


def epochs_done(path: Path) -> int:
    """How many whole epochs a checkpoint comes after, by its name."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else 0


def newest_readable(folder: Path, warn: Callable[[str], None]) -> tuple[Path, State] | None:
    """The newest checkpoint that can be read; a torn one is passed over with a warning."""
    for path in checkpoints(folder):
        try:
            content = path.read_bytes()
            content, digest = content[:-DIGEST_SIZE], content[-DIGEST_SIZE:]
            if digest != _digest(content):
                raise ValueError("damaged")
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            if state["version"] != VERSION:
                raise ValueError(f"version {state['version']}")
        except Exception as error:  # noqa: BLE001 - whatever a torn file does to the reader
            warn(f"{path} cannot be read ({type(error).__name__}): passed over.")
        else:
            return path, state
    return None


def write(folder: Path, trainer: pl.Trainer, module: CtcTraining) -> Path:
    """Write where the run stands, and drop all but the newest few.

    What is random, the order of batches and the learning rate are functions of seed and position:
    they have no state of their own.

    Raises:
        UserError: it cannot be written; what was there before still is.
    """
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    optimiser = module.optimizers(use_pl_optimizer=False)
    assert isinstance(optimiser, torch.optim.Optimizer)
    state = {
        "version": VERSION,
        "position": asdict(module.position),
        "history": module.history,
        "weights": module.state_dict(),
        "optimiser": optimiser.state_dict(),
        "scaler": scaler.state_dict() if scaler is not None else None,
        "callbacks": _stateful(trainer),
    }
    content = io.BytesIO()  # torch's own writer hides why a file cannot be written
    torch.save(state, content)
    path = folder / name(module.position)
    with explain_write_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
    with write_atomically(path, "wb") as stream:
        stream.write(content.getbuffer())
        stream.write(_digest(content.getbuffer()))
    with explain_write_errors(folder):
        for old in checkpoints(folder)[KEPT:]:
            old.unlink(missing_ok=True)
    return path


def restore(state: State, trainer: pl.Trainer, module: CtcTraining) -> None:
    """Put everything back as it was; network and optimiser are on their device by now."""
    module.load_state_dict(state["weights"])
    optimiser = module.optimizers(use_pl_optimizer=False)
    assert isinstance(optimiser, torch.optim.Optimizer)
    optimiser.load_state_dict(state["optimiser"])
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is not None and state["scaler"]:
        scaler.load_state_dict(state["scaler"])
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if callback.state_key in state["callbacks"]:
            callback.load_state_dict(state["callbacks"][callback.state_key])
    module.position = Position(**state["position"])
    module.history = list(state["history"])
    # To Lightning the rest of an epoch is an epoch with fewer batches, and begins like any other.
    progress = trainer.fit_loop.epoch_progress.current
    progress.processed = progress.completed = module.position.epoch  # type: ignore[attr-defined]


def _digest(content: bytes | memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_SIZE).digest()


def _stateful(trainer: pl.Trainer) -> State:
    states = {each.state_key: each.state_dict() for each in trainer.callbacks}  # type: ignore[attr-defined]
    return {key: state for key, state in states.items() if state}
