"""The optimiser and its learning rate, which is a function of how far training has come."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class OptimiserSettings:
    """What is tuned about the optimiser; `conf/optim` says what each value means.

    `learning_rate` is the highest of the schedule, `lowest` a share of it, `warmup` the share of
    training spent rising to it. `clip_norm` 0 clips nothing, `ema_decay` 0 averages nothing.
    """

    name: str = "adamw"
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    schedule: str = "one_cycle"
    warmup: float = 0.1
    lowest: float = 0.01
    plateau_factor: float = 0.5
    plateau_patience: int = 3
    ema_decay: float = 0.998
    average_best: int = 0


# AdamW: Loshchilov and Hutter 2019; Adam (Kingma and Ba 2015) is its weight decay 0. NAdam: Dozat
# 2016, with AdamW's weight decay. SGD with the momentum of Nesterov (Sutskever et al. 2013).
OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "nadamw": functools.partial(torch.optim.NAdam, decoupled_weight_decay=True),
    "sgd": functools.partial(torch.optim.SGD, momentum=0.9, nesterov=True),
}


def build_optimiser(module: nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """The optimiser of a module's trainable parameters; gains and biases do not decay."""
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            (decaying if parameter.dim() > 1 else others).append(parameter)
    groups = [
        {"params": decaying, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return OPTIMISERS[settings.name](groups, lr=settings.learning_rate)


def rate(settings: OptimiserSettings, progress: float, history: Sequence[float]) -> float:
    """The learning rate of a step.

    A function of the position and of what validation has said: there is no state to restore, and
    a run may be given more epochs.

    Args:
        settings: which schedule, and how it is tuned.
        progress: share of the planned steps that are done once this one is.
        history: error rates on validation so far, the first one first.
    """
    warmup, lowest = settings.warmup, settings.lowest
    match settings.schedule:
        case "one_cycle":
            share = one_cycle(progress, warmup)
        case "cosine":
            share = one_cycle(progress, warmup, lowest)
        case "plateau":
            falls = plateaus(history, settings.plateau_patience)
            share = warmed(progress, warmup) * max(settings.plateau_factor**falls, lowest)
        case "constant":
            share = warmed(progress, warmup)
        case unknown:
            raise ValueError(f"no schedule is called {unknown!r}")
    return settings.learning_rate * share


def warmed(progress: float, warmup: float) -> float:
    """A straight line from 0 to 1 during `warmup`, then 1."""
    return progress / warmup if progress < warmup else 1.0


def one_cycle(progress: float, warmup: float, lowest: float = 0.0) -> float:
    """The share of the highest learning rate after a share of training.

    A straight line up during `warmup`, then half a cosine down to `lowest` (Smith and Topin 2019;
    Loshchilov and Hutter 2017).
    """
    if progress < warmup or warmup >= 1:
        return warmed(progress, warmup)
    fall = 0.5 * (1 + math.cos(math.pi * (min(progress, 1.0) - warmup) / (1 - warmup)))
    return lowest + (1 - lowest) * fall


def plateaus(history: Sequence[float], patience: int) -> int:
    """How often `patience` validations in a row brought no error rate below all before them.

    Waiting begins with the first rate below 1: until then CTC emits blanks only, which is no
    reason to learn more slowly.
    """
    found, waited, best = 0, 0, 1.0
    for error_rate in history:
        if error_rate < best:
            best, waited = error_rate, 0
        elif best < 1.0:
            waited += 1
        if waited == patience:
            found, waited = found + 1, 0
    return found
