"""Variants of a layer timed in turns, training and inference, in full and in half precision."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from asr.features import length_mask

# Frames [B, T, F] and lengths [B] to outputs [B, T, H].
Forward = Callable[[Tensor, Tensor], Tensor]

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# How far outputs in [-1, 1] of two exact variants may lie apart.
TOLERANCE = {"fp32": 1e-5, "fp16": 1e-2, "bf16": 1e-1}


@dataclass(frozen=True)
class Shape:
    """Sizes of a layer and its batch."""

    batch: int
    frames: int
    input_size: int
    hidden: int


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one variant: median and minimum of the turns.

    `error` is how far its outputs lie from those of the variant that it should agree with, padding
    left out; None where there is no such variant, or the machine cannot compute it.
    """

    variant: str
    lengths: str
    dtype: str
    hidden: int
    error: float | None
    train_ms: float
    train_min_ms: float
    infer_ms: float
    infer_min_ms: float


@dataclass(frozen=True)
class Unable:
    """A variant that this machine cannot compute in half precision, and what torch says to it."""

    variant: str
    lengths: str
    dtype: str
    hidden: int
    reason: str


def seconds_of(call: Callable[[], object], steps: int, device: torch.device) -> float:
    """The mean time of one of `steps` calls."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = clock()
    for _ in range(steps):
        call()
    if device.type == "cuda":  # whose work goes on after the call has returned
        torch.cuda.synchronize(device)
    return (clock() - began) / steps


def measure(
    forward: dict[str, Forward],
    twins: dict[str, str],
    shape: Shape,
    equal: bool,
    device: torch.device,
    dtype: str,
    turns: int,
    steps: int,
) -> list[Timing | Unable]:
    """Time every variant on one batch; `twins` says which other one's outputs a variant has.

    Raises:
        RuntimeError: it has others, or cannot be computed in fp32.
    """
    shortest = shape.frames if equal else shape.frames // 2
    lengths = torch.linspace(shape.frames, shortest, shape.batch).long().to(device)
    size = (shape.batch, shape.frames, shape.input_size)
    frames = torch.randn(size, device=device, dtype=DTYPES[dtype], requires_grad=True)  # [B, T, F]
    mask = length_mask(lengths, shape.frames)[:, :, None]  # [B, T, 1]

    def train(name: str) -> None:
        (forward[name](frames, lengths) * mask).sum().backward()

    def infer(name: str) -> Tensor:
        with torch.inference_mode():
            return forward[name](frames, lengths)

    outputs: dict[str, Tensor] = {}
    unable: dict[str, str] = {}
    for name in forward:
        try:
            train(name)
            outputs[name] = (infer(name) * mask).detach()
        except RuntimeError as error:
            # Every machine can do fp32, and too little memory is no matter of the dtype.
            if dtype == "fp32" or isinstance(error, torch.OutOfMemoryError):
                raise
            unable[name] = str(error)
    errors: dict[str, float] = {}
    for name, twin in twins.items():
        if name in unable or twin in unable:
            continue
        errors[name] = float((outputs[name] - outputs[twin]).abs().max())
        leaks = name == "unpacked" and not equal
        if not (errors[name] <= TOLERANCE[dtype] or leaks):  # nor may it be no number
            raise RuntimeError(f"{name} and {twin} are {errors[name]:.2g} apart at {shape}")

    taken: dict[str, list[float]] = {}
    for turn in range(turns + 1):
        for name in outputs:
            for task, call in (("train", train), ("infer", infer)):
                seconds = seconds_of(lambda c=call, n=name: c(n), steps, device)  # type: ignore[misc]
                if turn > 0:  # the first sets libraries up
                    taken.setdefault(name + task, []).append(1000 * seconds)

    def row(name: str) -> Timing | Unable:
        batch = (name, "equal" if equal else "mixed", dtype, shape.hidden)
        if name in unable:
            return Unable(*batch, reason=unable[name])
        train_ms, infer_ms = taken[name + "train"], taken[name + "infer"]
        return Timing(
            *batch,
            error=errors.get(name),
            train_ms=statistics.median(train_ms),
            train_min_ms=min(train_ms),
            infer_ms=statistics.median(infer_ms),
            infer_min_ms=min(infer_ms),
        )

    return [row(name) for name in forward]
