"""Training that begins with another model's weights instead of random ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from asr.config import Config
from asr.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from asr.bundle import Bundle


def initial_bundle(config: Config) -> Bundle | None:
    """The bundle `init`, whose units and features the training takes over with its weights.

    Raises:
        UserError: there is none, or the settings ask for other units or features.
    """
    if config.init is None:
        return None
    from asr.bundle import load

    bundle = load(config.init)
    if config.units.kind != bundle.units.kind:
        raise UserError(
            f"init={config.init} has the units {bundle.units.kind}, and units.kind is"
            f" {config.units.kind}: say units.kind={bundle.units.kind}."
        )
    mine = {**asdict(config.features)}
    del mine["name"]
    theirs = {key: getattr(bundle.features, key) for key in mine}
    if differing := _differing("features", mine, theirs):
        raise UserError(f"init={config.init} hears with other features: {differing}.")
    return bundle


def lineage(trained: Mapping[str, Any]) -> dict[str, Any]:
    """Of what a bundle was trained on: recipe, run, corpus and splits, and `init` before it."""
    return {
        key: trained[key] for key in ("recipe", "run", "corpus", "splits", "init") if key in trained
    }


def take_over(network: nn.Module, config: Config, bundle: Bundle) -> None:
    """Put a bundle's weights into a network.

    Raises:
        UserError: they do not fit.
    """
    try:
        network.load_state_dict(bundle.network.state_dict())
    except RuntimeError:
        theirs = {key: bundle.model[key] for key in config.model if key in bundle.model}
        differing = _differing("model", dict(config.model), theirs)
        raise UserError(
            f"The weights of init={config.init} do not fit: {differing or 'other weights'}."
        ) from None


def freeze(network: nn.Module, prefixes: list[str]) -> None:
    """Keep the weights as they are whose names begin so, as `encoder.layers.0`.

    Raises:
        UserError: a prefix is no weight's, or nothing is left to train.
    """
    names = [name for name, _ in network.named_parameters()]
    for prefix in prefixes:
        frozen = [name for name in names if f"{name}.".startswith(f"{prefix}.")]
        if not frozen:
            heads = sorted({".".join(name.split(".")[:3]) for name in names})
            raise UserError(
                f"freeze: no weight's name begins with {prefix!r}. Known: {', '.join(heads)}."
            )
        for name in frozen:
            network.get_parameter(name).requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UserError("freeze leaves nothing to train.")


def _differing(section: str, mine: dict[str, object], theirs: dict[str, object]) -> str:
    return ", ".join(
        f"{section}.{key} ({theirs[key]} there, {mine[key]} here)"
        for key in mine
        if key in theirs and mine[key] != theirs[key]
    )
