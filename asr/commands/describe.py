"""`asr describe`: what a model is, what it was trained on, and what it scored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from asr.description import check_model, pipeline_name
from asr.units.characters import SPACE, CharacterUnits

if TYPE_CHECKING:
    from asr.bundle import Bundle
    from asr.units.symbols import Units

CALLED = {"sentencepiece": "pieces of words", "words": "words", "phones": "phones, no words"}


def describe(model: str, as_json: bool) -> int:
    """Print what the model in a folder is, or one of torchaudio's; 0. Nothing is downloaded.

    Raises:
        UserError: the folder holds no model, or a damaged one, or torchaudio has none of that name.
    """
    check_model(model)  # a wrong name costs no second of loading torch

    from asr.pipelines import open_model, outline

    bundle = open_model(model) if pipeline_name(model) is None else outline(model)
    if as_json:
        print(json.dumps(description(model, bundle), ensure_ascii=False, indent=2, default=str))
        return 0
    console = Console(highlight=False)
    console.print(_facts(bundle, model))
    if bundle.scores:
        console.print(_scores(bundle.scores, bundle.units.rate_name))
    return 0


def description(model: str, bundle: Bundle) -> dict[str, Any]:
    """A model as a program reads it; without a digest where its weights were not read."""
    return {
        "folder": model,
        "digest": None if bundle.device.type == "meta" else bundle.digest,
        "parameters": sum(parameter.numel() for parameter in bundle.network.parameters()),
        "seconds_per_frame": bundle.seconds_per_frame,
        "model": bundle.model,
        "features": bundle.features.settings(),
        "unit_kind": bundle.units.kind,
        "units": list(bundle.units.symbols),
        "normaliser": bundle.normaliser,
        "decoder": bundle.decoder,
        "trained": bundle.trained,
        "scores": bundle.scores,
    }


def _facts(bundle: Bundle, model: str) -> Table:
    about = description(model, bundle)
    table = Table(title=escape(model), title_justify="left", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    size_mb = about["parameters"] * 4 / 1e6
    table.add_row("model", f"{_settings(bundle.model)}")
    table.add_row("size", f"{about['parameters']:,} parameters, {size_mb:.1f} MB")
    table.add_row("features", _settings(about["features"]))
    table.add_row("frame", f"{about['seconds_per_frame'] * 1000:g} ms of emissions")
    table.add_row("units", escape(_units(bundle.units)))
    table.add_row("normaliser", escape(bundle.normaliser))
    table.add_row("decoder", _settings(bundle.decoder))
    if about["digest"] is not None:
        table.add_row("digest", about["digest"])
    if bundle.trained:
        table.add_section()
    for key, value in bundle.trained.items():
        table.add_row(escape(f"trained: {key}".replace("_", " ")), _value(value))
    return table


def _scores(scores: Sequence[Mapping[str, Any]], rate_name: str) -> Table:
    """A row for each score; `--json` has all that is kept of it."""
    in_words = rate_name == "wer"
    rates = [f"{rate_name.upper()}, %", "95 %", *(["CER, %"] if in_words else [])]
    counted = "words" if in_words else "phones"
    table = Table(title="Scores", title_justify="left")
    for column in ("recipe", "split", "decoder", *rates, counted):
        table.add_column(column, no_wrap=True)
    for score in scores:
        low, high = score.get(f"{rate_name}_ci95") or (None, None)
        interval = f"{_percent(low)} – {_percent(high)}" if low is not None else ""
        named = [escape(str(score.get(key, ""))) for key in ("recipe", "split", "decoder")]
        found = [_percent(score.get(rate_name)), interval, _percent(score.get("cer"))]
        table.add_row(*named, *found[: len(rates)], str(score.get(counted, "")))
    return table


def _percent(rate: float | None) -> str:
    return "" if rate is None else f"{100 * rate:.1f}"


def _units(units: Units) -> str:
    """The units in a few words: what they are, and how many."""
    symbols = units.symbols
    if not isinstance(units, CharacterUnits):
        some = ", ".join(symbols[1:6]) + (" …" if len(symbols) > 6 else "")
        return f"{len(symbols)}: blank, {CALLED[units.kind]} ({some})"
    characters = [symbol for symbol in symbols[1:] if len(symbol) == 1 and symbol != SPACE]
    words = [symbol for symbol in symbols[1:] if len(symbol) > 1]
    shown = f"{len(symbols)}: blank, space, characters {''.join(characters)}"
    return f"{shown}, and {len(words)} whole words ({', '.join(words[:5])} …)" if words else shown


def _settings(settings: Mapping[str, Any]) -> str:
    """A component's name, then its settings."""
    name = [str(settings["name"])] if "name" in settings else []
    rest = [f"{key} {value}" for key, value in settings.items() if key != "name"]
    return escape(", ".join(name + rest))


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return escape(", ".join(f"{key} {inner}" for key, inner in value.items()))
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return escape(", ".join(_value(inner) for inner in value))
    return "" if value is None else escape(str(value))
