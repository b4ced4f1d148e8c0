"""Which decoder a command uses, and with which settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asr.config import Config
from asr.decoding.settings import FILES, digested

# What asr evaluate is to do with a decoder: no settings of its own.
DONE_WITH_IT = ("tune", "calibrate", "keep")
OWN = "own"  # the name that stands for the model's decoder, with all its settings
WEIGHTS = ("alpha", "beta")
CALIBRATION = "calibration"


def settings_of(config: Config) -> dict[str, Any]:
    """The name and the arguments of the decoder that was asked for.

    A calibration that there is not is left out: what is stored without one stays as it always was.
    """
    return {
        key: value
        for key, value in config.decoder.items()
        if key not in DONE_WITH_IT and not (key == CALIBRATION and value is None)
    }


def label(settings: Mapping[str, Any]) -> str:
    """What its results are called: its name, and those of its files without folder and ending."""
    files = [settings[key] for key in FILES if isinstance(settings.get(key), str)]
    names = [Path(file.removesuffix(".gz")).stem for file in files]
    return "-".join([settings["name"], *(re.sub(r"[^\w.+-]", "_", name) for name in names)])


def asked_to(config: Config, what: str) -> bool:
    """Whether the decoder is to be tuned, calibrated, or kept."""
    return bool(config.decoder.get(what))


def is_of(config: Config, stamped: dict[str, Any]) -> bool:
    """Whether an evaluation with those digested settings is of the decoder that was asked for.

    What the model's own settings are, `OWN` does not say: that is for whoever looks where it lies.
    """
    if config.decoder["name"] == OWN:
        return True
    left_out = set(WEIGHTS if asked_to(config, "tune") else ())
    left_out |= {CALIBRATION} if asked_to(config, "calibrate") else set()
    asked = digested(settings_of(config))
    return all(stamped.get(key) == asked.get(key) for key in {*stamped, *asked} - left_out)
