"""What a command computes on."""

from __future__ import annotations

import os

from asr.errors import UserError


def choose_device(accelerator: str = "auto", count: int = 1) -> str:
    """`cuda` where torch finds a GPU and `accelerator` is not `cpu`, else `cpu`.

    Raises:
        UserError: `accelerator` is `gpu`, and there is none; or there are fewer than `count`.
    """
    import torch

    found = torch.cuda.is_available()
    if accelerator == "gpu" and not found:
        raise UserError("trainer.accelerator=gpu: torch finds no GPU here. Try asr doctor.")
    if found and accelerator != "cpu" and count > torch.cuda.device_count():
        raise UserError(
            f"trainer.devices={count}: torch finds {torch.cuda.device_count()} GPUs here."
        )
    return "cuda" if found and accelerator != "cpu" else "cpu"


def memory_bytes() -> int | None:
    """Memory of the machine, where the system tells."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None
