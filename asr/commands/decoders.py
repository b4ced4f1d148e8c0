"""Which decoder a command uses, and with which settings."""

from __future__ import annotations

from typing import Any

from asr.config import Config
from asr.decoding.settings import digested

# What asr evaluate is to do with a decoder: no settings of its own.
DONE_WITH_IT = ("tune", "calibrate", "keep")
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


def asked_to(config: Config, what: str) -> bool:
    """Whether the decoder is to be tuned, calibrated, or kept."""
    return bool(config.decoder.get(what))


def is_of(config: Config, stamped: dict[str, Any]) -> bool:
    """Whether an evaluation with those digested settings is of the decoder that was asked for."""
    left_out = set(WEIGHTS if asked_to(config, "tune") else ())
    left_out |= {CALIBRATION} if asked_to(config, "calibrate") else set()
    asked = digested(settings_of(config))
    return all(stamped.get(key) == asked.get(key) for key in {*stamped, *asked} - left_out)
