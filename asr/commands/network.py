"""The network that settings ask for, without its head; needs neither data nor Lightning."""

from __future__ import annotations

from torch import nn

from asr import registry
from asr.config import Config
from asr.errors import UserError


def check_sizes(config: Config) -> None:
    """Find that nothing can be made of the settings before data is read for it.

    Raises:
        UserError: the sizes fit nothing; says why.
    """
    build_encoder(config)
    inner, layers = config.inner_ctc, int(config.model["layers"])
    if inner.weight and inner.layer > layers:
        raise UserError(
            f"inner_ctc.layer={inner.layer} is more than model.layers={layers}: "
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
    return encoder
