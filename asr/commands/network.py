"""The network that settings ask for, without its head; needs neither data nor Lightning."""

from __future__ import annotations

import contextlib

import torch
from torch import nn

from asr import registry
from asr.commands.devices import memory_bytes
from asr.config import Config
from asr.errors import UserError

# A weight, its average, its gradient and the optimiser's two moments, in single precision.
TRAINING_BYTES = 5 * 4
# How torch says that it gets no memory, or that it cannot even count the bytes.
NO_MEMORY = ("can't allocate memory", "out of memory", "calculation overflowed")


def check_sizes(config: Config) -> None:
    """Find that nothing can be made of the settings before data is read for it.

    Raises:
        UserError: the sizes fit nothing; says why.
    """
    # On no device at all, which takes no memory; a model that looks at its weights while it is made
    # cannot be, and is made in its turn.
    with torch.device("meta"), contextlib.suppress(RuntimeError):
        _check_memory(build_encoder(config))
    if config.inner_ctc.weight:
        _check_inner(config.inner_ctc.layer, config.model.get("layers"))


def _check_memory(encoder: nn.Module) -> None:
    count = sum(parameter.numel() for parameter in encoder.parameters())
    needed, there = TRAINING_BYTES * count, memory_bytes()
    if there is not None and needed > there:
        raise UserError(
            f"model: {count / 1e6:,.0f} million weights take {needed / 1e9:,.0f} GB in training,"
            f" and this machine has {there / 1e9:,.0f} GB: make it smaller."
        )


def _check_inner(layer: int, layers: object) -> None:
    if not isinstance(layers, int):
        raise UserError(
            "inner_ctc.layer names one of model.layers, and this model has no such setting: "
            "say inner_ctc.weight=0 for no inner CTC."
        )
    if layer > layers:
        raise UserError(
            f"inner_ctc.layer={layer} is more than model.layers={layers}: "
            f"say inner_ctc.layer={layers}, or inner_ctc.weight=0 for no inner CTC."
        )


def build_encoder(config: Config) -> nn.Module:
    """The network but for its head.

    Raises:
        UserError: nothing can be made of these sizes; says why.
    """
    arguments = dict(config.model)
    component = registry.find("models", str(arguments.pop("name")))
    try:
        encoder: nn.Module = component(input_size=config.features.mel_bins, **arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"model: {error}.") from None
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(sign in str(error) for sign in NO_MEMORY):
            raise
        sizes = ", ".join(f"{name}={value}" for name, value in arguments.items())
        raise UserError(
            f"model: there is no memory here for {sizes}: make it smaller, or end what else runs."
        ) from None
    return encoder
