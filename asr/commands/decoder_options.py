"""The options of `asr transcribe` that say how to decode: found wrong before a model is loaded."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from asr import registry
from asr.decoding.lexicon import Lexicon
from asr.decoding.settings import FILES, combined
from asr.errors import UserError

NAMED = 3  # entries that are left out of a lexicon, in a message
# Settings of decoders that are options as well, as errors name them. A path is no setting.
_SETTING = re.compile(r"(?<![\w./-])decoder(?:\.(lm|alpha|beta|lexicon|hotwords|nbest)\b)?(=|\b)")


def check(given: Mapping[str, Any], own: Mapping[str, Any], formats: Sequence[str]) -> None:
    """Find what cannot be, and what would change nothing.

    Args:
        given: the decoder's settings that stand on the command line.
        own: those of the model.
        formats: what is written or printed.

    Raises:
        UserError: an option's value makes no sense, or it has no effect beside the others.
    """
    name = given.get("name")
    if name is not None and name not in registry.names("decoders"):
        registry.find("decoders", name)  # which offers the nearest
    for key in (key for key in given if key != "name" and name == "greedy"):
        raise UserError(f"--{key} is not for --decoder greedy: leave one of them out.")
    for key in ("alpha", "beta"):
        if not math.isfinite(given.get(key, 0.0)):
            raise UserError(f"--{key} {given[key]}: a number is needed.")
    if given.get("alpha", 0.0) < 0:
        raise UserError(f"--alpha {given['alpha']:g}: 0 or more is needed.")
    if given.get("nbest", 1) < 1:
        raise UserError(f"--nbest {given['nbest']}: at least 1 is needed.")
    if "nbest" in given and "json" not in formats:
        raise UserError(
            f"--nbest {given['nbest']} is for JSON: give --json, or --format with json."
        )
    for key in FILES:
        if key in given and not os.path.exists(given[key]):
            raise UserError(f"--{key} {given[key]}: there is no such file.")
    if "alpha" in given and combined(own, given).get("lm") is None:
        raise UserError(f"--alpha {given['alpha']:g} weighs a language model: give one with --lm.")


def as_options(message: str) -> str:
    """An error of a decoder with options in the place of its settings."""
    return _SETTING.sub(_option, message)


def _option(found: re.Match[str]) -> str:
    setting, equals = found.groups()
    if not setting and not equals:  # the word by itself
        return found[0]
    return f"--{setting or 'decoder'}{' ' if equals else ''}"


def left_out(lexicon: str, normaliser: str) -> str | None:
    """A line on the entries of a lexicon that nothing can be heard as; None where there are none.

    Raises:
        UserError: the file cannot be read, or holds no word.
    """
    entries = Lexicon.read(lexicon, normaliser).left_out
    if not entries:
        return None
    some = ", ".join(f"{entry.word!r} (line {entry.line})" for entry in entries[:NAMED])
    more = ", …" if len(entries) > NAMED else ""
    return (
        f"{lexicon}: {len(entries)} left out, since texts write them as several words or none:"
        f" {some}{more}"
    )
