"""The optimiser, its schedule and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class OptimiserSettings:
    """What is tuned about the optimiser.

    `learning_rate` is the highest of the one-cycle schedule, `warmup` the share of training spent
    rising to it; `clip_norm` 0 clips nothing, `ema_decay` 0 averages nothing.
    """

    learning_rate: float = 1.5e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip_norm: float = 1.0
    ema_decay: float = 0.998


def build_adamw(module: nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019); gains and biases do not decay."""
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            (decaying if parameter.dim() > 1 else others).append(parameter)
    groups = [
        {"params": decaying, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def one_cycle(progress: float, warmup: float) -> float:
    """The share of the highest learning rate after a share of training (Smith and Topin 2019).

    A straight line up during `warmup`, then half a cosine down to 0. A function of the position
    alone: there is no state to restore, and a run may be given more epochs.
    """
    if progress < warmup:
        return progress / warmup
    if warmup >= 1:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (min(progress, 1.0) - warmup) / (1 - warmup)))


@torch.no_grad()
def update_average(
    average: Iterable[Tensor], current: Iterable[Tensor], decay: float, step: int
) -> None:
    """Move an exponential moving average towards the current weights, faster in the first steps.

    `step` counts from 1. The decay is min(decay, step / (10 + step)): the start is forgotten.
    """
    bounded = min(decay, step / (10 + step))
    torch._foreach_lerp_(list(average), list(current), 1 - bounded)
